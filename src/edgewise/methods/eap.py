"""Edge attribution patching: what each edge is worth, to first order, from a few passes.

EAP (Syed et al. 2023, arXiv 2310.10348). One run on the clean prompts and its gradients give

    score(s, r) = mean over prompts of sum over positions, channels of
                  (ablated(s) - clean(s)) dL / d input(r)

for all edges at once: the rise of the loss L if s->r carried its ablation, were L linear.

EAP-IG (Hanna et al. 2024, arXiv 2403.17806) takes the gradient not at the clean run alone, where it
may vanish or saturate, but as a mean over points on the way there:

- over inputs: the embeddings are ablation + alpha (clean - ablation), alpha = k/steps for
  k = 0 … steps-1 as in the authors' code, or midpoints (k + 1/2)/steps, which are closer to the
  integral. The scores of the edges that leave the input then sum to L(ablation) - L(clean).
- over activations: one layer's heads or MLP (or the embeddings) at a time are interpolated, all
  else runs on, alpha = k/steps for k = 1 … steps; a mean over layers and points.

Clean-corrupted is the mean of the gradients at the clean and at the ablation input.

RelP (arXiv 2508.21258) is EAP with a gentler backward pass, that of layer-wise relevance
propagation. Forward values do not change.

- norms: the denominator is a constant (LN rule);
- activation functions: f(x) = x * (f(x)/x) with the ratio a constant (identity rule).

Where we differ: scores are means over prompts (EAP-IG divides by their number once more where the
metric is a mean already) and positive where removing the edge hurts. Any ablation will do, not
only corrupted prompts, and switches have scores too. RelP's authors also take attention patterns as
constants, which leaves queries and keys without relevance; here the softmax keeps its gradient, so
that edges into them have scores. What it is worth beside EAP is in docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.graph import Graph
from edgewise.methods.gradients import (
    RemovalChanges,
    WatchedRun,
    check_gradient,
    clean_run,
    edge_scores,
    is_flat,
    run_with_gradients,
)
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import EAPIGSettings, SelectionSettings
from edgewise.patching import AblatedValues
from edgewise.problem import Problem

MEANING = "rise of the loss if the edge were removed, to first order"
# alpha, and the senders that are interpolated: their first row, and how many there are.
Point = tuple[float, int, int]


def eap(problem: Problem, settings: SelectionSettings, session: Session = QUIET) -> MethodResult:
    """Scores from the gradient at the clean run. Raises `MetricError`."""
    return attributed(problem, settings, session, method="eap")


def relp(problem: Problem, settings: SelectionSettings, session: Session = QUIET) -> MethodResult:
    """Scores of the linearised backward pass. Raises `MetricError`."""
    linear = problem.with_(model=problem.model.linearised())
    result = attributed(linear, settings, session, method="relp")
    work = problem.evaluator(problem.graph).work  # what the other model cost was for this problem
    forward, backward = linear.passes()
    work.forward_passes += forward
    work.backward_passes += backward
    return result


def clean_corrupted(
    problem: Problem, settings: SelectionSettings, session: Session = QUIET
) -> MethodResult:
    """Scores from the gradients at the clean and at the ablation input. Raises `MetricError`."""
    n = _groups(problem.graph)[0][1]
    points = [(1.0, 0, n), (0.0, 0, n)]
    return attributed(problem, settings, session, method="clean-corrupted", points=points)


def eap_ig(problem: Problem, settings: EAPIGSettings, session: Session = QUIET) -> MethodResult:
    """Scores from the mean gradient on the way to the ablation. Raises `MetricError`."""
    shift = 0.5 if settings.points == "midpoints" else float(settings.over == "activations")
    alphas = [(k + shift) / settings.steps for k in range(settings.steps)]
    groups = _groups(problem.graph)
    if settings.over == "inputs":
        groups = groups[:1]
    points = [(alpha, first, n) for first, n in groups for alpha in alphas]
    return attributed(problem, settings, session, method="eap-ig", points=points)


def _groups(graph: Graph) -> list[tuple[int, int]]:
    """(first row, number of rows) of the embeddings, then of each layer's heads and its MLP."""
    graph = graph.whole
    groups = [(0, 2 if graph.split_embed else 1)]
    for layer in range(graph.n_layers):
        heads = graph.attention_nodes[layer]
        first = graph.row[heads[0]]
        groups.append((first, len(heads)))
        groups += [(first + len(heads), 1)] if graph.mlps else []
    return groups


def attributed(
    problem: Problem,
    settings: SelectionSettings,
    session: Session,
    *,
    method: str,
    points: Sequence[Point] = (),
    scores_of: Callable[[Problem, WatchedRun, RemovalChanges], Tensor] = edge_scores,
    meaning: str = MEANING,
) -> MethodResult:
    """The mean of scores over points; without any, at the clean run. Raises `MetricError`."""
    graph = problem.graph
    evaluator = problem.evaluator(graph)
    total = torch.zeros(graph.exists.shape, dtype=torch.float64)
    n_points = len(points) or 1
    steepness = 0.0
    done = 0
    steps = n_points * len(problem.pairs.batches(problem.batch_size))
    for pairs, ablation in evaluator.ablations():
        clean = clean_run(problem, pairs) if points else run_with_gradients(problem, pairs)
        changes = clean.changes(ablation)
        at_points = (_run_at(point, problem, clean, ablation) for point in points)
        for watched in at_points if points else [clean]:
            total += scores_of(problem, watched, changes)
            steepness = max(steepness, watched.steepness)
            done += 1
            session.tell(done, steps, f"{len(pairs)} prompts")
    scores = EdgeScores(graph, total / (n_points * len(problem.pairs)), method, meaning)
    if not points:
        check_gradient(problem, method, steepness)
    note = f"The gradient is zero wherever {method} takes it: these scores are rounding noise."
    notes = (note,) if is_flat(problem, steepness) else ()
    return MethodResult(settings.circuit(scores), scores, notes=notes)


def _run_at(
    point: Point, problem: Problem, clean: WatchedRun, ablation: AblatedValues
) -> WatchedRun:
    """A run with gradients whose senders at the point are between their ablation and clean."""
    alpha, first, n = point
    rows = range(first, first + n)
    values = alpha * clean.senders.minus(ablation.senders).dense(rows)
    if ablation.senders is not None:
        values += ablation.senders.dense(rows)
    return run_with_gradients(
        problem, clean.pairs, clean_logits=clean.logits, replaced={first: values}
    )
