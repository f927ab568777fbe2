"""The paper's figures: ROC curves (Figure 3), and how circuits do against their size (Figure 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.metrics import metric_named
from edgewise.tables import Chart, Column, Mark, Series, number

if TYPE_CHECKING:
    from edgewise.recipes.experiments import Measured
    from edgewise.recipes.paper import PaperProblem
    from edgewise.recipes.reproduced import Reproduced

NAMES = {"acdc": "ACDC", "sp": "SP", "hisp": "HISP", "random": "random circuits"}


def roc_chart(results: Reproduced, problem: PaperProblem) -> Chart | None:
    """TPR against FPR of edges for each method; None if no circuit is published."""
    subject, metric, ablation = problem
    series, areas = [], []
    for method in ("acdc", "sp", "hisp"):
        area = results.area(problem, method=method)
        if area is None:
            continue
        areas.append(f"{NAMES[method]} {area.edge_auc:.3f} ({area.n_circuits})")
        points = results.points(problem, method=method)
        series += _staircase(NAMES[method], points)
    if not series:
        return None
    return Chart(
        f"Figure 3, {subject.name}: {metric}, {ablation} activations",
        Column("FPR of edges", "number"),
        Column("TPR of edges", "number"),
        tuple(series),
        caption=f"Edge AUC (circuits): {', '.join(areas)}. Steps go right, then up: nothing is "
        "credited between two circuits.",
    )


def _staircase(name: str, points: list[Measured]) -> list[Series]:
    """The best rates so far, as the pessimistic area credits them, and the circuits below them."""
    rates = {(p.edges.fpr, p.edges.tpr): _roc_mark(name, p) for p in points if p.edges}
    steps, below, best = [Mark(0.0, 0.0)], [], 0.0
    for (fpr, tpr), mark in sorted(rates.items()):
        if tpr > best:
            steps += [Mark(fpr, best), mark]
            best = tpr
        else:
            below.append(mark)
    steps += [Mark(1.0, best), Mark(1.0, 1.0)]
    curve = Series(name, tuple(steps), line=True)
    return [curve, Series(f"{name}, below the steps", tuple(below))] if below else [curve]


def _roc_mark(name: str, point: Measured) -> Mark:
    edges = point.edges
    assert edges is not None, "only circuits beside a published one are drawn"
    label = f"{name}, {number(point.value)}: {point.n_edges} edges\n{edges.true_positives} of "
    label += f"{edges.n_true} published, {edges.false_positives} others"
    return Mark(edges.fpr, edges.tpr, label)


def size_chart(results: Reproduced, problem: PaperProblem) -> Chart | None:
    """The metric that was minimised, on held-out prompts, against the number of edges.

    Beside the methods: random circuits, and circuits of the reset network.
    """
    subject, metric, ablation = problem
    about = results.about(problem)
    if about is None:
        return None
    series = []
    for reset in (False, True):
        for method in ("acdc", "sp", "hisp"):
            points = results.points(problem, method=method, reset=reset)
            name = NAMES[method] + (", reset network" if reset else "")
            series.append(_by_size(name, points, metric))
    series.append(_by_size(NAMES["random"], results.points(problem, method="random"), metric))
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


def _by_size(name: str, points: list[Measured], metric: str) -> Series:
    """Circuits in the order of their size; chance, which has several of a size, without a line."""
    places = sorted({(p.n_edges, p.test[metric], p.value) for p in points})
    marks = (
        Mark(n, value, f"{name}, {number(setting)}\n{n} edges: {number(value, 4)}")
        for n, value, setting in places
    )
    return Series(name, tuple(marks), line=name != NAMES["random"])
