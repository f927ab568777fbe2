"""Subnetwork Probing: a circuit is what a learned mask leaves.

Cao et al. 2021 (arXiv 2104.03514), as modified by Conmy et al. 2023 (arXiv 2304.14997, spec
section 3): no probe is trained, the model's weights are fixed.

    1. One hard concrete mask m (`edgewise.methods.hard_concrete`) for every head's q, k and v
       vector (after the bias) and every MLP's output.
    2. In each of `steps` steps: draw every mask, replace each x by m x + (1 - m) ablation, and
       take a step of Adam (constant rate, all prompts) on loss + lambda R, where R is the mean,
       over each layer's q, k, v and MLP masks, of the mean P(m > 0) among them.
    3. Binarise: by the mean mask, or by one more draw, at 1/2.
    4. From activations to edges in one shot. A masked q, k or v loses its switch and all edges
       into its port; a head that lost all three, and a masked MLP, loses the edges out of it as
       well. All else stays.

`sp_edges` has a mask for every edge of the graph instead, switches among them, and R is the mean
P(m > 0) over all edges.

Where we differ: the mean mask binarises by default (the paper draws, so its circuits are random);
3,000 steps are the default of the authors' program (their sweeps use 10,000). Attention-only models
have no MLP masks; in the paper's runs those exist and do nothing but take a quarter of R, so that
lambda acts as 3/4 lambda (`dead_mlp_masks`). The problem's position permutation applies, which the
paper's SP leaves out. Where ports are joined, q, k and v share one mask.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.graph import Graph
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.hard_concrete import INITIAL_THETA, HardConcrete, mean_mask, sample
from edgewise.methods.method_result import MethodResult
from edgewise.methods.node_masks import (
    NodeMasking,
    circuit_of_activations,
    masked_activations,
    masked_sites,
    scores_of_activations,
)
from edgewise.methods.run_journal import NO_JOURNAL, RunJournal
from edgewise.methods.settings import SPEdgesSettings, SPSettings
from edgewise.methods.training import Masking, parameters_at, train
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress


def sp(
    problem: Problem,
    settings: SPSettings,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
) -> MethodResult:
    """The circuit that masks on q, k, v and MLPs leave. Raises `MetricError`."""
    graph = problem.graph
    group, n_groups = _groups(graph)
    if settings.dead_mlp_masks and not graph.mlps:
        n_groups += graph.n_layers
    masks = _masks(problem, settings, group, n_groups)
    values, kept = _trained(problem, settings, NodeMasking(problem), masks, on_progress, journal)
    meaning = "mean mask of the activations that govern the edge"
    scores = scores_of_activations(graph, values, method="sp", meaning=meaning)
    notes = _notes(values, f"{int(kept.sum())} of {len(kept)} activations")
    return MethodResult(circuit_of_activations(graph, kept), scores, notes=notes)


def sp_edges(
    problem: Problem,
    settings: SPEdgesSettings,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: RunJournal = NO_JOURNAL,
) -> MethodResult:
    """The circuit that masks on edges leave. Raises `MetricError`."""
    graph, masking = problem.graph, EdgeMasking(problem)
    masks = _masks(problem, settings, torch.zeros(masking.n_masks, dtype=torch.int64), 1)
    values, kept = _trained(problem, settings, masking, masks, on_progress, journal)
    scores = EdgeScores(graph, masking.matrix(values), "sp-edges", "mean mask of the edge")
    circuit = Circuit(graph, masking.matrix(kept))
    return MethodResult(circuit, scores, notes=_notes(values, f"{circuit.n_edges} edges"))


def _groups(graph: Graph) -> tuple[Int[Tensor, "mask"], int]:
    """Each mask's tensor in the paper's sense: a layer's q, k, v or MLP masks; and how many."""
    group, n = torch.zeros(len(masked_activations(graph.whole)), dtype=torch.int64), 0
    for site in masked_sites(graph):
        if site.what in ("k", "v") and not graph.split_qkv:
            continue  # q, k and v share a mask
        group[graph.columns[site]] = n
        n += 1
    return group.repeat_interleave(len(graph.spans or [None])), n


def _masks(
    problem: Problem, settings: SPEdgesSettings, group: Int[Tensor, "mask"], n_groups: int
) -> HardConcrete:
    """A mask for each entry of `group`, where the paper starts it."""
    theta = parameters_at(problem, len(group), INITIAL_THETA)
    return HardConcrete(theta, group, n_groups, weight=settings.regularisation)


def _trained(
    problem: Problem,
    settings: SPEdgesSettings,
    masking: Masking,
    masks: HardConcrete,
    on_progress: OnProgress,
    journal: RunJournal,
) -> tuple[Float[Tensor, "mask"], Bool[Tensor, "mask"]]:
    """The mean of every mask after training, and which are kept."""
    generator = train(
        problem, masking, masks, settings=settings, on_progress=on_progress, journal=journal
    )
    values = mean_mask(masks.theta)
    if settings.binarise == "threshold":
        return values, values >= 0.5
    return values, (sample(masks.theta.detach(), generator) >= 0.5).cpu()


def _notes(values: Float[Tensor, "mask"], kept: str) -> tuple[str, ...]:
    """A warning if training left masks undecided."""
    undecided = int(((values > 0.1) & (values < 0.9)).sum())
    if not undecided:
        return ()
    return (
        f"{undecided} of {len(values)} masks are undecided (mean between 0.1 and 0.9); the "
        f"circuit's {kept} depend on where they were cut. Train longer, or vary `regularisation`.",
    )
