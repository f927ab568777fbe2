"""One ACDC search: its state, its decisions, and where thresholds part."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import Estimate
from edgewise.errors import FormatError
from edgewise.graph import Edge, Graph, Port
from edgewise.methods.edge_tests import EdgeTests
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.visits import is_read


@dataclass(frozen=True)
class Visit:
    """A receiver and its candidate edges in order; the first `untested` are removed at once."""

    receiver: Port
    candidates: list[Edge]
    untested: int = 0


class Search:
    """ACDC for one threshold, or for several as long as they decide alike.

    When they no longer do, the lower ones (which keep the edge) go on here, and `forks` gains a
    search in which the higher ones have removed it. Each search decides exactly what ACDC with each
    of its thresholds would.
    """

    def __init__(
        self,
        graph: Graph,
        visits: Sequence[Visit],
        thresholds: Sequence[float],
        tests: EdgeTests,
        loss: float,
        *,
        absolute: bool,
    ) -> None:
        self.thresholds = tuple(sorted(thresholds))
        self.trace: list[Decision] = []
        self.skipped = 0
        self.forks: list[Search] = []
        self._graph, self._visits, self._tests, self._absolute = graph, visits, tests, absolute
        self._keep = graph.exists.clone()
        self._deltas = torch.zeros(graph.exists.shape, dtype=torch.float64)
        self._loss = Estimate(loss, math.inf)  # how exact, the tests will see
        self._visit = 0  # the visit at hand, and within it
        self._start = 0  # the next candidate, and
        self._gone: tuple[int, ...] = ()  # the candidates removed so far

    @property
    def done(self) -> int:
        """Edges decided so far."""
        return len(self.trace) + self.skipped

    @property
    def loss(self) -> float:
        """The running loss."""
        return self._loss.loss

    def run(
        self,
        on_decision: Callable[[Decision], None],
        replay: Sequence[Decision] = (),
    ) -> None:
        """Go on to the end. Decisions in `replay` were taken by an earlier run, and are not tested.

        Raises `FormatError` if those are not the first decisions of this search.
        """
        replayed = list(reversed(replay))
        while self._visit < len(self._visits):
            visit = self._visits[self._visit]
            candidates = visit.candidates
            if self._start == 0 and not is_read(
                self._graph, self._keep, visit.receiver, candidates[0].is_switch
            ):
                self._drop(candidates)
            else:
                if self._start == 0:
                    self._screen(visit)
                while replayed and self._start < len(candidates):
                    self._repeat(candidates, replayed.pop())
                self._decide(visit.receiver, candidates, on_decision)
            self._visit, self._start, self._gone = self._visit + 1, 0, ()
        if replayed:
            raise FormatError(f"decisions of another run: {len(replayed)} too many.")

    def _drop(self, edges: Sequence[Edge]) -> None:
        for edge in edges:
            self._keep[self._graph.index(edge)] = False
        self.skipped += len(edges)

    def _screen(self, visit: Visit) -> None:
        """Remove what is removed without a test; the running loss is then another one."""
        if not visit.untested:
            return
        self._drop(visit.candidates[: visit.untested])
        self._start, self._gone = visit.untested, tuple(range(visit.untested))
        self._loss = self._tests.loss(self._keep, visit.receiver, visit.candidates, self._gone)

    def _decide(
        self, receiver: Port, candidates: list[Edge], on_decision: Callable[[Decision], None]
    ) -> None:
        self._judged: Estimate = self._loss
        for outcome in self._tests.decide(
            self._keep, receiver, candidates, self._loss, self, self._gone, self._start
        ):
            loss = self._loss if outcome.kept else self._judged
            decision = Decision(
                candidates[outcome.index], outcome.delta, outcome.kept, outcome.loss
            )
            self._take(decision, outcome.index, loss)
            on_decision(decision)

    def _repeat(self, candidates: list[Edge], decision: Decision) -> None:
        expected = candidates[self._start]
        if decision.edge != expected:
            raise FormatError(
                f"decisions of another run: found {decision.edge.name} where this one decides "
                f"{expected.name}."
            )
        (threshold,) = self.thresholds
        if decision.kept == (self._compared(decision.delta) < threshold):
            raise FormatError(
                f"the decision about {decision.edge.name} contradicts itself: with delta "
                f"{decision.delta:.6g} and threshold {threshold:g} the edge is not "
                f"{'kept' if decision.kept else 'removed'}."
            )
        self._take(decision, self._start, Estimate(decision.loss, math.inf))

    def _take(self, decision: Decision, index: int, loss: Estimate) -> None:
        at = self._graph.index(decision.edge)
        self._keep[at], self._deltas[at], self._loss = decision.kept, decision.delta, loss
        if not decision.kept:
            self._gone = (*self._gone, index)
        self._start = index + 1
        self.trace.append(decision)

    # --- judging deltas

    def keeps(self, index: int, delta: float, without: Estimate) -> bool:
        """Whether the edge stays; thresholds that see it otherwise leave for a fork."""
        self._judged = without
        compared = self._compared(delta)
        low = tuple(t for t in self.thresholds if not compared < t)
        if low and len(low) < len(self.thresholds):
            high = self.thresholds[len(low) :]
            edge = self._visits[self._visit].candidates[index]
            self.forks.append(self._fork(high, index, Decision(edge, delta, False, without.loss)))
            self.thresholds = low
        return bool(low)

    def _fork(self, thresholds: tuple[float, ...], index: int, decision: Decision) -> Search:
        other = copy.copy(self)
        other.thresholds, other.forks = thresholds, []
        other._tests = self._tests.fork()
        other._keep, other._deltas = self._keep.clone(), self._deltas.clone()
        other.trace = list(self.trace)
        other._take(decision, index, self._judged)
        return other

    def guess(self, delta: float) -> bool:
        """Whether an edge of this delta stays here."""
        return not self._compared(delta) < self.thresholds[0]

    def distance(self, delta: float) -> float:
        """How far this delta is from any of the thresholds."""
        return min(abs(self._compared(delta) - threshold) for threshold in self.thresholds)

    def alike(self, one: float, other: float) -> bool:
        """Whether every threshold decides two deltas alike."""
        pair = self._compared(one), self._compared(other)
        return all((pair[0] < t) == (pair[1] < t) for t in self.thresholds)

    def _compared(self, delta: float) -> float:
        return abs(delta) if self._absolute else delta

    # --- the result

    def finding(self, threshold: float, *, prune: bool) -> MethodResult:
        """What ACDC with one of the thresholds of a finished search finds."""
        circuit = Circuit(self._graph, self._keep)
        distances = (abs(self._compared(d.delta) - threshold) for d in self.trace)
        return MethodResult(
            circuit=circuit.pruned() if prune else circuit,
            scores=EdgeScores(
                self._graph, self._deltas, "acdc", "rise of the loss when removed in sequence"
            ),
            trace=tuple(self.trace),
            edge_tests=len(self.trace),
            edges_skipped=self.skipped,
            variants=self._tests.variants,
            margin=min(distances, default=None),
            worst_error=self._tests.worst_error,
        )


def threshold_interval(trace: Sequence[Decision], *, absolute: bool) -> tuple[float, float] | None:
    """(low, high): every threshold above `low`, up to and including `high`, decides as `trace`.

    `low` is 0 if no removal raised the loss, `high` infinite if nothing was kept. None if nothing
    was decided. With `precision="reduced"` the ends are as exact as the deltas.
    """
    if not trace:
        return None
    compared = [(abs(d.delta) if absolute else d.delta, d.kept) for d in trace]
    low = max((value for value, kept in compared if not kept), default=0.0)
    high = min((value for value, kept in compared if kept), default=math.inf)
    return max(low, 0.0), high
