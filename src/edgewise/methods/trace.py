"""The decisions of a run: those known beforehand, then new ones, each kept in a journal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch

from edgewise.circuit import EdgeScores
from edgewise.engine import EdgeTest, Loss, ReceiverStep
from edgewise.errors import FormatError
from edgewise.graph import Edge, Graph
from edgewise.methods.method_result import Decision
from edgewise.methods.run_journal import NO_JOURNAL, RunJournal
from edgewise.progress import OnProgress, Progress, ignore_progress


@runtime_checkable
class Rule(Protocol):
    """Decides from a test whether edges are kept: `Threshold`, or a test over prompts."""

    def keeps(self, test: EdgeTest) -> bool:
        """Whether the edges of the test are kept."""
        ...

    def basis(self, test: EdgeTest) -> str:
        """What that rests on, in words."""
        ...


class Trace:
    """The decisions of one run, in order.

    `known` are the first of them, as an earlier run took them: a stopped one, from its journal, or
    one with a neighbouring threshold, as far as both decide alike. They are not tested again.
    """

    def __init__(
        self,
        graph: Graph,
        rule: Rule,
        *,
        known: Sequence[Decision] = (),
        journal: RunJournal = NO_JOURNAL,
        on_progress: OnProgress = ignore_progress,
    ) -> None:
        self.decisions: list[Decision] = []
        self.skipped = 0  # edges removed without a test
        self._graph, self._rule, self._known = graph, rule, known
        self._n_edges = graph.n_edges
        self._journal, self._on_progress = journal, on_progress
        self._deltas = torch.zeros(graph.exists.shape, dtype=torch.float64)

    def known(self, step: ReceiverStep) -> Iterator[EdgeTest]:
        """The step's tests that are known. Raises `FormatError` for those of another run."""
        for edge in step.edges[step.untested :]:
            if len(self.decisions) >= len(self._known):
                return
            decision = self._known[len(self.decisions)]
            if decision.edge != edge:
                raise FormatError(
                    f"decisions of another run: found {decision.edge.name} where this one decides "
                    f"{edge.name}."
                )
            test = test_of(decision)
            if self._rule.keeps(test) != decision.kept:
                raise FormatError(
                    f"the decision about {edge.name} contradicts itself: {self._rule.basis(test)} "
                    f"the edge is not {'kept' if decision.kept else 'removed'}."
                )
            yield test

    def record(self, test: EdgeTest, *, kept: bool) -> None:
        """Note the decision about a test's edges; journal it unless it was known."""
        loss = test.before if kept else test.without
        for edge in test.edges:
            new = len(self.decisions) >= len(self._known)
            how = test.evidence, test.bound, test.rung
            decision = Decision(edge, test.delta, kept, loss.value, *how)
            self.decisions.append(decision)
            self._deltas[self._graph.index(edge)] = test.delta
            if new:
                self._journal.append(decision)
                done = len(self.decisions) + self.skipped
                self._on_progress(Progress(done, self._n_edges, f"loss {loss.value:.4g}"))

    def skip(self, edges: Sequence[Edge]) -> None:
        """Note that edges were removed without a test."""
        self.skipped += len(edges)

    def finish(self) -> None:
        """Raise `FormatError` if decisions were known that this run does not take."""
        if len(self.decisions) < len(self._known):
            left = len(self._known) - len(self.decisions)
            raise FormatError(f"decisions of another run: {left} too many.")
        self._on_progress(Progress(self._n_edges, self._n_edges, "done"))

    def scores(self, method: str, meaning: str) -> EdgeScores:
        """Each edge's delta, 0 where it was not tested."""
        return EdgeScores(self._graph, self._deltas, method, meaning)


def test_of(decision: Decision) -> EdgeTest:
    """The test that a decision was taken by; only the loss that it led to is known, as both."""
    loss = Loss(decision.loss, decision.bound, decision.rung)
    return EdgeTest(
        (decision.edge,),
        loss,
        loss,
        decision.delta,
        decision.bound,
        decision.rung,
        decision.evidence,
    )


def threshold_interval(trace: Sequence[Decision], *, absolute: bool) -> tuple[float, float] | None:
    """(low, high): every threshold above `low`, up to and including `high`, decides as `trace`.

    `low` is 0 if no removal raised the loss, `high` infinite if nothing was kept. None if nothing
    was decided. Where deltas are estimates the ends are as exact as those.
    """
    if not trace:
        return None
    compared = [(abs(d.delta) if absolute else d.delta, d.kept) for d in trace]
    low = max((value for value, kept in compared if not kept), default=0.0)
    high = min((value for value, kept in compared if kept), default=math.inf)
    return max(low, 0.0), high
