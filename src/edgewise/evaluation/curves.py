"""Loss and metric against circuit size: the paper's Pareto plot, and MIB's two areas.

CPR and CMD (Mueller et al. 2025, arXiv 2504.13151) are areas over the share k of the edges that a
circuit may have, k in {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1}, with f(k) its normalised
faithfulness (m(C) - m(empty)) / (m(full) - m(empty)):

    CPR = area under f(k)          CMD = area between f(k) and 1, under |1 - f(k)|

by the trapezoid rule in k itself (not its logarithm), from .001 to 1, as their code does; so the
areas of a perfect curve are 0.999 and 0. A circuit takes the floor(k n) best edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, get_args, runtime_checkable

import numpy as np

from edgewise.arguments import check_choice, share, whole
from edgewise.circuit import Circuit, EdgeScores, Found, circuit_of
from edgewise.documents import Count, Finite
from edgewise.errors import SettingError
from edgewise.evaluation.faithfulness import MetricScale, Spread, faithfulness, scale_of
from edgewise.methods.settings import By, Select
from edgewise.problem import Problem, check_is_problem
from edgewise.progress import OnProgress, counted, ignore_progress
from edgewise.tables import Chart, Column, Mark, Series, Table, count, number

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@runtime_checkable
class HasScores(Protocol):
    @property
    def scores(self) -> EdgeScores: ...


def scores_of(scores: object) -> EdgeScores:
    """Edge scores, or a run's. Raises `SettingError` for anything else."""
    result = scores if isinstance(scores, EdgeScores) else getattr(scores, "scores", None)
    if not isinstance(result, EdgeScores):
        raise SettingError(f"found a {type(scores).__name__}; pass edge scores, or a run.")
    return result


@dataclass(frozen=True)
class CurvePoint:
    """A circuit of a curve: what was asked for, what it has, and how faithful it is.

    `share` is what was asked, None if it was a number of edges or the circuit was passed. `value`
    is the metric, `loss` the metric with lower made better. `pareto`: no other point has as few
    edges and as low a loss, and less of one.
    """

    share: Finite | None
    n_edges: Count
    weighted_edge_count: Finite
    value: Finite
    loss: Finite
    normalized: Finite | None
    spread: Spread
    pareto: bool = False


@dataclass(frozen=True)
class Curve(MetricScale):
    """Circuits of several sizes on one problem, in the order of their sizes."""

    source: str  # the method whose scores or circuits these are
    selection: str  # how circuits were chosen
    n_prompts: Count
    pairs_sha256: str
    n_edges_total: Count
    points: tuple[CurvePoint, ...]

    _derived = ("cpr", "cmd")

    @property
    def cpr(self) -> float | None:
        """MIB's area under the faithfulness; None if the sizes are not MIB's, or f is undefined."""
        values = self._at_mib_shares()
        return None if values is None else area(MIB_SHARES, values)

    @property
    def cmd(self) -> float | None:
        """MIB's area between the faithfulness and 1, from 0; None likewise. Lower is better."""
        values = self._at_mib_shares()
        return None if values is None else area(MIB_SHARES, [abs(1 - f) for f in values])

    def _at_mib_shares(self) -> list[float] | None:
        values = [point.normalized for point in self.points if point.normalized is not None]
        are_mibs = tuple(point.share for point in self.points) == MIB_SHARES
        return values if are_mibs and len(values) == len(MIB_SHARES) else None

    @property
    def pareto(self) -> tuple[CurvePoint, ...]:
        """The points that no other beats."""
        return tuple(point for point in self.points if point.pareto)

    @property
    def title(self) -> str:
        return f"Size and {self.metric}"

    def sentences(self) -> tuple[str, ...]:
        """MIB's two areas, or what stands for them."""
        how = f"{self.source}, {self.selection}, {count(self.n_prompts, 'prompt')}"
        if self.cpr is not None and self.cmd is not None:
            return (f"CPR {number(self.cpr, 4)}, CMD {number(self.cmd, 4)} ({how}).",)
        best = min(self.points, key=lambda point: point.loss)
        return (
            f"Of {count(len(self.points), 'circuit')}, that of {count(best.n_edges, 'edge')} is "
            f"best: {self.metric} {number(best.value)} ({how}).",
        )

    def tables(self) -> tuple[Table, ...]:
        """Every circuit, smallest first."""
        columns = (
            Column("share asked for", "share"),
            Column("edges", "count"),
            self.axis,
            Column("effect kept", "share"),
            Column("on the Pareto front", "flag"),
        )
        rows = [(p.share, p.n_edges, p.value, p.normalized, p.pareto) for p in self.points]
        return (Table(self.title, columns, tuple(rows)),)

    def charts(self) -> tuple[Chart, ...]:
        """The metric against the size: the paper's plot."""
        marks = [
            Mark(p.n_edges, p.value, f"{count(p.n_edges, 'edge')}: {number(p.value, 4)}")
            for p in self.points
        ]
        chart = Chart(
            self.title,
            Column("edges", "count"),
            self.axis,
            (Series(self.source, tuple(marks), line=True),),
            levels=self.levels,
            caption=f"Circuits chosen by {self.selection} from the scores of {self.source}.",
        )
        return (chart,)


