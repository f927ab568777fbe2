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

from edgewise.engine import EdgeTest, ReceiverStep, SpeculativeBatch, SpeculativeEngine, Threshold
from edgewise.methods import METHODS
from edgewise.methods.acdc import acdc, decide_edges
from edgewise.methods.execution import run_method
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import (
    OrderedACDCSettings,
    ScreenedACDCSettings,
    ThresholdSettings,
)
from edgewise.methods.steps import receiver_steps
from edgewise.methods.trace import Trace
from edgewise.problem import Problem


def acdc_ordered(
    problem: Problem, settings: OrderedACDCSettings, session: Session = QUIET
) -> MethodResult:
    """ACDC that tests the least attributed edge of each receiver first."""
    return _attributed(problem, settings, session, screen=0.0)


def acdc_screened(
    problem: Problem, settings: ScreenedACDCSettings, session: Session = QUIET
) -> MethodResult:
    """ACDC on what is left without the least attributed edges."""
    return _attributed(problem, settings, session, screen=settings.screen)


def _attributed(
    problem: Problem, settings: OrderedACDCSettings, session: Session, *, screen: float
) -> MethodResult:
    """ACDC with each receiver's least attributed edges first, those to screen out untested.

    Edges that tie are in ACDC's order.
    """
    graph = problem.graph
    row = METHODS[settings.attribution]
    attributed = run_method(row, problem, row.resolve({}))
    scores = attributed.scores
    left = scores.top(graph.n_edges - round(screen * graph.n_edges), absolute=True)
    steps = []
    for step in receiver_steps(graph, settings.head_order):
        edges = sorted(step.edges, key=lambda edge: (edge in left, abs(scores.of(edge))))
        untested = sum(edge not in left for edge in edges)
        steps.append(ReceiverStep(step.receiver, tuple(edges), untested))
    result = acdc(problem, settings, session, steps=steps)
    return replace(result, notes=attributed.notes)


def acdc_bisect(
    problem: Problem, settings: ThresholdSettings, session: Session = QUIET
) -> MethodResult:
    """ACDC that removes groups of edges."""
    settings.check_ablation(problem.ablation.kind)
    graph = problem.graph
    rule = Threshold(settings.threshold, settings.absolute)
    unkept = Session(session.on_progress)  # half a group cannot be resumed
    engine = _BisectingEngine(problem, rule)
    trace = Trace(graph, rule.keeps, unkept)
    steps = receiver_steps(graph, settings.head_order)
    circuit = decide_edges(steps, engine, trace)
    circuit = circuit.pruned() if settings.prune else circuit
    meaning = "rise of the loss when its group went"
    result = trace.result(circuit, method="acdc-bisect", meaning=meaning, variants=engine.variants)
    return replace(result, edge_tests=engine.variants)


class _BisectingEngine(SpeculativeEngine):
    """Tests the largest group of the next edges that can be removed, or the next edge alone."""

    def _tests(self) -> Iterator[EdgeTest]:
        step = self.turn.step
        self.loss = self._ladder.start(self.turn, self.loss)
        while self.turn.next < len(step.edges):
            yield self._largest()
        self._ladder.removals.remove(step, self.turn.removed)

    def _largest(self) -> EdgeTest:
        turn = self.turn
        step = turn.step
        n = len(step.edges) - turn.next
        sizes = [n >> halvings for halvings in range(n.bit_length())]  # n, half of it, … 1
        groups = [tuple(range(turn.next, turn.next + size)) for size in sizes]
        batches = [SpeculativeBatch.of(turn.removed + group) for group in groups]
        losses = self._ladder.removals.losses(step, *batches)
        for group, without in zip(groups, losses, strict=True):
            edges = tuple(step.edges[index] for index in group)
            test = self._ladder.test(turn, edges, before=self.loss, without=without)
            if self._threshold.removes(test.delta):
                break
        return test
