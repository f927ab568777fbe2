"""The paper's tables beside ours, its Figures 3 and 4, and what they come to in sentences."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from edgewise.metrics import metric_named
from edgewise.recipes.paper import METHODS, TABLES, PaperProblem, paper
from edgewise.tables import Cell, Chart, Column, Mark, Series, Table, facts, number, seconds

if TYPE_CHECKING:
    from edgewise.recipes.reproduced import Measured, Reproduced

NAMES = {"acdc": "ACDC", "sp": "SP", "hisp": "HISP", "random": "random circuits"}
Rows = list[dict[str, Cell]]
_NO_TYPE = {"query MLP"}  # in the circuit for the queries of the middle heads alone


def what_it_comes_to(results: Reproduced) -> list[str]:
    """The tables in a sentence or three."""
    areas = results.areas()
    computed = [(area, area.ours) for area in areas if area.ours]
    sentence = f"{len(computed)} of the {len(areas)} entries of Tables 2 and 3 could be computed"
    if not computed:
        return [f"{sentence} here."]
    same = [
        (round(ours.edge_auc, 3), round(ours.node_auc, 3)) == (area.edge_auc, area.node_auc)
        for area, ours in computed
    ]
    sentences = [
        f"{sentence} here; {sum(same)} equal the published areas of edges and nodes to three "
        "digits."
    ]
    perfect = {
        area.task
        for area, ours in computed
        if (area.method, area.ablation) == ("acdc", "zero") and area.task.startswith("tracr")
        if ours.edge_auc == 1
    }
    if perfect:
        sentences.append(
            "ACDC with zero activations recovers the paper's circuits of "
            f"{' and '.join(sorted(perfect))} perfectly, as published."
        )
    # How often ACDC needs the fewest edges on language tasks, where all three have run.
    language = [problem for problem in results.problems() if not problem.subject.is_program]
    sizes = [results.sufficient(problem) for problem in language]
    whole = [[fewest[m] for m in METHODS] for fewest in sizes if fewest.keys() >= {*METHODS}]
    if whole:
        best = sum(
            acdc is not None and all(n is None or acdc < n for n in (sp, hisp))
            for acdc, sp, hisp in whole
        )
        sentences.append(
            f"Of the circuits that keep 90 % of the effect on held-out prompts, "
            f"ACDC's are the smallest in {best} of {len(whole)} problems of language."
        )
    return sentences


def paper_tables(results: Reproduced) -> tuple[Table, ...]:
    """Tables 2 and 3, and everything that stands beside them; those that have rows."""
    tables = [
        _computed(results),
        *(_areas(results, ablation) for ablation in TABLES),
        _truth(results),
        _gates(results),
        _sizes(results),
        *(_highlights(results, task) for task in dict.fromkeys(h.task for h in paper().highlights)),
        _how_it_was_made(results),
        _experiments(results),
    ]
    return tuple(table for table in tables if table.rows)


def _computed(results: Reproduced) -> Table:
    rows: Rows = [
        {
            "task": f"{area.task}, {area.ablation}",
            "metric": area.metric,
            "method": area.method,
            "edges": round(area.ours.edge_auc, 3),
            "paper": area.edge_auc,
            "nodes": round(area.ours.node_auc, 3),
            "paper's nodes": area.node_auc,
            "a target": not area.why_not,
        }
        for area in results.areas()
        if area.ours is not None
    ]
    return Table.of("Tables 2 and 3: AUC, what could be computed", rows)


def _areas(results: Reproduced, ablation: str) -> Table:
    areas = [area for area in results.areas() if area.ablation == ablation]
    rows: Rows = []
    for area in sorted(areas, key=lambda area: area.ours is None):
        words = f"Not a target. {area.why_not}" if area.why_not else ""
        if area.missing:
            words = f"Not here: {area.missing}. {words}".strip()
        ours = area.ours
        rows.append(
            {
                "task": area.task,
                "metric": area.metric,
                "method": area.method.upper(),
                "edges, here": None if ours is None else round(ours.edge_auc, 3),
                "edges, paper": area.edge_auc,
                "nodes, here": None if ours is None else round(ours.node_auc, 3),
                "nodes, paper": area.node_auc,
                "circuits": None if ours is None else ours.n_circuits,
                "prompts": area.n_prompts,
                "the published number": words or "A target.",
            }
        )
    title = f"{TABLES[ablation]}: AUC, {ablation} activations"
    return Table.of(title, rows, notes=[paper().notes["areas"]])


def _truth(results: Reproduced) -> Table:
    """Recovery of what the weights of the two compiled programs can use, and why it is not 1."""
    rows: Rows = []
    notes = [paper().notes["truth"], paper().notes["held_out"]]
    programs = [p for p in results.problems() if p.subject.task.startswith("tracr-")]
    for problem, method in product(programs, METHODS):
        points = results.points(problem, method=method)
        if area := results.area(problem, method=method):
            rows.append(
                {
                    "program": problem.subject.name,
                    "ablation": problem.ablation,
                    "method": NAMES[method],
                    "against the paper's": round(area.edge_auc, 3),
                    "against the weights": round(results.area_under(points, "truth"), 3),
                    "circuits": area.n_circuits,
                    **_prompts(results, problem),
                }
            )
            if (method, problem.ablation) == ("acdc", "zero"):
                notes.append(_why_not_all(results, problem, points))
    title = "Compiled programs, against what their weights can use"
    return Table.of(title, rows, notes=notes)


def _why_not_all(results: Reproduced, problem: PaperProblem, points: list[Measured]) -> str:
    """What ACDC never keeps of what the weights can use, and what that means."""
    about, name = results.about(problem), problem.subject.name
    known = (about.truth, about.published) if about else ()
    real, listed = ((circuit.edges or ()) if circuit else () for circuit in known)
    kept = {edge for point in points for edge in point.kept}
    missed, outside = [edge for edge in real if edge not in kept], kept - set(real)
    text = f"{name}: the weights can use {len(real)} edges; the paper lists {len(listed)}, "
    text += f"{len(set(listed) & set(real))} of them among those. "
    if not missed:
        return text + "ACDC with zero activations finds every one at some τ."
    text += f"At no τ does ACDC with zero activations keep {', '.join(missed)}: when it tests "
    text += f"them, removing them changes no output. {paper().notes.get(name, '')} "
    return text + (f"It keeps {len(outside)} others." if outside else "It keeps no others.")


def _gates(results: Reproduced) -> Table:
    """What ACDC keeps of the gates: one of two heads that can stand in for each other."""
    rows: Rows = []
    gates = [problem for problem in results.problems() if problem.subject.is_gate]
    for problem in gates:
        for order in problem.subject.head_orders:
            points = results.points(problem, method="acdc", head_order=order)
            for lowest in points[:1]:
                assert lowest.edges is not None, "a gate's circuit is known"
                rows.append(
                    {
                        "gate": problem.subject.name,
                        "heads tested": order,
                        "thresholds": len(points),
                        "edges": lowest.n_edges,
                        "of the true three": lowest.edges.true_positives,
                        "kept at the lowest τ": ", ".join(lowest.kept) or "none",
                        "prompts": _prompts(results, problem)["prompts"],
                    }
                )
    return Table.of("OR and AND gates", rows, notes=[paper().notes["gates"]])


def _sizes(results: Reproduced) -> Table:
    """How few edges suffice, for each method, chance and the reset network."""
    rows: Rows = []
    for problem in results.problems():
        about, fewest = results.about(problem), results.sufficient(problem)
        if about and not problem.subject.is_gate:
            rows.append(
                {
                    "problem": problem.subject.name,
                    "found with": problem.metric,
                    "ablation": problem.ablation,
                    **{NAMES[method]: fewest.get(method) for method in (*METHODS, "random")},
                    "all edges": about.n_edges,
                    **_prompts(results, problem),
                }
            )
    notes = [paper().notes[name] for name in ("sizes", "held_out", "figures")]
    return Table.of("How few edges suffice", rows, notes=notes)


def _prompts(results: Reproduced, problem: PaperProblem) -> dict[str, Cell]:
    about = results.about(problem)
    assert about is not None, "rows are of problems that ran"
    held_out = about.n_test if about.held_out else None
    return {"prompts": about.n, "held out": held_out, "seed": str(problem.subject.seed)}


def _highlights(results: Reproduced, task: str) -> Table:
    """Greater-Than's 68 edges, or Docstring's Table 4, beside ours where the model is here."""
    ran = {
        (r.cell.metric, r.cell.ablation, point.value): (r, point)
        for r in results.cells
        if r.cell.highlight and r.cell.subject.task == task
        for point in r.points
    }
    rows: Rows = []
    for told in paper().highlights:
        if told.task == task:
            row: dict[str, Cell] = {
                "place": told.place,
                "found with": f"{told.metric}, {told.ablation}",
                "τ": told.threshold,
                "the paper": told.words,
                "component types found": "not here, needs the paper's own model from a hub",
            }
            if (told.metric, told.ablation, told.threshold) in ran:
                record, point = ran[told.metric, told.ablation, told.threshold]
                types = {name: n for name, n in point.groups.items() if name not in _NO_TYPE}
                present = [name for name, nodes in types.items() if nodes]
                words = f"{len(present)} of {len(types)}: {', '.join(present)}"
                row |= {"component types found": words, "edges": point.n_edges}
                row |= {f"{name}, held out": value for name, value in point.test.items()}
                row |= {"prompts": record.about.n, "seed": str(record.cell.subject.seed)}
            rows.append(row)
    return Table.of(f"Single circuits of {task}", rows, notes=[paper().notes[task]])


def _how_it_was_made(results: Reproduced) -> Table:
    """What was computed, with which settings."""
    trained = [dict(r.cell.settings) for r in results.cells if r.cell.method == "sp"]
    how = sorted({(settings["steps"], settings["learning_rate"]) for settings in trained})
    steps = "; ".join(f"{n:,} steps of Adam at {rate:g}" for n, rate in how) or "not run"
    n_circuits = sum(len(record.points) for record in results.cells)
    wall, cpu = (sum(getattr(r, of) for r in results.cells) for of in ("seconds", "cpu_seconds"))
    return facts(
        "How this was made",
        {
            "command": "edgewise reproduce",
            "experiments": f"{len(results.cells):,}, with {n_circuits:,} circuits",
            "time in all": f"{seconds(wall)}, {seconds(cpu)} of one processor core",
            "SP": f"{steps} (the paper: 10,000 at 0.001); mean masks cut at 1/2",
            **paper().made,
        },
    )


def _experiments(results: Reproduced) -> Table:
    rows: Rows = [
        {
            "problem": record.cell.subject.name,
            "method": record.cell.method,
            "metric": record.cell.metric,
            "ablation": record.cell.ablation,
            "network": "reset" if record.cell.reset else "trained",
            "values": ", ".join(f"{value:.3g}" for value in record.cell.values) or "all sizes",
            "circuits": len(record.points),
            "prompts": record.about.n,
            "held out": record.about.n_test if record.about.held_out else None,
            "core time": record.cpu_seconds,
        }
        for record in results.cells
    ]
    return Table.of("Every experiment", rows, kinds={"core time": "seconds"})


# --- figures


def roc_chart(results: Reproduced, problem: PaperProblem) -> Chart | None:
    """TPR against FPR of edges for each method; None if no circuit is published."""
    series, areas = list[Series](), list[str]()
    for method in METHODS:
        if area := results.area(problem, method=method):
            areas.append(f"{NAMES[method]} {area.edge_auc:.3f} ({area.n_circuits})")
            series += _staircase(NAMES[method], results.points(problem, method=method))
    if not series:
        return None
    return Chart(
        f"Figure 3, {problem.subject.name}: {problem.metric}, {problem.ablation} activations",
        Column("FPR of edges", "number"),
        Column("TPR of edges", "number"),
        tuple(series),
        caption=f"Edge AUC (circuits): {', '.join(areas)}. Steps go right, then up: nothing is "
        "credited between two circuits.",
    )


def _staircase(name: str, points: list[Measured]) -> list[Series]:
    """The best rates so far, as the pessimistic area credits them, and the circuits below them."""
    labels = dict[tuple[float, float], str]()
    for point in points:
        if edges := point.edges:
            labels[edges.fpr, edges.tpr] = (
                f"{name}, {number(point.value)}: {point.n_edges} edges\n{edges.true_positives} of "
                f"{edges.n_true} published, {edges.false_positives} others"
            )
    steps, below, best = [Mark(0.0, 0.0)], [], 0.0
    for (fpr, tpr), label in sorted(labels.items()):
        if tpr > best:
            steps += [Mark(fpr, best), Mark(fpr, tpr, label)]
            best = tpr
        else:
            below.append(Mark(fpr, tpr, label))
    steps += [Mark(1.0, best), Mark(1.0, 1.0)]
    curve = Series(name, tuple(steps), line=True)
    return [curve, Series(f"{name}, below the steps", tuple(below))] if below else [curve]


def size_chart(results: Reproduced, problem: PaperProblem) -> Chart | None:
    """The metric that was minimised, on held-out prompts, against the number of edges.

    Beside the methods: random circuits, and circuits of the reset network.
    """
    subject, metric, ablation = problem
    about = results.about(problem)
    if about is None:
        return None
    series = []
    for reset, method in [(reset, m) for reset in (False, True) for m in METHODS] + [
        (False, "random")
    ]:
        name = NAMES[method] + (", reset network" if reset else "")
        points = results.points(problem, method=method, reset=reset)
        sizes = sorted({(p.n_edges, p.test[metric], p.value) for p in points})
        marks = tuple(
            Mark(n, value, f"{name}, {number(setting)}\n{n} edges: {number(value, 4)}")
            for n, value, setting in sizes
        )
        # Chance has several circuits of a size, so that no line joins them.
        series.append(Series(name, marks, line=method != "random"))
    full, empty = about.baselines[metric]
    known = metric_named(metric)
    direction = "higher" if known.higher_is_better else "lower"
    held_out = "held-out " if about.held_out else ""
    return Chart(
        f"Figure 4, {subject.name}: found with {metric}, {ablation} activations",
        Column("edges", "count"),
        Column(f"{known.name} ({known.unit}), {direction} is better", "number"),
        tuple(line for line in series if line.marks),
        levels=(("full model", full), ("no edges", empty)),
        caption=f"{about.n_test} {held_out}prompts of {about.model}, seed {subject.seed}.",
    )
