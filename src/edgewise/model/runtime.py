"""Run a transformer whose receivers get their input through `read`.

The model asks one question, `reader.read(outputs, site)`: what do the ports of this site read,
given what the senders have written so far? The answer is one input for all of a site's ports
([1 batch pos d_model]) or one for each ([head batch pos d_model]). A clean run, a circuit run,
attribution and mask learning are readers; nothing else reaches into the model.

`reader.vector(site, fresh)` is asked once per q, k and v, with the vectors just computed: that is
where the paper's "direct computation" edges (our switches) and its node masks act.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.graph import SLOTS, Graph, Site, Slot
from edgewise.model.attention import (
    PromptPositions,
    Vectors,
    attend,
    head_vectors,
    ungrouped,
    written,
)
from edgewise.model.mlps import mlp_output
from edgewise.model.norms import Transformer, norm
from edgewise.model.outputs import Outputs
from edgewise.model.parts import soft_capped


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
    model: Transformer,
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
    config = model.config
    outputs = Outputs(graph) if outputs is None else outputs
    positions = PromptPositions(model, real, position_permutation)
    outputs.write_embeddings(embedded(model, tokens), positions.in_stream)
    for layer in range(config.n_layers):
        z = _mixed(model, layer, outputs, reader, positions)
        mlp_site = Site(layer, "mlp")
        if config.parallel and config.has_mlps:  # the MLP does not see its own layer's heads
            mlp_input = reader.read(outputs, mlp_site)
        outputs.write_heads(
            *written(model, layer, z), model.weights.get(f"blocks.{layer}.attn.b_O")
        )
        if config.has_mlps:
            if not config.parallel:
                mlp_input = reader.read(outputs, mlp_site)
            outputs.write_mlp(mlp_output(model, layer, mlp_input[0]))
    return reader.read(outputs, Site(None, "logits"))[0], outputs


def embedded(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_model"]:
    """Token embeddings, scaled where the family scales them; in the weights' dtype, as it does."""
    value, scale = model.weights["embed.W_E"][tokens], model.config.embedding_scale
    return value if scale == 1 else value * value.new_tensor(scale)


def logits_of(
    model: Transformer, final: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows vocab"]:
    """The final norm and the unembedding, on any rows of what the output port reads."""
    logits = norm(model, "ln_final", final) @ model.weights["unembed.W_U"]
    bias = model.weights.get("unembed.b_U")
    logits = logits if bias is None else logits + bias
    return soft_capped(logits, model.config.logit_cap)


def _mixed(
    model: Transformer, layer: int, outputs: Outputs, reader: Reader, positions: PromptPositions
) -> Vectors:
    vectors: dict[Slot, Vectors] = {}
    for slot in SLOTS:
        site = Site(layer, slot)
        fresh = _vectors(model, layer, slot, reader.read(outputs, site), outputs.graph, positions)
        vectors[slot] = reader.vector(site, fresh)
    z = attend(model, layer, vectors, positions=positions)
    outputs.mixed(z)
    return z


def _vectors(
    model: Transformer,
    layer: int,
    slot: Slot,
    x: Float[Tensor, "#port batch pos d_model"],
    graph: Graph,
    positions: PromptPositions,
) -> Vectors:
    """One vector per port of the graph, or per head where whole layers are nodes."""
    shared = slot != "q" and model.config.group > 1
    if not shared or not graph.split_heads or graph.kv_heads is not None:
        return head_vectors(model, layer, slot, x=x, at_heads=positions.at_heads)
    if len(x) == 1:  # all ports read alike: project once
        return ungrouped(
            model.config, head_vectors(model, layer, slot, x=x, at_heads=positions.at_heads)
        )
    return head_vectors(model, layer, slot, x=x, at_heads=positions.at_heads, heads=slice(None))
