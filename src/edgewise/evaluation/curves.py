"""Loss and metric against circuit size: the paper's Pareto plot, and MIB's two areas.

CPR and CMD (Mueller et al. 2025, arXiv 2504.13151) are areas over the share k of the edges that a
circuit may have, k in {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1}, with f(k) its normalised
faithfulness (m(C) - m(empty)) / (m(full) - m(empty)):

    CPR = area under f(k)          CMD = area between f(k) and 1, under |1 - f(k)|

by the trapezoid rule in k itself (not its logarithm), from .001 to 1, as their code does; so the
areas of a perfect curve are 0.999 and 0. A circuit takes the floor(k n) best edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args, runtime_checkable

from edgewise.circuit import Circuit, EdgeScores, Found, circuit_of
from edgewise.errors import SettingError
from edgewise.evaluation.faithfulness import Faithfulness, faithfulness
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.problem import Problem, check_is_problem
from edgewise.settings.checks import check_choice, share, whole
from edgewise.settings.selection import By, Select

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@runtime_checkable
class HasScores(Protocol):
    @property
    def scores(self) -> EdgeScores: ...


def scores_of(scores: object) -> EdgeScores:
    """Edge scores, or a run's. Raises `SettingError` for anything else."""
    found = scores if isinstance(scores, EdgeScores) else getattr(scores, "scores", None)
    if not isinstance(found, EdgeScores):
        raise SettingError(f"found a {type(scores).__name__}; pass edge scores, or a run.")
    return found


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """A circuit of a curve: what was asked for, and how faithful it is.

    `share` is what was asked, None if it was a number of edges or the circuit was given;
    `faithfulness.n_edges` is what the circuit has.
    """

    share: float | None
    circuit: Circuit
    faithfulness: Faithfulness

    @property
    def n_edges(self) -> int:
        return self.circuit.n_edges

    @property
    def loss(self) -> float:
        """The metric, lower is better."""
        return self.faithfulness.loss

    def to_json(self) -> dict[str, Any]:
        """Numbers alone: what a plot needs."""
        faith = self.faithfulness
        return {
            "share": self.share,
            "n_edges": self.n_edges,
            "weighted_edge_count": self.circuit.weighted_edge_count,
            "value": faith.circuit,
            "loss": faith.loss,
            "normalized": faith.normalized,
            "spread": dict(vars(faith.spread)),
        }


@dataclass(frozen=True, eq=False)
class Curve:
    """Circuits of several sizes on one problem, in the order of their sizes."""

    source: str  # the method whose scores or circuits these are
    selection: str  # how circuits were chosen
    n_prompts: int
    pairs_sha256: str
    points: tuple[CurvePoint, ...]

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
        if tuple(point.share for point in self.points) != MIB_SHARES:
            return None
        values = [point.faithfulness.normalized for point in self.points]
        return [f for f in values if f is not None] if None not in values else None

    @property
    def pareto(self) -> tuple[CurvePoint, ...]:
        """The points that no other beats: none has as few edges and as low a loss, and one less."""
        return tuple(p for p in self.points if not any(_beats(q, p) for q in self.points))

    def to_json(self) -> dict[str, Any]:
        """What a plot needs; whether a point is on the Pareto front is said for each."""
        front = {id(point) for point in self.pareto}
        faith = self.points[0].faithfulness
        about = ("metric", "unit", "higher_is_better", "full", "empty", "n_edges_total")
        return {
            "source": self.source,
            "selection": self.selection,
            "n_prompts": self.n_prompts,
            "pairs_sha256": self.pairs_sha256,
            **{name: getattr(faith, name) for name in about},
            "cpr": self.cpr,
            "cmd": self.cmd,
            "points": [{**p.to_json(), "pareto": id(p) in front} for p in self.points],
        }


def _beats(one: CurvePoint, other: CurvePoint) -> bool:
    mine, its = (one.n_edges, one.loss), (other.n_edges, other.loss)
    return mine[0] <= its[0] and mine[1] <= its[1] and mine != its


def area(x: Sequence[float], y: Sequence[float]) -> float:
    """The area under points by the trapezoid rule.

    >>> area([0.0, 0.5, 1.0], [0.0, 1.0, 1.0])
    0.75
    """
    steps = zip(x, x[1:], y, y[1:], strict=False)
    return sum((b - a) * (f + g) / 2 for a, b, f, g in steps)


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
    >>> found = curve(task.test, ew.exact(task.problem), sizes=[0, 10, 38])
    >>> [(point.n_edges, round(point.loss, 3)) for point in found.pareto]
    [(0, 0.148), (8, 0.0)]
    """
    check_is_problem(problem, "curve")
    if isinstance(found, EdgeScores | HasScores):
        scores = scores_of(found)
        check_choice("selection", select, get_args(Select))
        check_choice("ranking", by, get_args(By))
        asked = _asked(scores, shares, sizes)
        choose = _chooser(scores, select, by, prune)
        wanted: list[tuple[float | None, Circuit]] = [(k, choose(n)) for k, n in asked]
        source = scores.method
        selection = f"{select}, by {by} score" + (", pruned" if prune else "")
    else:
        if shares is not None or sizes is not None:
            raise SettingError("circuits have their sizes; shares and sizes are for scores.")
        items = [found] if isinstance(found, Circuit) else list(found)
        circuits = [circuit_of(item) for item in items]
        wanted = [(None, circuit) for circuit in sorted(circuits, key=lambda c: c.n_edges)]
        methods = dict.fromkeys(getattr(item, "method", "given circuits") for item in items)
        source, selection = ", ".join(methods), "as found"
    if not wanted:
        raise SettingError("there are no circuits to evaluate.")
    return Curve(
        source=source,
        selection=selection,
        n_prompts=len(problem.pairs),
        pairs_sha256=problem.pairs.sha256,
        points=tuple(_points(problem, wanted, on_progress)),
    )


def _asked(
    scores: EdgeScores, shares: Sequence[float] | None, sizes: Sequence[int] | None
) -> list[tuple[float | None, int]]:
    """Each share that was asked, if one was, and the number of edges, in ascending order."""
    if shares is not None and sizes is not None:
        raise SettingError("shares and sizes are given; say how large circuits are only once.")
    if sizes is not None:
        return [(None, n) for n in sorted(whole("sizes", n, 0) for n in sizes)]
    every = sorted(share("shares", k) for k in (MIB_SHARES if shares is None else shares))
    return [(k, int(k * scores.graph.n_edges)) for k in every]


def _chooser(scores: EdgeScores, select: Select, by: By, prune: bool) -> Callable[[int], Circuit]:
    def choose(n: int) -> Circuit:
        best = scores.greedy if select == "greedy" else scores.top
        circuit = best(n, absolute=by == "absolute")
        return circuit.pruned() if prune else circuit

    return choose


def _points(
    problem: Problem, wanted: Sequence[tuple[float | None, Circuit]], on_progress: OnProgress
) -> Iterator[CurvePoint]:
    for done, (asked, circuit) in enumerate(wanted):
        on_progress(Progress(done, len(wanted), f"{circuit.n_edges} edges"))
        yield CurvePoint(asked, circuit, faithfulness(problem, circuit))
    on_progress(Progress(len(wanted), len(wanted), ""))
