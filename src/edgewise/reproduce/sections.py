"""Parts of the page: structural truth, the gates, sizes that suffice, the paper's single points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.tables import data_table, num
from edgewise.reproduce.figures import NAMES
from edgewise.reproduce.results import ENOUGH, Group, Results, name_of, under
from edgewise.tables import number

_METHODS = ("acdc", "sp", "hisp")


def truth(results: Results) -> Markup | None:
    """Recovery of what the weights of the two compiled programs can use, and why it is not 1."""
    columns = [("program", ""), ("ablation", ""), ("method", ""), ("against the paper's", "num")]
    columns += [("against the weights", "num"), ("circuits", "num"), ("prompts", "num")]
    columns += [("held out", "num"), ("seed", "num")]
    rows, notes = [], []
    for subject in _programs(results):
        name, metric = name_of(subject), subject["metrics"][0]
        for ablation, method in product(subject["ablations"], _METHODS):
            group = Group(name, method, metric, ablation)
            area, about = results.area(group), results.about(name, metric, ablation)
            if area is None or about is None:
                continue
            real = under(results.points(group), "truth")
            rows.append(
                el(
                    "tr",
                    el("td", name),
                    el("td", ablation),
                    el("td", NAMES[method]),
                    num(area.edge_auc, f"{area.edge_auc:.3f}"),
                    num(real, f"{real:.3f}"),
                    *(num(n, str(n)) for n in (area.n_circuits, about["n"])),
                    num(None, str(about["n_test"]) if about["held_out"] else "all there are"),
                    num(subject["seed"], str(subject["seed"])),
                )
            )
            if (method, ablation) == ("acdc", "zero"):
                notes.append(_why_not_all(name, about, results.points(group)))
    if not rows:
        return None
    note = (
        "The paper's two lists are what ACDC itself finds with zero activations, so finding them "
    )
    note += "perfectly is circular. The weights say which edges can carry anything at all."
    return el(
        "section",
        el("h3", "Compiled programs, against what their weights can use"),
        el("p", note, class_="note"),
        data_table(columns, rows),
        *(el("p", text, class_="note") for text in notes),
    )


def _why_not_all(name: str, about: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    """What ACDC never keeps of what the weights can use, and what that means."""
    real, listed = (about[what]["edges"] or [] for what in ("truth", "published"))
    kept = {edge for point in points for edge in point["kept"]}
    missed = [edge for edge in real if edge not in kept]
    outside = sorted(kept - set(real))
    text = f"{name}: the weights can use {len(real)} edges; the paper lists {len(listed)}, "
    text += f"{len(set(listed) & set(real))} of them among those. "
    if not missed:
        return text + "ACDC with zero activations finds every one at some τ."
    text += (
        f"At no τ does ACDC with zero activations keep {', '.join(missed)}: when it tests them, "
    )
    text += f"removing them changes no output. {_WHY.get(name, '')}"
    return text + (f"It keeps {len(outside)} others." if outside else "It keeps no others.")


_WHY = {
    "tracr-reverse": "Head a0.h0 counts tokens by attending to all alike, which it does without "
    "scores as well; and what a3.h0 reads of the tokens is the compiler's default for when nothing "
    "is selected, which never happens. ",
}


def _programs(results: Results) -> list[Mapping[str, Any]]:
    return [s for s in results.subjects() if s["task"].startswith("tracr-")]


def gates(results: Results) -> Markup | None:
    """What ACDC keeps of the gates: one of two heads that can stand in for each other."""
    columns = [("gate", ""), ("heads tested", ""), ("thresholds", "num"), ("edges", "num")]
    columns += [("of the true three", "num"), ("kept at the lowest τ", ""), ("prompts", "num")]
    rows = []
    for subject in results.subjects():
        if not subject["task"].endswith("-gate"):
            continue
        about = results.about(subject["task"], "l2", "zero")
        for order in subject["head_orders"]:
            points = results.points(Group(subject["task"], "acdc", "l2", "zero", head_order=order))
            if not points or about is None:
                continue
            first = points[0]
            rows.append(
                el(
                    "tr",
                    el("td", subject["task"]),
                    el("td", order),
                    num(len(points), str(len(points))),
                    num(first["n_edges"], str(first["n_edges"])),
                    num(first["edges"]["true_positives"], str(first["edges"]["true_positives"])),
                    el("td", ", ".join(first["kept"]) or "none"),
                    num(about["n"], str(about["n"])),
                )
            )
    if not rows:
        return None
    note = (
        "Zero activations, one prompt, squared error. Either head alone turns the OR gate on, so "
    )
    note += "ACDC keeps only the one it tests last, as the paper's appendix says. The AND gate "
    note += "needs both."
    return el(
        "section",
        el("h3", "OR and AND gates"),
        el("p", note, class_="note"),
        data_table(columns, rows),
    )


def sizes(results: Results) -> Markup | None:
    """How few edges suffice, for each method, chance and the reset network."""
    columns = [("problem", ""), ("found with", ""), ("ablation", "")]
    columns += [(NAMES[m], "num") for m in (*_METHODS, "random")]
    columns += [("all edges", "num"), ("prompts", "num"), ("held out", "num"), ("seed", "num")]
    rows = [
        row
        for s in results.subjects()
        if not s["task"].endswith("-gate")
        for metric, ablation in product(s["metrics"], s["ablations"])
        if (row := _size_row(results, s, metric, ablation)) is not None
    ]
    if not rows:
        return None
    note = f"The fewest edges of any circuit that keeps {100 * ENOUGH:.0f} % of the metric's way "
    note += "from no edges to the full model, on held-out prompts. A dash: no circuit of the sweep "
    note += "does. SP and HISP keep or drop all edges of a q, k, v or MLP at once, so their "
    note += "circuits are larger by design."
    return el(
        "section",
        el("h3", "How few edges suffice"),
        el("p", note, class_="note"),
        data_table(columns, rows),
    )


def _size_row(
    results: Results, subject: Mapping[str, Any], metric: str, ablation: str
) -> Markup | None:
    name = name_of(subject)
    about = results.about(name, metric, ablation)
    if about is None:
        return None
    fewest = results.sufficient(subject, metric, ablation)
    cells = [
        num(None) if (n := fewest.get(method)) is None else num(n, f"{n:,}")
        for method in (*_METHODS, "random")
    ]
    held_out = str(about["n_test"]) if about["held_out"] else "the same"
    return el(
        "tr",
        el("td", name),
        el("td", metric),
        el("td", ablation),
        *cells,
        num(about["n_edges"], f"{about['n_edges']:,}"),
        num(about["n"], str(about["n"])),
        num(None, held_out),
        num(subject["seed"], str(subject["seed"])),
        data_name=name,
    )


# What the paper says of them: place, threshold, metric -> edges, and what was measured.
_SAID = {
    ("greater-than", "prob-diff", "corrupted", 0.01585): "68 edges, prob-diff 0.580, KL 0.294",
    ("docstring", "kl", "corrupted", 0.005): "258 edges, KL 0.33, logit margin 0.58",
    ("docstring", "kl", "corrupted", 0.095): "34 edges, KL 1.2, logit margin −1.7",
    ("docstring", "logit-margin", "corrupted", 0.067): "98 edges, KL 0.67, logit margin 0.32",
    ("docstring", "logit-margin", "zero", 0.067): "177 edges, KL 3.35, logit margin −2.895",
}
_NO_TYPE = {"query MLP"}  # in the circuit for the queries of the middle heads alone
_OTHER_ROWS = {
    "docstring": "Other rows of Table 4: full model 1,377 edges, KL 0, logit margin 0.48; its "
    "authors' eight heads with all connections 464, 0.83, −0.62; the canonical circuit 37, 1.1, "
    "−1.6.",
    "greater-than": "The paper finds at least one node of each of the five types of components.",
}


def highlights(results: Results) -> Markup:
    """Greater-Than's 68 edges and Docstring's Table 4, or what they need."""
    parts = []
    for task in ("greater-than", "docstring"):
        found = results.highlights(task)
        if found:
            parts.append(_single_points(task, found))
        else:
            said = "; ".join(f"τ = {k[3]:g}: {v}" for k, v in _SAID.items() if k[0] == task)
            text = (
                f"{task}: not here, needs the paper's own model from a hub. The paper says {said}."
            )
            parts.append(el("p", text, class_="note"))
        parts.append(el("p", _OTHER_ROWS[task], class_="note"))
    title = "Greater-Than's 68 edges and Docstring's Table 4"
    return el("section", el("h3", title), *parts)


def _single_points(task: str, found: Sequence[Mapping[str, Any]]) -> Markup:
    measures = list(found[0]["points"][0]["test"])
    columns = [("place", ""), ("found with", ""), ("τ", "num"), ("edges", "num")]
    columns += [(f"{name}, held out", "num") for name in measures]
    columns += [
        ("the paper", ""),
        ("component types found", ""),
        ("prompts", "num"),
        ("seed", "num"),
    ]
    rows = []
    for document in found:
        cell, point = document["cell"], document["points"][0]
        asked = (task, cell["metric"], cell["ablation"], point["value"])
        groups = {k: v for k, v in point.get("groups", {}).items() if k not in _NO_TYPE}
        there = [name for name, nodes in groups.items() if nodes]
        rows.append(
            el(
                "tr",
                el("td", cell["highlight"]),
                el("td", f"{cell['metric']}, {cell['ablation']}"),
                num(point["value"], f"{point['value']:g}"),
                num(point["n_edges"], f"{point['n_edges']:,}"),
                *(num(point["test"][name], number(point["test"][name])) for name in measures),
                el("td", _SAID.get(asked, "")),
                el("td", f"{len(there)} of {len(groups)}: {', '.join(there)}"),
                num(document["about"]["n"], str(document["about"]["n"])),
                num(cell["subject"]["seed"], str(cell["subject"]["seed"])),
            )
        )
    return el("div", el("h4", task), data_table(columns, rows))
