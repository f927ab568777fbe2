"""The page: what was reproduced, how well, and what was not and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.page import document
from edgewise.reporting.tables import data_table, facts, num
from edgewise.reproduce.figures import by_size, legend, roc
from edgewise.reproduce.published import TABLES
from edgewise.reproduce.results import ENOUGH, Results, name_of
from edgewise.reproduce.sections import gates, highlights, sizes, truth
from edgewise.tables import count, seconds

Draw = Callable[[Results, str, str, str], Markup | None]


def page(results: Results) -> str:
    """The whole HTML document; it needs no other file."""
    body = el(
        "article",
        el("h1", "The ACDC paper, reproduced"),
        el("p", "Conmy et al. 2023, arXiv 2304.14997: ACDC, SP and HISP", class_="subtitle"),
        el("p", verdict(results), class_="verdict"),
        *(el("p", f"Note: {note}", class_="note") for note in _notes(results)),
        *(_areas(results, ablation) for ablation in TABLES),
        _section("Figure 3: ROC curves of edges", _rocs(results)),
        truth(results),
        gates(results),
        _section("Figure 4: the metric against the size of circuits", _sizes(results)),
        sizes(results),
        highlights(results),
        _made(results),
    )
    return document("The ACDC paper, reproduced", None, [body])


def verdict(results: Results) -> str:
    """What the tables come to, in a sentence or two."""
    rows = results.areas()
    ours = [row for row in rows if row["ours"]]
    text = f"{len(ours)} of the {len(rows)} entries of Tables 2 and 3 could be computed here"
    if not ours:
        return f"{text}."
    same = [r for r in ours if _agrees(r)]
    text += f"; {len(same)} equal the published areas of edges and nodes to three digits. "
    zero = [r for r in ours if (r["method"], r["ablation"]) == ("acdc", "zero")]
    perfect = [r for r in zero if r["task"].startswith("tracr") and r["ours"]["edge_auc"] == 1]
    if perfect:
        names = " and ".join(sorted({r["task"] for r in perfect}))
        text += f"ACDC with zero activations recovers the paper's circuits of {names} perfectly, "
        text += "as published. "
    return f"{text}{_smallest(results)}".strip()


def _smallest(results: Results) -> str:
    """How often ACDC needs the fewest edges on language tasks; nothing if none was run."""
    sizes = [
        results.sufficient(s, metric, ablation)
        for s in results.subjects()
        for metric, ablation in product(s["metrics"], s["ablations"])
        if s["metrics"] != ["l2"]
    ]
    asked = [found for found in sizes if {"acdc", "sp", "hisp"} <= found.keys()]
    if not asked:
        return ""
    best = [
        found
        for found in asked
        if found["acdc"] is not None
        and all(n is None or found["acdc"] < n for m, n in found.items() if m != "acdc")
    ]
    return (
        f"Of the circuits that keep {100 * ENOUGH:.0f} % of the effect on held-out prompts, ACDC's "
        f"are the smallest in {len(best)} of {len(asked)} problems of language."
    )


def _agrees(row: Mapping[str, Any]) -> bool:
    areas = ("edge_auc", "node_auc")
    return all(round(row["ours"][area], 3) == row[area] for area in areas)


def _notes(results: Results) -> list[str]:
    notes = [f"{name}: not here. {reason}" for name, reason in results.refused.items()]
    if results.left:
        notes.append(
            f"{count(len(results.left), 'cell')} not begun in the time given, the first "
            f"{results.left[0]}. The same command goes on."
        )
    return notes


def _section(title: str, *children: Markup | None) -> Markup:
    return el("section", el("h3", title), *children)


def _areas(results: Results, ablation: str) -> Markup:
    columns = [("task", ""), ("metric", ""), ("method", ""), ("edges, here", "num")]
    columns += [("paper", "num"), ("nodes, here", "num"), ("paper", "num"), ("circuits", "num")]
    columns += [("prompts", "num"), ("the published number", "")]
    there = [row for row in results.areas() if row["ablation"] == ablation]
    there.sort(key=lambda row: row["ours"] is None)  # first what was computed
    rows = [_area_row(row) for row in there]
    note = "Pessimistic AUC against the paper's circuit, nodes as its code counted them. Prompts: "
    note += "those of discovery, seed 0; SP with seed 0. HISP as it was run (the code's reading). "
    note += "The last column says which published numbers not to target, and why."
    title = f"{TABLES[ablation]}: AUC, {ablation} activations"
    return _section(title, el("p", note, class_="note"), data_table(columns, rows))


def _area_row(row: Mapping[str, Any]) -> Markup:
    ours, about = row["ours"], row["about"]
    cells = [num(None)] * 4
    if ours:
        cells = [
            num(ours["edge_auc"], f"{ours['edge_auc']:.3f}"),
            num(ours["node_auc"], f"{ours['node_auc']:.3f}"),
            num(ours["n_circuits"], f"{ours['n_circuits']}"),
            num(about["n"] if about else None, f"{about['n']}" if about else None),
        ]
    said = row["why_not"] and f"Not a target. {row['why_not']}"
    if not ours:
        said = f"Not here: {row['missing']}. {said}".strip()
    return el(
        "tr",
        el("td", row["task"]),
        el("td", row["metric"]),
        el("td", row["method"].upper()),
        cells[0],
        num(row["edge_auc"], f"{row['edge_auc']:.3f}"),
        cells[1],
        num(row["node_auc"], f"{row['node_auc']:.3f}"),
        *cells[2:],
        el("td", said or "A target."),
        data_name=row["task"],
    )


def _rocs(results: Results) -> Markup:
    note = "One dot is one circuit; point at it for its edges. Language tasks on the bundled "
    note += "model are not here: nobody has published a circuit of that model."
    return _figures(results, roc, note, chance=False)


def _sizes(results: Results) -> Markup:
    note = "Circuits are found on the prompts of discovery and measured on others. Random circuits "
    note += "are made of whole paths (the bar is their range). On the reset network the measure "
    note += "compares with the trained model; tracr-xproportion's is the trained one itself, with "
    note += "one head and one neuron in a layer there is nothing to permute."
    return _figures(results, by_size, note, chance=True)


def _figures(results: Results, draw: Draw, note: str, *, chance: bool) -> Markup:
    """A figure of each problem, but of the gates, whose circuits have three edges."""
    charts = [
        draw(results, name_of(s), metric, ablation)
        for s in results.subjects()
        for metric, ablation in product(s["metrics"], s["ablations"])
        if not s["task"].endswith("-gate")
    ]
    there = [chart for chart in charts if chart is not None]
    key = legend(chance=chance)
    return el("div", el("p", note, class_="note"), key, el("div", *there, class_="charts"))


def _made(results: Results) -> Markup:
    """What was computed, with which settings."""
    trained = [d["cell"] for d in results.documents if d["cell"]["method"] == "sp"]
    how = {(dict(c["settings"])["steps"], dict(c["settings"])["learning_rate"]) for c in trained}
    steps = "; ".join(f"{n:,} steps of Adam at {rate:g}" for n, rate in sorted(how)) or "not run"
    wall, cpu = results.seconds(), results.seconds("cpu_seconds")
    n_circuits = sum(len(d["points"]) for d in results.documents)
    return _section(
        "How this was made",
        facts(
            [
                ("command", "edgewise reproduce"),
                ("cells", f"{len(results.documents):,}, with {n_circuits:,} circuits"),
                ("time in all cells", f"{seconds(wall)}, {seconds(cpu)} of one processor core"),
                ("ACDC", "values of the paper's grids of τ; orders of heads as its sweeps had"),
                ("SP", f"{steps} (the paper: 10,000 at 0.001); mean masks cut at 1/2"),
                ("HISP", "scores as the paper's code computes them, units to edges in one shot"),
                ("reset networks", "ACDC and HISP, and SP on the paper's own models"),
                ("seeds", "prompts 0, SP 0, random circuits 0, reset networks the paper's"),
                ("prompts", "the paper's sentences and corruptions in our own draws"),
                ("induction", "random words said again, one answer each; the paper reads text"),
                ("not computed", _NOT_HERE),
            ]
        ),
        _grid(results),
    )


_NOT_HERE = (
    "gendered pronouns at positions (the data are not public), circuits of neurons, and "
    "points of runs that the authors had not finished"
)


def _grid(results: Results) -> Markup:
    columns = [("problem", ""), ("method", ""), ("metric", ""), ("ablation", "")]
    columns += [("network", ""), ("values", ""), ("circuits", "num"), ("prompts", "num")]
    columns += [("held out", "num"), ("core time", "num")]
    rows = []
    for d in results.documents:
        cell, about = d["cell"], d["about"]
        values = ", ".join(f"{value:.3g}" for value in cell["values"])
        held_out = about["n_test"] if about["held_out"] else None
        rows.append(
            el(
                "tr",
                el("td", name_of(cell["subject"])),
                el("td", cell["method"]),
                el("td", cell["metric"]),
                el("td", cell["ablation"]),
                el("td", "reset" if cell["reset"] else "trained"),
                el("td", values or "numbers of units"),
                num(len(d["points"]), str(len(d["points"]))),
                num(about["n"], str(about["n"])),
                num(held_out, None if held_out is None else str(held_out)),
                num(d["cpu_seconds"], seconds(d["cpu_seconds"])),
            )
        )
    summary = el("summary", f"Every cell ({len(rows):,})")
    return el("details", summary, data_table(columns, rows, searchable=True))
