"""The activations that Subnetwork Probing and HISP mask, and a run with masks on them.

A masked activation is a port of the graph, the output's aside: a head's q, k or v vector (after its
bias), an MLP's output; where ports or heads are joined, all that a port feeds is one activation;
where spans of positions are apart, what it is at those positions. They come in the order of
`graph.receivers`, so an activation's number is its port's column. It is also HISP's order: layer by
layer all q, all k, all v, then the MLP. With a mask m, x becomes m x + (1 - m) ablation (spec 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.data import PromptPairs
from edgewise.graph import SLOTS, Graph, Port, Site
from edgewise.methods.gradients import WatchedOutputs
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, SenderOutputs
from edgewise.model.runtime import CleanReader, run
from edgewise.patching import RecordingReader
from edgewise.patching.ablation import means_at_positions, means_over
from edgewise.problem import Problem

# What the activations of each site are: [activation batch pos width], or with batch and pos of 1.
Activations = Mapping[Site, Tensor]
# The masks of a site, where they act: [head batch pos 1], or with batch and pos of 1.
SiteMasks = Callable[[Site], Tensor]


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
    """The circuit of the activations kept, in one shot (spec section 3).

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
        for node in graph.fed_by(port):
            row = graph.row[node]
            out_of[row] = torch.maximum(out_of[row], value)
    out_of = out_of.where(out_of.isfinite() | out_of.isnan(), top)  # embeddings
    return torch.minimum(out_of[:, None], into[None, :])


# --- runs with masks


class NodeMasking:
    """One mask per activation, shared by prompts, positions and channels."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.n_masks = len(masked_activations(problem.graph))

    @cached_property
    def _ablations(self) -> list[Activations]:
        source = ActivationAblation(self._problem)
        batches = self._problem.evaluator(self._problem.graph).batches
        return [source.values(batch.pairs) for batch in batches]

    def at(self, batch: int, masks: Float[Tensor, "mask"]) -> tuple[NodeMaskReader, Outputs]:
        """What runs micro-batch number `batch` with these masks."""
        graph, model = self._problem.graph, self._problem.model
        pairs = self._problem.evaluator(graph).batches[batch].pairs
        spans = pairs.at_spans(graph.spans).to(model.device)
        masks_of = partial(_site_masks, graph, masks.to(model.dtype), spans)
        reader = NodeMaskReader(masks_of, self._ablations[batch])
        return reader, _MaskedMLPs(graph, reader)

    def name(self, mask: int) -> str:
        """The activation of a mask."""
        return masked_activations(self._problem.graph)[mask].name


class NodeMaskReader:
    """Every port reads the plain residual stream; vectors are mixed with their ablation."""

    def __init__(self, masks: SiteMasks, ablation: Activations) -> None:
        self._masks, self._ablation = masks, ablation

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        return outputs.residual[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        masks, ablation = self._masks(site), self._ablation.get(site)
        return masks * fresh if ablation is None else masks * fresh + (1 - masks) * ablation


class _MaskedMLPs(Outputs):
    """Outputs in which MLPs' values are mixed with their ablation."""

    def __init__(self, graph: Graph, reader: NodeMaskReader) -> None:
        super().__init__(graph)
        self._reader, self._layer = reader, 0

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, as far as it is kept."""
        site = Site(self._layer, "mlp")
        self._layer += 1
        super().write_mlp(self._reader.vector(site, value[None])[0])


def _site_masks(
    graph: Graph,
    masks: Float[Tensor, "activation"],
    spans: Bool[Tensor, "span batch pos"],
    site: Site,
) -> Float[Tensor, "_head _batch _pos 1"]:
    """The masks of a site, at the positions of their spans; batch and pos may be 1."""
    columns = graph.columns[site]
    if graph.spans is None:
        return masks[columns][:, None, None, None]
    own = masks.unflatten(0, (-1, len(graph.spans)))[columns]  # [head span]
    return torch.einsum("hs,sbp->hbp", own, spans.to(masks))[..., None]


# --- what masked activations become


class ActivationAblation:
    """What masked activations are replaced by, in the paper's way.

    The same activation in an ordinary run on the corrupted prompts; for a mean ablation its mean
    over a prompt set; for zero nothing, whatever the biases are. That is not always what removed
    edges carry: for zero and means these fix what a port *reads*, and its vector follows from it.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._means: SenderOutputs | None = None  # a part for each site
        if problem.ablation.kind.startswith("mean"):
            prompts = problem.ablation.prompts or problem.pairs
            self._means = means_over(
                prompts.batches(problem.batch_size),
                self._clean,
                positional=problem.ablation.kind == "mean-positional",
                model=problem.model,
            )

    def values(self, pairs: PromptPairs) -> Activations:
        """Every site's replacement on a micro-batch; empty for zero."""
        ablation = self._problem.ablation
        if self._means is not None:
            means = self._means
            if ablation.kind == "mean-positional":
                means = means_at_positions(means, pairs.real.to(self._problem.model.device))
            parts: tuple[Any, ...] = means.parts  # tensors, as `_clean` made them
            return dict(zip(masked_sites(self._problem.graph), parts, strict=True))
        if ablation.kind == "zero":
            return {}
        assert pairs.corrupted is not None  # Problem refuses pairs without corrupted prompts
        order = ablation.position_permutation
        permutation = None if order is None else torch.tensor(order)
        return self._recorded(pairs.corrupted, pairs.real, permutation)

    def _clean(self, batch: PromptPairs) -> SenderOutputs:
        values = self._recorded(batch.clean, batch.real)
        return SenderOutputs([values[site] for site in masked_sites(self._problem.graph)])

    @torch.no_grad()
    def _recorded(
        self,
        tokens: Int[Tensor, "batch pos"],
        real: Bool[Tensor, "batch pos"],
        permutation: Int[Tensor, "_place"] | None = None,
    ) -> Activations:
        """Every activation in an ordinary run."""
        model, graph = self._problem.model, self._problem.graph
        reader, outputs = RecordingReader(CleanReader()), WatchedOutputs(graph)
        tokens, real = tokens.to(model.device), real.to(model.device)
        run(
            model,
            tokens,
            real,
            graph=graph,
            reader=reader,
            position_permutation=permutation,
            outputs=outputs,
        )
        self._problem.evaluator(graph).work.forward_passes += 1
        return activations_of(reader.vectors, outputs)


def activations_of(vectors: Mapping[Site, Tensor], outputs: WatchedOutputs) -> dict[Site, Tensor]:
    """A run's vectors and MLP outputs, by site."""
    mlps = {Site(layer, "mlp"): value[None] for layer, value in enumerate(outputs.mlps)}
    return {**vectors, **mlps}
