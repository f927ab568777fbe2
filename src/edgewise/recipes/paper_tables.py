"""The paper's tables beside ours, and what they come to in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.recipes.experiments import ENOUGH, area_under
from edgewise.recipes.paper import METHODS, TABLES, PaperProblem, paper
from edgewise.recipes.paper_charts import NAMES
from edgewise.tables import Cell, Column, Table, facts, seconds

if TYPE_CHECKING:
    from edgewise.recipes.experiments import Measured
    from edgewise.recipes.reproduced import Reproduced

_PROMPTS = (Column("prompts", "count"), Column("held out", "count"), Column("seed", "text"))


def what_it_comes_to(results: Reproduced) -> list[str]:
    """The tables in a sentence or three."""
    areas = results.areas()
    ours = [area for area in areas if area.ours]
    sentence = f"{len(ours)} of the {len(areas)} entries of Tables 2 and 3 could be computed here"
    if not ours:
        return [f"{sentence}."]
    same = [
        area
        for area in ours
        if area.ours
        and round(area.ours.edge_auc, 3) == area.edge_auc
        and round(area.ours.node_auc, 3) == area.node_auc
    ]
    sentence += f"; {len(same)} equal the published areas of edges and nodes to three digits."
    perfect = {
        area.task
        for area in ours
        if (area.method, area.ablation) == ("acdc", "zero") and area.task.startswith("tracr")
        if area.ours and area.ours.edge_auc == 1
    }
    sentences = [sentence]
    if perfect:
        sentences.append(
            "ACDC with zero activations recovers the paper's circuits of "
            f"{' and '.join(sorted(perfect))} perfectly, as published."
        )
    return [*sentences, *_smallest(results)]


def _smallest(results: Reproduced) -> list[str]:
    """How often ACDC needs the fewest edges on language tasks; nothing if none was run."""
    problems = [problem for problem in results.problems() if not problem.subject.is_program]
    sizes = [fewest for problem in problems if (fewest := results.sufficient(problem))]
    sizes = [fewest for fewest in sizes if {"acdc", "sp", "hisp"} <= fewest.keys()]
    if not sizes:
        return []
    best = 0
    for fewest in sizes:
        acdc = fewest.pop("acdc")
        best += acdc is not None and all(n is None or acdc < n for n in fewest.values())
    return [
        f"Of the circuits that keep {100 * ENOUGH:.0f} % of the effect on held-out prompts, ACDC's "
        f"are the smallest in {best} of {len(sizes)} problems of language."
    ]


def paper_tables(results: Reproduced) -> tuple[Table, ...]:
    """Tables 2 and 3, and everything that stands beside them; those that have rows."""
    tables = [
        *(_areas(results, ablation) for ablation in TABLES),
        _truth(results),
        _gates(results),
        _sizes(results),
        *(_highlights(results, task) for task in dict.fromkeys(h.task for h in paper().highlights)),
        _how_it_was_made(results),
        _experiments(results),
    ]
    return tuple(table for table in tables if table.rows)


def _areas(results: Reproduced, ablation: str) -> Table:
    areas = [area for area in results.areas() if area.ablation == ablation]
    rows: list[tuple[Cell, ...]] = []
    for area in sorted(areas, key=lambda area: area.ours is None):
        edges, nodes, n = None, None, None
        if area.ours is not None:
            edges, nodes = round(area.ours.edge_auc, 3), round(area.ours.node_auc, 3)
            n = area.ours.n_circuits
        words = f"Not a target. {area.why_not}" if area.why_not else ""
        if area.missing:
            words = f"Not here: {area.missing}. {words}".strip()
        numbers = edges, area.edge_auc, nodes, area.node_auc, n, area.n_prompts
        method = area.method.upper()
        rows.append((area.task, area.metric, method, *numbers, words or "A target."))
    names = ("edges, here", "edges, paper", "nodes, here", "nodes, paper")
    columns = (
        *(Column(name) for name in ("task", "metric", "method")),
        *(Column(name, "number") for name in names),
        Column("circuits", "count"),
        Column("prompts", "count"),
        Column("the published number"),
    )
    title = f"{TABLES[ablation]}: AUC, {ablation} activations"
    return Table(title, columns, tuple(rows), (paper().notes["areas"],))


def _truth(results: Reproduced) -> Table:
    """Recovery of what the weights of the two compiled programs can use, and why it is not 1."""
    rows, notes = [], []
    for problem in results.problems():
        about, name = results.about(problem), problem.subject.name
        for method in METHODS:
            area = results.area(problem, method=method)
            if not name.startswith("tracr-") or area is None or about is None:
                continue
            points = results.points(problem, method=method)
            beside = (round(area.edge_auc, 3), round(area_under(points, "truth"), 3))
            how = name, problem.ablation, NAMES[method]
            rows.append((*how, *beside, area.n_circuits, *_prompts(results, problem)))
            if (method, problem.ablation) == ("acdc", "zero"):
                notes.append(_why_not_all(results, problem, points))
    columns = (
        *(Column(name) for name in ("program", "ablation", "method")),
        Column("against the paper's", "number"),
        Column("against the weights", "number"),
        Column("circuits", "count"),
        *_PROMPTS,
    )
    title = "Compiled programs, against what their weights can use"
    return Table(
        title, columns, tuple(rows), (paper().notes["truth"], paper().notes["held_out"], *notes)
    )


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
    text += f"them, removing them changes no output. {paper().tasks[name].note} "
    return text + (f"It keeps {len(outside)} others." if outside else "It keeps no others.")


def _gates(results: Reproduced) -> Table:
    """What ACDC keeps of the gates: one of two heads that can stand in for each other."""
    rows = []
    for problem in results.problems():
        about = results.about(problem)
        for order in problem.subject.head_orders if problem.subject.is_gate else ():
            points = results.points(problem, method="acdc", head_order=order)
            if points and about:
                lowest = points[0]
                true = None if lowest.edges is None else lowest.edges.true_positives
                kept = ", ".join(lowest.kept) or "none"
                name = problem.subject.name
                rows.append((name, order, len(points), lowest.n_edges, true, kept, about.n))
    columns = (
        Column("gate"),
        Column("heads tested"),
        Column("thresholds", "count"),
        Column("edges", "count"),
        Column("of the true three", "count"),
        Column("kept at the lowest τ"),
        Column("prompts", "count"),
    )
    return Table("OR and AND gates", columns, tuple(rows), (paper().notes["gates"],))


def _sizes(results: Reproduced) -> Table:
    """How few edges suffice, for each method, chance and the reset network."""
    rows = []
    for problem in results.problems():
        about = results.about(problem)
        if about and not problem.subject.is_gate:
            fewest = results.sufficient(problem)
            row = (problem.subject.name, problem.metric, problem.ablation)
            sizes = (fewest.get(method) for method in (*METHODS, "random"))
            rows.append((*row, *sizes, about.n_edges, *_prompts(results, problem)))
    columns = (
        *(Column(name) for name in ("problem", "found with", "ablation")),
        *(Column(NAMES[method], "count") for method in (*METHODS, "random")),
        Column("all edges", "count"),
        *_PROMPTS,
    )
    notes = tuple(paper().notes[name] for name in ("sizes", "held_out", "figures"))
    return Table("How few edges suffice", columns, tuple(rows), notes)


def _prompts(results: Reproduced, problem: PaperProblem) -> tuple[Cell, ...]:
    about = results.about(problem)
    assert about is not None, "rows are of problems that ran"
    return about.n, about.n_test if about.held_out else None, str(problem.subject.seed)


_NO_TYPE = {"query MLP"}  # in the circuit for the queries of the middle heads alone


def _highlights(results: Reproduced, task: str) -> Table:
    """Greater-Than's 68 edges, or Docstring's Table 4, beside ours where the model is here."""
    records, rows = results.highlights(task), []
    measures = list(records[0].points[0].test) if records else []
    for highlight in paper().highlights:
        if highlight.task != task:
            continue
        place = highlight.place, f"{highlight.metric}, {highlight.ablation}", highlight.threshold
        own = [r for r in records if r.cell.values == (highlight.threshold,)
               and r.cell.problem[1:] == (highlight.metric, highlight.ablation)]  # fmt: skip
        if not own:
            needs = "not here, needs the paper's own model from a hub"
            blank = [None] * (len(measures) + 1)
            rows.append((*place, *blank, highlight.words, needs, None, None))
        for record in own:
            (point,) = record.points
            groups = {name: nodes for name, nodes in point.groups.items() if name not in _NO_TYPE}
            present = [name for name, nodes in groups.items() if nodes]
            types = f"{len(present)} of {len(groups)}: {', '.join(present)}"
            measured = point.n_edges, *(point.test[name] for name in measures)
            seed = str(record.cell.subject.seed)
            rows.append((*place, *measured, highlight.words, types, record.about.n, seed))
    columns = (
        Column("place"),
        Column("found with"),
        Column("τ", "number"),
        Column("edges", "count"),
        *(Column(f"{name}, held out", "number") for name in measures),
        Column("the paper"),
        Column("component types found"),
        Column("prompts", "count"),
        Column("seed"),
    )
    return Table(f"Single circuits of {task}", columns, tuple(rows), (paper().tasks[task].note,))


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
    rows = tuple(
        (
            record.cell.subject.name,
            record.cell.method,
            record.cell.metric,
            record.cell.ablation,
            "reset" if record.cell.reset else "trained",
            ", ".join(f"{value:.3g}" for value in record.cell.values) or "numbers of units",
            len(record.points),
            record.about.n,
            record.about.n_test if record.about.held_out else None,
            record.cpu_seconds,
        )
        for record in results.cells
    )
    names = ("problem", "method", "metric", "ablation", "network", "values")
    columns = (
        *map(Column, names),
        *(Column(name, "count") for name in ("circuits", "prompts", "held out")),
        Column("core time", "seconds"),
    )
    return Table("Every experiment", columns, rows)
