"""Exact patching of every edge: each removed alone from the full model.

    score(e) = F(H \\ e) - F(H)

This is what attribution patching approximates, and what independent ablation studies report. Edges
into the same receiver are evaluated together by the incremental engine; nothing is removed for
good, so the answer does not depend on an order. What several edges do together it cannot say.
"""

from __future__ import annotations

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import Path, Removals
from edgewise.methods.method_result import MethodResult
from edgewise.methods.settings import SelectionSettings
from edgewise.methods.visits import visits
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress


def exact(
    problem: Problem,
    settings: SelectionSettings,
    on_progress: OnProgress = ignore_progress,
) -> MethodResult:
    """How much removing each edge alone raises the loss. Raises `MetricError`."""
    graph, done = problem.graph, 0
    values = torch.zeros(graph.exists.shape, dtype=torch.float64)
    full = problem.loss(Circuit.full(graph))
    removals = Removals(problem)
    for receiver, candidates in visits(graph, "descending"):
        removals.enter(receiver.node, graph.exists)
        most = removals.most_at_once(receiver, candidates)
        for start in range(0, len(candidates), most):
            some = candidates[start : start + most]
            path = Path((), start, goes=(False,) * len(some))
            losses = removals.losses(receiver, candidates, path)
            for edge, (loss, _) in zip(some, losses, strict=True):
                values[graph.index(edge)] = loss - full
            done += len(some)
            on_progress(Progress(done, graph.n_edges, receiver.name))
    scores = EdgeScores(graph, values, "exact", "rise of the loss when the edge alone is removed")
    return MethodResult(
        settings.circuit(scores),
        scores,
        edge_tests=graph.n_edges,
        variants=removals.effort.variants,
    )
