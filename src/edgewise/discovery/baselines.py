"""Baselines: scores that know little, for methods to beat.

- random: uniform numbers of a seed.
- magnitude: how much what the edge carries would change, |reference(s) - clean(s)| (root of the sum
  over positions and channels, mean over prompts), the same for every receiver. What a method adds
  to this is what it knows of the effect.
"""

from __future__ import annotations

import torch

from edgewise.circuit import EdgeScores
from edgewise.discovery.finding import Finding, OnProgress, Progress, ignore_progress
from edgewise.discovery.gradients import clean_run
from edgewise.discovery.journal import NO_JOURNAL, Journal
from edgewise.discovery.selection import select
from edgewise.problem import Problem
from edgewise.settings import MagnitudeSettings, RandomSettings


def random(
    problem: Problem,
    settings: RandomSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> Finding:
    """Scores drawn uniformly from [0, 1)."""
    generator = torch.Generator().manual_seed(settings.seed)
    values = torch.rand(problem.graph.exists.shape, generator=generator, dtype=torch.float64)
    scores = EdgeScores(problem.graph, values, "random", "uniform random number")
    return Finding(select(scores, settings), scores)


def magnitude(
    problem: Problem,
    settings: MagnitudeSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> Finding:
    """How much what each sender writes would change."""
    graph, evaluator = problem.graph, problem.evaluator(problem.graph)
    total = torch.zeros(len(graph.senders), dtype=torch.float64)
    switches = torch.zeros(graph.exists.shape, dtype=torch.float64)
    done = 0
    for pairs, reference in evaluator.references():
        clean = clean_run(problem, pairs)
        real = pairs.real.to(problem.model.device)
        change = clean.senders.minus(reference.senders).dense() * real[None, :, :, None]
        total += change.flatten(2).norm(dim=2).sum(dim=1).double().cpu()
        for site, vectors in reference.vectors.items():
            moved = (vectors - clean.vectors[site]) * real[None, :, :, None]
            sizes = moved.transpose(0, 1).flatten(2).norm(dim=2).sum(dim=0).double().cpu()
            columns = graph.columns(site)
            sizes = sizes if graph.split_heads else sizes.norm()[None]
            switches[:, columns] += graph.is_switch[:, columns] * sizes
        done += len(pairs)
        on_progress(Progress(done, len(problem.pairs), "prompts"))
    values = total[:, None].expand(graph.exists.shape).where(~graph.is_switch, switches)
    values = values / len(problem.pairs)
    scores = EdgeScores(graph, values, "magnitude", "size of the change in what is sent")
    return Finding(select(scores, settings), scores)
