"""Exact patching of every edge: each removed alone from the full model.

    score(e) = F(H \\ e) - F(H)

This is what attribution patching approximates, and what independent ablation studies report. Edges
into the same receiver are evaluated together by the incremental engine; nothing is removed for
good, so the answer does not depend on an order. What several edges do together it cannot say.
"""

from __future__ import annotations

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.engine import Removals
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import SelectionSettings
from edgewise.methods.steps import receiver_steps
from edgewise.problem import Problem


def exact(problem: Problem, settings: SelectionSettings, session: Session = QUIET) -> MethodResult:
    """How much removing each edge alone raises the loss. Raises `MetricError`."""
    graph = problem.graph
    done = 0
    values = torch.zeros(graph.exists.shape, dtype=torch.float64)
    circuit = Circuit.full(graph)
    full = problem.loss(circuit)
    removals = Removals(problem)
    for step in receiver_steps(graph):
        removals.start(step, circuit)
        for edge, loss in removals.alone(step):
            values[graph.index(edge)] = loss - full
        done += len(step.edges)
        session.tell(done, graph.n_edges, step.receiver.name)
    scores = EdgeScores(graph, values, "exact", "rise of the loss when the edge alone is removed")
    circuit = settings.circuit(scores)
    variants = removals.variants
    return MethodResult(circuit, scores, edge_tests=graph.n_edges, variants=variants)
