"""The decisions of a run: those known beforehand, then new ones, each kept in the session."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import EdgeTest, Loss, ReceiverStep
from edgewise.errors import FormatError
from edgewise.graph import Edge, Graph
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.session import QUIET, Session

# Decides whether the edges of a test are kept: by a threshold, or by a test over prompts.
Rule = Callable[[EdgeTest], bool]


class Trace:
    """The decisions of one run, in order.

    `known` are the first of them, as an earlier run took them: a stopped one, from the session, or
    one with a neighbouring threshold, as far as both decide alike. They are not tested again.
    """

    def __init__(
        self,
        graph: Graph,
        keeps: Rule,
        session: Session = QUIET,
        *,
        known: Sequence[Decision] | None = None,
    ) -> None:
        self.decisions: list[Decision] = []
        self._n_skipped = 0  # edges removed without a test
        self.graph = graph
        self.keeps = keeps
        self._session = session
        self._known = session.decisions(graph) if known is None else known
        self._deltas = torch.zeros(graph.exists.shape, dtype=torch.float64)

    def known(self, step: ReceiverStep) -> Iterator[EdgeTest]:
        """The step's tests that are known. Raises `FormatError` for those of another run."""
        decisions = self._known[len(self.decisions) :]
        for edge, decision in zip(step.edges[step.untested :], decisions, strict=False):
            if decision.edge != edge:
                raise FormatError(
                    f"decisions of another run: found {decision.edge.name} where this one decides "
                    f"{edge.name}."
                )
            test = test_of(decision)
            if self.keeps(test) != decision.kept:
                raise FormatError(
                    f"the decision about {edge.name} contradicts itself: with its delta or its "
                    f"p-values the edge is not {'kept' if decision.kept else 'removed'}."
                )
            yield test

    def record(self, test: EdgeTest, *, kept: bool) -> None:
        """Note the decision about a test's edges; the session keeps it unless it was known."""
        loss = (test.before if kept else test.without).value
        for edge in test.edges:
            decision = Decision(
                edge, test.delta, kept, loss, test.evidence, bound=test.bound, rung=test.rung
            )
            self.decisions.append(decision)
            entry = self.graph.row[edge.sender], self.graph.column[edge.receiver]
            self._deltas[entry] = test.delta
            if len(self.decisions) > len(self._known):
                self._session.keep(decision)
                done = len(self.decisions) + self._n_skipped
                self._session.tell(done, self.graph.n_edges, f"loss {loss:.4g}")

    def skip(self, edges: Sequence[Edge]) -> None:
        """Note that edges were removed without a test."""
        self._n_skipped += len(edges)

    def finish(self) -> None:
        """Raise `FormatError` if decisions were known that this run does not take."""
        if len(self.decisions) < len(self._known):
            left = len(self._known) - len(self.decisions)
            raise FormatError(f"decisions of another run: {left} too many.")
        self._session.tell(self.graph.n_edges, self.graph.n_edges, "done")

    def result(self, circuit: Circuit, *, method: str, meaning: str, variants: int) -> MethodResult:
        """What the decisions led to; scores are each edge's delta, 0 where it was not tested."""
        return MethodResult(
            circuit,
            EdgeScores(self.graph, self._deltas, method, meaning),
            trace=tuple(self.decisions),
            edge_tests=len(self.decisions),
            edges_skipped=self._n_skipped,
            variants=variants,
        )


def test_of(decision: Decision) -> EdgeTest:
    """The test that a decision was taken by; only the loss that it led to is known, as both."""
    loss = Loss(decision.loss, decision.bound, decision.rung)
    return EdgeTest(
        (decision.edge,),
        loss,
        loss,
        delta=decision.delta,
        bound=decision.bound,
        rung=decision.rung,
        evidence=decision.evidence,
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
