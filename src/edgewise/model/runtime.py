"""Run a transformer whose receivers get their input through `read`.

The model asks one question, `reader.read(outputs, site)`: what do the ports of this site read,
given what the senders have written so far? The answer is one input for all of a site's ports
([1 batch pos d_model]) or one for each ([head batch pos d_model]). A clean run, a circuit run,
attribution and mask learning are readers; nothing else reaches into the model.

`reader.vector(site, fresh)` is asked once per q, k and v, with the vectors just computed: that is
where the paper's "direct computation" edges (our switches) and its node masks act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.graph import SLOTS, Graph, Site, Slot
from edgewise.model.blocks import Block, Vectors, soft_capped
from edgewise.model.outputs import Outputs
from edgewise.model.positions import PromptPositions

if TYPE_CHECKING:
    from edgewise.model.model import Model


@runtime_checkable
class Reader(Protocol):
    """What receivers read. Implementations see outputs and sites, never model internals."""

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "#port batch pos d_model"]:
        """The input of every port of `site`."""
        ...

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        """The q, k or v vectors that the heads go on with."""
        ...


class CleanReader:
    """Every port reads the plain residual stream: an ordinary forward pass."""

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        return outputs.residual[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        return fresh


def run(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    real: Bool[Tensor, "batch pos"],
    *,
    graph: Graph,
    reader: Reader,
    position_permutation: Int[Tensor, "pos"] | None = None,
    outputs: Outputs | None = None,
) -> tuple[Float[Tensor, "batch pos d_model"], Outputs]:
    """What the output port reads, and what every sender wrote.

    Padding (`real` False) is seen by nobody and its own values mean nothing. A permutation moves
    the position embeddings: position p gets that of `position_permutation[p]`. `outputs` is where
    senders write, if not into an empty `Outputs`.
    """
    parallel = model.config.parallel
    has_mlps = model.config.has_mlps
    scale = model.config.embedding_scale
    outputs = Outputs(graph) if outputs is None else outputs
    positions = PromptPositions(model, real, position_permutation)
    embedded = model.weights["embed.W_E"][tokens].to(model.compute_dtype)
    if scale != 1:  # rounded to the dtype, as the families that scale do
        embedded = embedded * embedded.new_tensor(scale)
    outputs.write_embeddings(embedded, positions.in_stream)
    for block in model.blocks:
        z = _mixed(block, outputs, reader, positions)
        outputs.mixed(z)
        mlp_site = Site(block.layer, "mlp")
        if parallel and has_mlps:  # the MLP does not see its own layer's heads
            mlp_input = reader.read(outputs, mlp_site)
        outputs.write_heads(*block.written(z), block.b_O)
        if has_mlps:
            if not parallel:
                mlp_input = reader.read(outputs, mlp_site)
            outputs.write_mlp(block.mlp(mlp_input[0]))
    return reader.read(outputs, Site(None, "logits"))[0], outputs


def _mixed(block: Block, outputs: Outputs, reader: Reader, positions: PromptPositions) -> Vectors:
    """What the heads of a layer mix from what their ports read."""
    config = block.config
    graph = outputs.graph
    vectors: dict[Slot, Vectors] = {}
    for slot in SLOTS:
        site = Site(block.layer, slot)
        x = reader.read(outputs, site)
        # One vector per port of the graph, or per head where whole layers are nodes.
        per_head = slot != "q" and graph.split_heads and graph.kv_heads is None
        heads = slice(None) if per_head and len(x) > 1 else None
        fresh = block.vectors(slot, x, at_heads=positions.at_heads, heads=heads)
        if per_head and config.n_kv_heads < config.n_heads:
            fresh = block.ungrouped(fresh)
        vectors[slot] = reader.vector(site, fresh)
    return block.attend(vectors, positions)


def logits_of(model: Model, final: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocab"]:
    """The final norm and the unembedding, on any rows of what the output port reads."""
    logits = model.final_norm(final) @ model.weights["unembed.W_U"].to(final.dtype)
    bias = model.weights.get("unembed.b_U")
    logits = logits if bias is None else logits + bias
    return soft_capped(logits, model.config.logit_cap)
