"""The units that Subnetwork Probing and HISP mask: q, k and v vectors, and MLP outputs.

A unit is a port of the graph, the output's aside: a head's q, k or v vector (after its bias), an
MLP's output; where ports or heads are joined, all that a port feeds is one unit; where spans of
positions are apart, what it is at those positions. Units come in the order of `graph.receivers`, so
a unit's number is its port's column. It is also HISP's order: layer by layer all q, all k, all v,
then the MLP.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.data import PromptPairs
from edgewise.graph import SLOTS, Graph, Port, Site
from edgewise.model import Model
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import CleanReader, run
from edgewise.patching import RecordingReader
from edgewise.problem import Problem

# What the units of each site are: [unit batch pos width], or with batch and pos of 1.
UnitValues = Mapping[Site, Tensor]


def units_of(graph: Graph) -> tuple[Port, ...]:
    """Every unit, by its port."""
    return graph.receivers[: -len(graph.spans or [None])]


def unit_sites(graph: Graph) -> list[Site]:
    """The sites that have units, in the order they are computed."""
    sites = []
    for layer in range(graph.n_layers):
        sites += [Site(layer, slot) for slot in SLOTS]
        sites += [Site(layer, "mlp")] if graph.mlps else []
    return sites


def circuit_of_units(graph: Graph, kept: Bool[Tensor, "unit"]) -> Circuit:
    """The circuit of the units kept, in one shot (spec section 3).

    A masked unit loses all edges into its port, its switch among them. A node all of whose units
    are masked loses all edges out of it. Everything else stays, the embeddings' edges too.

    >>> graph = Graph.build(1, 1, mlps=False)
    >>> [edge.name for edge in circuit_of_units(graph, torch.tensor([False] * 3)).edges]
    ['input->logits']
    """
    weights = kept.to(torch.float64)
    return Circuit(graph, (_edge_values(graph, weights, 1.0) > 0) & graph.exists)


def unit_scores(
    graph: Graph, values: Float[Tensor, "unit"], method: str, meaning: str
) -> EdgeScores:
    """Units' scores, spread to the edges they govern.

    An edge is worth no more than the unit it enters and than the best unit of the node it leaves:
    for a threshold between scores, the edges above it are `circuit_of_units` of the units above it.
    Edges between embeddings and output, which no unit governs, get the highest score of all.
    """
    top = max(float(values.max()), 1.0) if len(values) else 1.0
    return EdgeScores(graph, _edge_values(graph, values.double().cpu(), top), method, meaning)


def _edge_values(
    graph: Graph, values: Float[Tensor, "unit"], top: float
) -> Float[Tensor, "sender receiver"]:
    into = torch.cat([values, values.new_full((len(graph.receivers) - len(values),), top)])
    out_of = values.new_full((len(graph.senders),), -torch.inf)
    for value, port in zip(values, units_of(graph), strict=True):
        for node in graph.fed_by(port):
            row = graph.row(node)
            out_of[row] = torch.maximum(out_of[row], value)
    out_of = out_of.where(out_of.isfinite() | out_of.isnan(), top)  # embeddings
    return torch.minimum(out_of[:, None], into[None, :])


def unit_weights(
    graph: Graph,
    masks: Float[Tensor, "unit"],
    site: Site,
    spans: Bool[Tensor, "span batch pos"],
) -> Float[Tensor, "_head _batch _pos 1"]:
    """The masks of a site's units, at the positions of their spans; batch and pos may be 1."""
    if graph.spans is None:
        return masks[graph.columns(site)][:, None, None, None]
    n, columns = len(graph.spans), graph.columns(site)
    own = masks.unflatten(0, (-1, n))[columns]  # [head span]
    return torch.einsum("hs,sbp->hbp", own, spans.to(masks))[..., None]


class RecordedMLPs(Outputs):
    """Outputs, and a record of what MLPs wrote and of the gradients that come back to it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.written: list[Float[Tensor, "batch pos d_model"]] = []
        self.gradients: dict[int, Tensor] = {}  # by layer

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, and keep it."""
        layer = len(self.written)
        self.written.append(value.detach())
        if value.requires_grad:
            value.register_hook(lambda gradient: self.gradients.__setitem__(layer, gradient))
        super().write_mlp(value)


class UnitAblation:
    """What masked units are replaced by, in the paper's way.

    The same activation in an ordinary run on the corrupted prompts; for a mean ablation its mean
    over a prompt set; for zero nothing, whatever the biases are. That is not always what removed
    edges carry: for zero and means these fix what a port *reads*, and its vector follows from it.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._means: UnitValues = {}
        if problem.ablation.kind.startswith("mean"):
            self._means = _means(problem)

    def values(self, pairs: PromptPairs) -> UnitValues:
        """Every site's replacement on a micro-batch; empty for zero."""
        ablation, model = self._problem.ablation, self._problem.model
        if ablation.kind == "zero":
            return {}
        if ablation.kind == "mean":
            return self._means
        if ablation.kind == "mean-positional":
            # Padding takes some place's mean; nothing reads it.
            n_places = next(iter(self._means.values())).shape[2]
            place = (pairs.real.cumsum(dim=1) - 1).clamp(min=0, max=n_places - 1)
            place = place.to(model.device)
            return {site: mean[:, 0, place] for site, mean in self._means.items()}
        assert pairs.corrupted is not None  # Problem refuses pairs without corrupted prompts
        order = ablation.position_permutation
        permutation = None if order is None else torch.tensor(order)
        return _unit_values(self._problem, pairs.corrupted, pairs.real, permutation)


@torch.no_grad()
def _unit_values(
    problem: Problem,
    tokens: Int[Tensor, "batch pos"],
    real: Bool[Tensor, "batch pos"],
    permutation: Int[Tensor, "_place"] | None = None,
) -> UnitValues:
    """Every unit's activation in an ordinary run."""
    model, graph = problem.model, problem.graph
    reader, outputs = RecordingReader(CleanReader()), RecordedMLPs(graph)
    tokens, real = tokens.to(model.device), real.to(model.device)
    run(model, tokens, real, graph, reader, position_permutation=permutation, outputs=outputs)
    problem.evaluator(graph).work.forward_passes += 1
    return unit_activations(reader.vectors, outputs)


def unit_activations(vectors: Mapping[Site, Tensor], outputs: RecordedMLPs) -> UnitValues:
    """A run's vectors and MLP outputs, by site."""
    mlps = {Site(layer, "mlp"): value[None] for layer, value in enumerate(outputs.written)}
    return {**vectors, **mlps}


def _means(problem: Problem) -> UnitValues:
    """Each unit's mean over real positions, or at each place in a prompt: [unit 1 place width]."""
    model, ablation = problem.model, problem.ablation
    prompts = ablation.prompts or problem.pairs
    batches = prompts.batches(problem.batch_size)
    positional = ablation.kind == "mean-positional"
    n_places = max(int(batch.lengths.max()) for batch in batches) if positional else 1
    sums: dict[Site, Tensor] = {}
    counts = torch.zeros(n_places, device=model.device)
    for batch in batches:
        real = batch.real.to(model.device)
        place = (real.cumsum(dim=1) - 1)[real]
        place = place if positional else torch.zeros_like(place)
        counts += torch.bincount(place, minlength=n_places)
        for site, values in _unit_values(problem, batch.clean, batch.real).items():
            sums.setdefault(site, _zeros(model, values, n_places))
            sums[site].index_add_(1, place, values[:, real].to(sums[site].dtype))
    return {
        site: (total / counts[None, :, None]).to(model.dtype)[:, None]
        for site, total in sums.items()
    }


def _zeros(model: Model, values: Tensor, n_places: int) -> Tensor:
    exact = torch.float32 if model.device.type == "mps" else torch.float64  # mps has no float64
    shape = (values.shape[0], n_places, values.shape[-1])
    return torch.zeros(shape, dtype=exact, device=model.device)
