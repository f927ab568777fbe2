"""The activations that Subnetwork Probing and HISP mask, and a run with masks on them.

A masked activation is a port of the graph, the output's aside: a head's q, k or v vector (after its
bias), an MLP's output; where ports or heads are joined, all that a port feeds is one activation;
where spans of positions are apart, what it is at those positions. They come in the order of
`graph.receivers`, so an activation's number is its port's column. It is also HISP's order: layer by
layer all q, all k, all v, then the MLP.

A masked activation becomes what it is in an ordinary run on the corrupted prompts; for a mean
ablation its mean over a prompt set; for zero nothing, whatever the biases are. That is not always
what removed edges carry: for zero and means these fix what a port *reads*, and its vector follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.data import PromptPairs
from edgewise.graph import SLOTS, Graph, Port, Site
from edgewise.methods.gradients import MethodRun, WatchedRun
from edgewise.methods.masking import Masking
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, SenderOutputs
from edgewise.patching.ablation import means_at_positions, means_over
from edgewise.problem import Problem

# What the activations of each site are: [activation batch pos width], or with batch and pos of 1.
Activations = Mapping[Site, Tensor]


def masked_activations(graph: Graph) -> tuple[Port, ...]:
    """Every masked activation, by its port."""
    return graph.receivers[: -len(graph.spans or [None])]


def masked_sites(graph: Graph) -> list[Site]:
    """The sites that have masked activations, in the order they are computed."""
    sites = []
    for layer in range(graph.n_layers):
        sites += [Site(layer, slot) for slot in SLOTS]
        sites += [Site(layer, "mlp")] if graph.mlps else []
    return sites


# --- from activations to edges


def circuit_of_activations(graph: Graph, kept: Bool[Tensor, "activation"]) -> Circuit:
    """The circuit of the activations kept, in one shot.

    A masked activation loses all edges into its port, its switch among them. A node all of whose
    activations are masked loses all edges out of it. Everything else stays, the embeddings' edges
    too.

    >>> graph = Graph.build(1, 1, mlps=False)
    >>> [edge.name for edge in circuit_of_activations(graph, torch.tensor([False] * 3)).edges]
    ['input->logits']
    """
    values = kept.to(torch.float64)
    return Circuit(graph, (_edge_values(graph, values, 1.0) > 0) & graph.exists)


def scores_of_activations(
    graph: Graph, values: Float[Tensor, "activation"], *, method: str, meaning: str
) -> EdgeScores:
    """Activations' scores, spread to the edges they govern.

    An edge is worth no more than the activation it enters and than the best activation of the node
    it leaves: for a threshold between scores, the edges above it are `circuit_of_activations` of
    those above it. Edges between embeddings and output, which no activation governs, get the
    highest score of all.
    """
    top = max(float(values.max()), 1.0) if len(values) else 1.0
    return EdgeScores(graph, _edge_values(graph, values.double().cpu(), top), method, meaning)


def _edge_values(
    graph: Graph, values: Float[Tensor, "activation"], top: float
) -> Float[Tensor, "sender receiver"]:
    into = torch.cat([values, values.new_full((len(graph.receivers) - len(values),), top)])
    out_of = values.new_full((len(graph.senders),), -torch.inf)
    for value, port in zip(values, masked_activations(graph), strict=True):
        rows = [graph.row[node] for node in graph.fed_by(port)]
        out_of[rows] = torch.maximum(out_of[rows], value)
    out_of = out_of.where(out_of.isfinite() | out_of.isnan(), top)  # embeddings
    return torch.minimum(out_of[:, None], into[None, :])


# --- runs with masks


class NodeMasking(Masking):
    """One mask per activation, shared by prompts, positions and channels."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.n_masks = len(masked_activations(problem.graph))

    @cached_property
    def _ablations(self) -> list[Activations]:
        source = ActivationAblation(self.problem)
        return [source.values(batch.pairs) for batch in self._evaluator.batches]

    def on_batch(self, number: int, masks: Float[Tensor, "mask"]) -> NodeMaskedRun:
        """A run of a micro-batch with these masks, not yet made."""
        pairs = self._evaluator.batches[number].pairs
        masks = masks.to(self.problem.model.compute_dtype)
        return NodeMaskedRun(self.problem.graph, masks, pairs, ablation=self._ablations[number])

    def name(self, mask: int) -> str:
        """The activation of a mask."""
        return masked_activations(self.problem.graph)[mask].name


class NodeMaskedRun(MethodRun):
    """Ports read the plain residual stream; vectors and MLPs' outputs mix with their ablation."""

    def __init__(
        self,
        graph: Graph,
        masks: Float[Tensor, "activation"],
        pairs: PromptPairs,
        *,
        ablation: Activations,
    ) -> None:
        super().__init__(graph)
        self._masks = masks.unflatten(0, (-1, len(graph.spans or [None])))  # [port span]
        self._spans = pairs.at_spans(graph.spans).to(masks)
        self._ablation = ablation
        self._n_mlps = 0

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        """The stream so far."""
        return self.residual[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        """A site's activations, as far as they are kept."""
        masks = self._masks[self.graph.columns[site]]
        masks = torch.einsum("hs,sbp->hbp", masks, self._spans)[..., None]
        mixed = masks * fresh
        return mixed + (1 - masks) * self._ablation[site] if site in self._ablation else mixed

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, as far as it is kept."""
        site = Site(self._n_mlps, "mlp")
        self._n_mlps += 1
        super().write_mlp(self.vector(site, value[None])[0])


# --- what masked activations become


class ActivationAblation:
    """What masked activations are replaced by, micro-batch by micro-batch."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sites = masked_sites(problem.graph)
        self._positional = problem.ablation.kind == "mean-positional"
        self._means: SenderOutputs | None = None  # a part for each site
        if problem.ablation.kind.startswith("mean"):
            prompts = problem.ablation.prompts or problem.pairs
            self._means = means_over(
                prompts.batches(problem.batch_size),
                self._on_clean,
                positional=self._positional,
                model=problem.model,
            )

    def values(self, pairs: PromptPairs) -> Activations:
        """Every site's replacement on a micro-batch; empty for zero."""
        ablation = self._problem.ablation
        means = self._means
        if means is not None:
            if self._positional:
                means = means_at_positions(means, pairs.real.to(self._problem.model.device))
            parts = [part for part in means.parts if isinstance(part, Tensor)]  # all of them are
            return dict(zip(self._sites, parts, strict=True))
        if ablation.kind == "zero":
            return {}
        assert pairs.corrupted is not None  # Problem refuses pairs without corrupted prompts
        corrupted = replace(pairs, clean=pairs.corrupted)
        return self._recorded(corrupted, ablation.position_permutation)

    def _on_clean(self, pairs: PromptPairs) -> SenderOutputs:
        values = self._recorded(pairs)
        return SenderOutputs([values[site] for site in self._sites])

    @torch.no_grad()
    def _recorded(self, pairs: PromptPairs, order: Sequence[int] | None = None) -> Activations:
        """Every activation in an ordinary run."""
        watched = WatchedRun(self._problem, pairs)
        watched.run_on(self._problem, pairs, order)
        return activations_of(watched)


def activations_of(watched: WatchedRun) -> dict[Site, Tensor]:
    """A run's vectors and MLP outputs, by site."""
    mlps = {Site(layer, "mlp"): value[None] for layer, value in enumerate(watched.mlps)}
    return {**watched.vectors, **mlps}
