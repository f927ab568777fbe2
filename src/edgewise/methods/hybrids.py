"""ACDC with help: attribution says what to test first, or what not to test; or groups are tested.

- acdc-ordered: within each receiver, the least attributed edge is tested first, so that an edge is
  tested when the ones that matter less are removed. The order of receivers is ACDC's.
- acdc-screened: first the least attributed share of all edges is removed without a test, receiver
  by receiver, then ACDC decides about the rest, least attributed first.
- acdc-bisect: within each receiver, all remaining edges are removed together if the loss rises by
  less than the threshold, else the first half of them, the first quarter, and so on down to one
  edge, which stays if it alone is too much. O(kept * log n) tests. A group that is removed may
  contain edges that ACDC would keep, if others in it make up for them.

Each is exact in what it says it does; none gives ACDC's circuit. The scores of the first two are
ACDC's deltas; bisecting gives every edge of a group the group's delta.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import EdgeTest, ReceiverStep, SpeculativeBatch, SpeculativeEngine, Threshold
from edgewise.methods import METHODS
from edgewise.methods.acdc import acdc_in_steps, check_prune, decide_edges
from edgewise.methods.execution import run_method
from edgewise.methods.method_result import MethodResult
from edgewise.methods.run_journal import NO_JOURNAL, RunJournal
from edgewise.methods.settings import (
    BisectingACDCSettings,
    OrderedACDCSettings,
    ScreenedACDCSettings,
)
from edgewise.methods.steps import receiver_steps
from edgewise.methods.trace import Trace
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress


def acdc_ordered(
    problem: Problem,
    settings: OrderedACDCSettings,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
) -> MethodResult:
    """ACDC that tests the least attributed edge of each receiver first."""
    attributed = _attribution(problem, settings.attribution)
    steps = _by_score(problem, settings, attributed.scores)
    result = acdc_in_steps(problem, settings, steps, on_progress=on_progress, journal=journal)
    return replace(result, notes=attributed.notes)


def acdc_screened(
    problem: Problem,
    settings: ScreenedACDCSettings,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
) -> MethodResult:
    """ACDC on what is left without the least attributed edges."""
    graph = problem.graph
    attributed = _attribution(problem, settings.attribution)
    n_left = graph.n_edges - round(settings.screen * graph.n_edges)
    left = attributed.scores.top(n_left, absolute=True)
    steps = []
    for step in _by_score(problem, settings, attributed.scores):
        edges = tuple(sorted(step.edges, key=lambda edge: edge in left))  # stable
        untested = sum(edge not in left for edge in edges)
        steps.append(ReceiverStep(step.receiver, edges, untested))
    result = acdc_in_steps(problem, settings, steps, on_progress=on_progress, journal=journal)
    return replace(result, notes=attributed.notes)


def acdc_bisect(
    problem: Problem,
    settings: BisectingACDCSettings,
    on_progress: OnProgress = ignore_progress,
) -> MethodResult:
    """ACDC that removes groups of edges."""
    check_prune(problem, settings)
    graph, rule = problem.graph, Threshold(settings.threshold, settings.absolute)
    engine, trace = _BisectingEngine(problem, rule), Trace(graph, rule, on_progress=on_progress)
    steps = receiver_steps(graph, settings.head_order)
    circuit = decide_edges(steps, Circuit.full(graph), engine=engine, rule=rule, trace=trace)
    return MethodResult(
        circuit=circuit.pruned() if settings.prune else circuit,
        scores=trace.scores("acdc-bisect", "rise of the loss when its group went"),
        trace=tuple(trace.decisions),
        edge_tests=engine.variants,
        edges_skipped=trace.skipped,
        variants=engine.variants,
    )


class _BisectingEngine(SpeculativeEngine):
    """Tests the largest group of the next edges that can be removed, or the next edge alone."""

    def _tests(self) -> Iterator[EdgeTest]:
        step = self.turn.step
        self.loss = self._ladder.start(self.turn, self.loss)
        while self.turn.next < len(step.edges):
            yield self._largest()
        self._ladder.removals.remove(step, self.turn.removed)

    def _largest(self) -> EdgeTest:
        step, turn = self.turn.step, self.turn
        sizes = _sizes(len(step.edges) - turn.next)  # the largest first
        groups = [tuple(range(turn.next, turn.next + size)) for size in sizes]
        batches = [SpeculativeBatch.of(turn.removed + group) for group in groups]
        losses = self._ladder.removals.losses(step, *batches)
        for group, without in zip(groups, losses, strict=True):
            edges = tuple(step.edges[index] for index in group)
            test = self._ladder.test(turn, edges, before=self.loss, without=without)
            if self._threshold.removes(test.delta):
                break
        return test


def _attribution(problem: Problem, method: str) -> MethodResult:
    row = METHODS[method]
    return run_method(row, problem, row.resolve({}))


def _by_score(
    problem: Problem, settings: OrderedACDCSettings, scores: EdgeScores
) -> list[ReceiverStep]:
    """ACDC's steps, each with its least attributed edge first; ties in ACDC's order."""
    return [
        replace(step, edges=tuple(sorted(step.edges, key=lambda edge: abs(scores.of(edge)))))
        for step in receiver_steps(problem.graph, settings.head_order)
    ]


def _sizes(n: int) -> list[int]:
    """n, half of it, a quarter, … 1."""
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes
