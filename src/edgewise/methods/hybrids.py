"""ACDC with help: attribution says what to test first, or what not to test; or groups are tested.

- acdc-ordered: within each receiver, the least attributed edge is tested first, so that an edge is
  judged when the ones that matter less are gone. The order of receivers is ACDC's.
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

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import Path, Removals
from edgewise.graph import Edge, Port
from edgewise.methods import METHODS
from edgewise.methods.acdc import check_prune, run_search
from edgewise.methods.edge_tests import loss_without
from edgewise.methods.execution import run_method
from edgewise.methods.journal import NO_JOURNAL, Journal
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.search import Visit
from edgewise.methods.settings import (
    BisectingACDCSettings,
    OrderedACDCSettings,
    ScreenedACDCSettings,
)
from edgewise.methods.visits import is_read, visits
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress


def acdc_ordered(
    problem: Problem,
    settings: OrderedACDCSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """ACDC that tests the least attributed edge of each receiver first."""
    finding, scores = _attribution(problem, settings.attribution)
    plan = _by_score(problem, settings, scores)
    return replace(run_search(problem, settings, plan, on_progress, journal), notes=finding.notes)


def acdc_screened(
    problem: Problem,
    settings: ScreenedACDCSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """ACDC on what is left without the least attributed edges."""
    graph = problem.graph
    finding, scores = _attribution(problem, settings.attribution)
    n_left = graph.n_edges - round(settings.screen * graph.n_edges)
    left = scores.top(n_left, absolute=True).keep
    plan = []
    for visit in _by_score(problem, settings, scores):
        out = [edge for edge in visit.candidates if not left[graph.index(edge)]]
        rest = [edge for edge in visit.candidates if left[graph.index(edge)]]
        plan.append(Visit(visit.receiver, out + rest, untested=len(out)))
    return replace(run_search(problem, settings, plan, on_progress, journal), notes=finding.notes)


def _attribution(problem: Problem, method: str) -> tuple[MethodResult, EdgeScores]:
    row = METHODS[method]
    finding = run_method(row, problem, row.resolve({}))
    return finding, finding.scores


def _by_score(problem: Problem, settings: OrderedACDCSettings, scores: EdgeScores) -> list[Visit]:
    """ACDC's visits, each with its least attributed edge first; ties in ACDC's order."""
    return [
        Visit(receiver, sorted(candidates, key=lambda edge: abs(scores.of(edge))))
        for receiver, candidates in visits(problem.graph, settings.head_order)
    ]


def acdc_bisect(
    problem: Problem,
    settings: BisectingACDCSettings,
    on_progress: OnProgress = ignore_progress,
) -> MethodResult:
    """ACDC that removes groups of edges."""
    check_prune(problem, settings)
    graph = problem.graph
    keep, deltas = graph.exists.clone(), torch.zeros(graph.exists.shape, dtype=torch.float64)
    groups, trace, skipped = _Groups(problem, settings), list[Decision](), 0
    for receiver, candidates in visits(graph, settings.head_order):
        if not is_read(graph, keep, receiver, candidates[0].is_switch):
            for edge in candidates:
                keep[graph.index(edge)] = False
            skipped += len(candidates)
            continue
        for index, size, delta, kept in groups.decide(receiver, candidates, keep):
            for edge in candidates[index : index + size]:
                at = graph.index(edge)
                keep[at], deltas[at] = kept, delta
                trace.append(Decision(edge, delta, kept, groups.loss))
            on_progress(Progress(len(trace) + skipped, graph.n_edges, f"loss {groups.loss:.4g}"))
    circuit = Circuit(graph, keep)
    return MethodResult(
        circuit=circuit.pruned() if settings.prune else circuit,
        scores=EdgeScores(graph, deltas, "acdc-bisect", "rise of the loss when its group went"),
        trace=tuple(trace),
        edge_tests=groups.removals.effort.variants,
        edges_skipped=skipped,
        variants=groups.removals.effort.variants,
    )


class _Groups:
    """Decides about groups of edges into one receiver after the other."""

    def __init__(self, problem: Problem, settings: BisectingACDCSettings) -> None:
        self._problem, self._settings = problem, settings
        self.removals = Removals(problem)
        self.loss = problem.loss(Circuit.full(problem.graph))

    def decide(
        self, receiver: Port, candidates: list[Edge], keep: Bool[Tensor, "sender receiver"]
    ) -> Iterator[tuple[int, int, float, bool]]:
        """(first candidate, how many, delta, whether they stay), in order.

        The caller clears `keep` for what is removed.
        """
        self.removals.enter(receiver.node, keep)
        gone: tuple[int, ...] = ()
        start = 0
        while start < len(candidates):
            sizes = _sizes(len(candidates) - start)
            groups = [tuple(range(start, start + size)) for size in sizes]  # the largest first
            paths = [Path.one((*gone, *group[:-1]), group[-1]) for group in groups]
            losses = self.removals.losses(receiver, candidates, *paths)
            for group, (without, _) in zip(groups, losses, strict=True):
                delta = self._delta(keep, [candidates[i] for i in group], without)
                kept = not self._compared(delta) < self._settings.threshold
                if not kept:
                    gone, self.loss = (*gone, *group), without
                    break
            yield start, len(group), delta, kept
            start += len(group)
        self.removals.remove(receiver, candidates, gone)

    def _compared(self, delta: float) -> float:
        return abs(delta) if self._settings.absolute else delta

    def _delta(
        self, keep: Bool[Tensor, "sender receiver"], group: list[Edge], without: float
    ) -> float:
        """The group's delta; by the plain evaluator if it is within rounding of the threshold."""
        delta, graph = without - self.loss, self._problem.graph
        eps = torch.finfo(self._problem.model.dtype).eps
        noise = 64 * eps * max(1.0, abs(self.loss))
        if abs(self._compared(delta) - self._settings.threshold) > noise:
            return delta
        less = keep.clone()
        for edge in group:
            less[graph.index(edge)] = False
        return loss_without(self._problem, less) - loss_without(self._problem, keep)


def _sizes(n: int) -> list[int]:
    """n, half of it, a quarter, … 1."""
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes
