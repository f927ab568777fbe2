"""Baselines: scores that know little, for methods to beat.

- random: uniform numbers of a seed.
- magnitude: how much what the edge carries would change, |ablated(s) - clean(s)| (root of the sum
  over positions and channels, mean over prompts), the same for every receiver. What a method adds
  to this is what it knows of the effect.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.methods.gradients import clean_run
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import RandomSettings, SelectionSettings
from edgewise.problem import Problem


def random_scores(
    problem: Problem, settings: RandomSettings, session: Session = QUIET
) -> MethodResult:
    """Scores drawn uniformly from [0, 1)."""
    generator = torch.Generator().manual_seed(settings.seed)
    values = torch.rand(problem.graph.exists.shape, generator=generator, dtype=torch.float64)
    session.tell(problem.graph.n_edges, problem.graph.n_edges, "edges drawn")
    scores = EdgeScores(problem.graph, values, "random", "uniform random number")
    return MethodResult(settings.circuit(scores), scores)


def magnitude(
    problem: Problem, settings: SelectionSettings, session: Session = QUIET
) -> MethodResult:
    """How much what each sender writes would change."""
    graph = problem.graph
    evaluator = problem.evaluator(graph)
    whole = graph.whole
    n_spans = len(graph.spans or [None])
    total = torch.zeros(n_spans, len(whole.senders), dtype=torch.float64)
    switches = torch.zeros(n_spans, *whole.exists.shape, dtype=torch.float64)
    done = 0
    for pairs, ablation in evaluator.ablations():
        clean = clean_run(problem, pairs)
        changes = clean.changes(ablation)
        total += _squares(changes.senders, clean.spans).sqrt().sum(dim=2).cpu()
        for site, change in changes.vectors.items():
            moved = _squares(change, clean.spans)
            moved = moved if whole.split_heads else moved.sum(dim=1, keepdim=True)
            columns = whole.columns[site]
            sizes = moved.sqrt().sum(dim=2).cpu()
            switches[:, :, columns] += whole.is_switch[:, columns] * sizes[:, None]
        done += len(pairs)
        session.tell(done, len(problem.pairs), "prompts")
    values = total[:, :, None].expand(switches.shape).where(~whole.is_switch, switches)
    values = graph.of_spans(values / len(problem.pairs))
    scores = EdgeScores(graph, values, "magnitude", "size of the change in what is sent")
    return MethodResult(settings.circuit(scores), scores)


def _squares(
    change: Float[Tensor, "sender batch pos width"], at: Bool[Tensor, "span batch pos"]
) -> Float[Tensor, "span sender batch"]:
    """The sum of squares over the positions of each span, and over channels."""
    return torch.einsum("nbp,sbp->snb", change.double().square().sum(dim=3), at.double())
