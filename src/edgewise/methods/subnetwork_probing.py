"""Subnetwork Probing: a circuit is what a learned mask leaves.

Cao et al. 2021 (arXiv 2104.03514), as modified by Conmy et al. 2023 (arXiv 2304.14997): no
probe is trained, the model's weights are fixed.

    1. One hard concrete mask m (training.py) for every head's q, k and v
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
from edgewise.methods.masking import Masking
from edgewise.methods.method_result import MethodResult
from edgewise.methods.node_masks import (
    NodeMasking,
    circuit_of_activations,
    masked_activations,
    masked_sites,
    scores_of_activations,
)
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import SPEdgesSettings, SPSettings
from edgewise.methods.training import INITIAL_THETA, HardConcrete, train
from edgewise.problem import Problem


def sp(problem: Problem, settings: SPSettings, session: Session = QUIET) -> MethodResult:
    """The circuit that masks on q, k, v and MLPs leave. Raises `MetricError`."""
    graph = problem.graph
    masking = NodeMasking(problem)
    group, n_groups = _groups(graph)
    if settings.dead_mlp_masks and not graph.mlps:
        n_groups += graph.n_layers
    masks = GroupedMasks(masking.parameters(INITIAL_THETA), settings, group, n_groups)
    values, kept = _trained(masking, masks, settings, session=session)
    meaning = "mean mask of the activations that govern the edge"
    scores = scores_of_activations(graph, values, method="sp", meaning=meaning)
    notes = _notes(values, f"{int(kept.sum())} of {len(kept)} activations")
    return MethodResult(circuit_of_activations(graph, kept), scores, notes=notes)


def sp_edges(problem: Problem, settings: SPEdgesSettings, session: Session = QUIET) -> MethodResult:
    """The circuit that masks on edges leave. Raises `MetricError`."""
    graph = problem.graph
    masking = EdgeMasking(problem)
    alike = torch.zeros(masking.n_masks, dtype=torch.int64)
    masks = GroupedMasks(masking.parameters(INITIAL_THETA), settings, alike, 1)
    values, kept = _trained(masking, masks, settings, session=session)
    scores = EdgeScores(graph, masking.matrix(values), "sp-edges", "mean mask of the edge")
    circuit = Circuit(graph, masking.matrix(kept))
    return MethodResult(circuit, scores, notes=_notes(values, f"{circuit.n_edges} edges"))


class GroupedMasks(HardConcrete):
    """Hard concrete masks whose groups weigh alike, however many masks each has.

    The penalty is lambda R, R the mean over groups of a group's mean P(m > 0); `group` says which
    group each mask belongs to. A group without masks takes its share of the mean all the same.
    """

    def __init__(
        self,
        theta: Float[Tensor, "mask"],
        settings: SPEdgesSettings,
        group: Int[Tensor, "mask"],
        n_groups: int,
    ) -> None:
        super().__init__(theta)
        self._weight = settings.regularisation
        self._n_groups = n_groups
        self._counts = torch.bincount(group, minlength=n_groups)[group].to(theta.device)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        """lambda R; it does not change from step to step."""
        return self._weight * ((self.chance() / self._counts).sum() / self._n_groups)


def _groups(graph: Graph) -> tuple[Int[Tensor, "mask"], int]:
    """Each mask's tensor in the paper's sense: a layer's q, k, v or MLP masks; and how many."""
    group = torch.zeros(len(masked_activations(graph.whole)), dtype=torch.int64)
    n = 0
    for site in masked_sites(graph):
        if site.what in ("k", "v") and not graph.split_qkv:
            continue  # q, k and v share a mask
        group[graph.columns[site]] = n
        n += 1
    return group.repeat_interleave(len(graph.spans or [None])), n


def _trained(
    masking: Masking,
    masks: HardConcrete,
    settings: SPEdgesSettings,
    *,
    session: Session,
) -> tuple[Float[Tensor, "mask"], Bool[Tensor, "mask"]]:
    """The mean of every mask after training, and which are kept."""
    generator = train(masking, masks, settings, session=session)
    values = masks.means()
    if settings.binarise == "threshold":
        return values, values >= 0.5
    return values, (masks.draw(generator).detach() >= 0.5).cpu()


def _notes(values: Float[Tensor, "mask"], kept: str) -> tuple[str, ...]:
    """A warning if training left masks undecided."""
    undecided = int(((values > 0.1) & (values < 0.9)).sum())
    if not undecided:
        return ()
    return (
        f"{undecided} of {len(values)} masks are undecided (mean between 0.1 and 0.9); the "
        f"circuit's {kept} depend on where they were cut. Train longer, or vary `regularisation`.",
    )