def area(x: Sequence[float], y: Sequence[float]) -> float:
    """The area under points by the trapezoid rule.

    >>> area([0.0, 0.5, 1.0], [0.0, 1.0, 1.0])
    0.75
    """
    return float(np.trapezoid(y, x))


def curve(
    problem: Problem,
    found: EdgeScores | HasScores | Iterable[Found],
    *,
    shares: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    select: Select = "top",
    by: By = "absolute",
    prune: bool = True,
    on_progress: OnProgress = ignore_progress,
) -> Curve:
    """Loss and faithfulness against size: of one scores' circuits, or of circuits as they are.

    Scores (or a run, whose scores are taken) give a circuit for each of `shares` of the edges,
    rounded down, by default MIB's ten; or for each of `sizes`, numbers of edges. `select` and `by`
    are those of every method that selects from scores. With `prune` edges that lie on no path from
    an embedding to the output are then removed, as MIB does: for the corrupted ablation that
    changes sizes only. A list of circuits or runs is evaluated as it is. Costs a forward pass for
    each circuit, and two. Raises `SettingError`, `MetricError`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-xproportion")
    >>> result = curve(task.test, ew.exact(task.problem), sizes=[0, 10, 38])
    >>> [(point.n_edges, round(point.loss, 3)) for point in result.pareto]
    [(0, 0.148), (8, 0.0)]
    """
    check_is_problem(problem, "curve")
    circuits: Sequence[tuple[float | None, Circuit]]
    if isinstance(found, EdgeScores | HasScores):
        scores = scores_of(found)
        check_choice("selection", select, get_args(Select))
        check_choice("ranking", by, get_args(By))
        best = scores.greedy if select == "greedy" else scores.top
        chosen = [(k, best(n, absolute=by == "absolute")) for k, n in _sizes(scores, shares, sizes)]
        circuits = [(k, circuit.pruned() if prune else circuit) for k, circuit in chosen]
        source, selection = scores.method, f"{select}, by {by} score"
        selection += ", pruned" if prune else ""
    else:
        if shares is not None or sizes is not None:
            raise SettingError("circuits have their sizes; shares and sizes are for scores.")
        items = [found] if isinstance(found, Circuit) else list(found)
        ordered = sorted(map(circuit_of, items), key=lambda circuit: circuit.n_edges)
        circuits = [(None, circuit) for circuit in ordered]
        methods = dict.fromkeys(getattr(item, "method", "given circuits") for item in items)
        source, selection = ", ".join(methods), "as found"
    if not circuits:
        raise SettingError("there are no circuits to evaluate.")
    points = [
        _point(problem, circuit, k) for k, circuit in counted(circuits, on_progress, "circuits")
    ]
    return Curve(
        **scale_of(problem, circuits[0][1].graph),
        source=source,
        selection=selection,
        n_prompts=len(problem.pairs),
        pairs_sha256=problem.pairs.sha256,
        n_edges_total=circuits[0][1].graph.n_edges,
        points=tuple(replace(p, pareto=not any(_beats(q, p) for q in points)) for p in points),
    )


def _sizes(
    scores: EdgeScores, shares: Sequence[float] | None, sizes: Sequence[int] | None
) -> list[tuple[float | None, int]]:
    """Each share asked for, if any was, and the number of edges, in ascending order."""
    if shares is not None and sizes is not None:
        raise SettingError("shares and sizes are given; say how large circuits are only once.")
    if sizes is not None:
        return [(None, n) for n in sorted(whole("sizes", n, 0) for n in sizes)]
    ascending = sorted(share("shares", k) for k in (MIB_SHARES if shares is None else shares))
    return [(k, int(k * scores.graph.n_edges)) for k in ascending]


def _point(problem: Problem, circuit: Circuit, requested: float | None) -> CurvePoint:
    faith = faithfulness(problem, circuit)
    size = requested, circuit.n_edges, circuit.weighted_edge_count
    return CurvePoint(*size, faith.circuit, faith.loss, faith.normalized, faith.spread)


def _beats(first: CurvePoint, second: CurvePoint) -> bool:
    """Whether the first has no more edges and no more loss, and less of one."""
    mine, its = (first.n_edges, first.loss), (second.n_edges, second.loss)
    return mine[0] <= its[0] and mine[1] <= its[1] and mine != its
