"""Run a transformer whose receivers get their input through `read`.

The model asks one question, `reader.read(outputs, site)`: what do the ports of this site read,
given what the senders have written so far? The answer is one input for all of a site's ports
([1 batch pos d_model]) or one for each ([head batch pos d_model]). A clean run, a circuit run,
attribution and mask learning are readers; nothing else reaches into the model.

`reader.vector(site, fresh)` is asked once per q, k and v, with the vectors just computed: that is
where the paper's "direct computation" edges (our switches) and its node masks act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.graph import SLOTS, Graph, Site, Slot
from edgewise.model.config import ModelConfig
from edgewise.model.outputs import Outputs
from edgewise.model.parts import ACTIVATIONS, NORMS, attend, project

Vectors = Float[Tensor, "head batch pos d_head"]


@runtime_checkable
class Transformer(Protocol):
    """All that a run needs of a model."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Tensors by the names of `edgewise.model.weights.schema`."""
        ...


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
    graph: Graph,
    reader: Reader,
    *,
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
    positions = position_embeddings(model, real, position_permutation)
    in_stream = positions if config.adds_positions else None
    outputs.write_embeddings(model.weights["embed.W_E"][tokens], in_stream)
    at_heads = positions if config.positions == "shortformer" else None
    allowed = attention_mask(real, causal=config.causal)
    for layer in range(config.n_layers):
        z = _attention(model, layer, outputs, reader, allowed, at_heads)
        mlp_site = Site(layer, "mlp")
        if config.parallel and config.has_mlps:  # the MLP does not see its own layer's heads
            mlp_input = reader.read(outputs, mlp_site)
        weight = model.weights[f"blocks.{layer}.attn.W_O"]
        outputs.write_heads(z, weight, model.weights.get(f"blocks.{layer}.attn.b_O"))
        if config.has_mlps:
            if not config.parallel:
                mlp_input = reader.read(outputs, mlp_site)
            outputs.write_mlp(mlp_output(model, layer, mlp_input[0]))
    return reader.read(outputs, Site(None, "logits"))[0], outputs


def position_embeddings(
    model: Transformer,
    real: Bool[Tensor, "batch pos"],
    permutation: Int[Tensor, "_pos"] | None = None,
) -> Float[Tensor, "batch pos d_model"] | None:
    """Each position's embedding, counted from a prompt's first token; None if there are none."""
    if model.config.positions == "none":
        return None
    place = (real.cumsum(dim=1) - 1).clamp(min=0)
    if permutation is not None:
        place = permutation.to(real.device)[place]
    return model.weights["pos_embed.W_pos"][place]


def logits_of(
    model: Transformer, final: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows vocab"]:
    """The final norm and the unembedding, on any rows of what the output port reads."""
    logits = norm(model, "ln_final", final) @ model.weights["unembed.W_U"]
    bias = model.weights.get("unembed.b_U")
    return logits if bias is None else logits + bias


def attention_mask(
    real: Bool[Tensor, "batch pos"], *, causal: bool
) -> Bool[Tensor, "batch pos pos"]:
    """Who may look at whom: real keys, no later than the query if causal.

    Padding looks at itself alone, so that its softmax has something to sum over.
    """
    n = real.shape[1]
    allowed = real[:, None, :].expand(-1, n, -1)
    if causal:
        allowed = allowed & torch.ones(n, n, dtype=torch.bool, device=real.device).tril()
    return allowed | torch.eye(n, dtype=torch.bool, device=real.device)


def _attention(
    model: Transformer,
    layer: int,
    outputs: Outputs,
    reader: Reader,
    allowed: Bool[Tensor, "batch pos pos"],
    at_heads: Float[Tensor, "batch pos d_model"] | None,
) -> Vectors:
    vectors = []
    for slot in SLOTS:
        site = Site(layer, slot)
        fresh = head_vectors(model, layer, slot, reader.read(outputs, site), at_heads)
        vectors.append(reader.vector(site, fresh))
    query, key, value = vectors
    return attend(query, key, value, allowed, model.config.attention_scales[layer])


def head_vectors(
    model: Transformer,
    layer: int,
    slot: Slot,
    x: Float[Tensor, "#head batch pos d_model"],
    at_heads: Float[Tensor, "batch pos d_model"] | None,
    heads: slice | list[int] = slice(None),
) -> Vectors:
    """The q, k or v vectors of a layer's heads from what their ports read.

    `at_heads` are position embeddings that reach queries and keys only (shortformer), or None.
    """
    x = norm(model, f"blocks.{layer}.ln1", x)
    if at_heads is not None and slot != "v":
        x = x + at_heads
    at, letter = f"blocks.{layer}.attn", slot.upper()
    bias = model.weights.get(f"{at}.b_{letter}")
    return project(
        x, model.weights[f"{at}.W_{letter}"][heads], None if bias is None else bias[heads]
    )


def mlp_output(
    model: Transformer, layer: int, x: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """An MLP's output, its output bias included, from what its port reads."""
    at = f"blocks.{layer}.mlp"
    hidden = mlp_hidden(model, layer, norm(model, f"blocks.{layer}.ln2", x))
    return _affine(activation(model)(hidden), model, f"{at}.W_out", f"{at}.b_out")


def mlp_hidden(
    model: Transformer, layer: int, normed: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_mlp"]:
    """What an MLP's activation function is given, from its normed input."""
    at = f"blocks.{layer}.mlp"
    return _affine(normed, model, f"{at}.W_in", f"{at}.b_in")


def activation(model: Transformer) -> Callable[[Tensor], Tensor]:
    """The activation function of the model's MLPs."""
    return ACTIVATIONS[model.config.activation]


def _affine(x: Tensor, model: Transformer, weight: str, bias: str) -> Tensor:
    result = x @ model.weights[weight]
    return result + model.weights[bias] if bias in model.weights else result


def norm(model: Transformer, name: str, x: Tensor) -> Tensor:
    """The norm called `name` (ln1, ln2 of a block, or ln_final) of what a port reads."""
    normalise, _ = NORMS[model.config.norm]
    return normalise(
        x, model.weights.get(f"{name}.w"), model.weights.get(f"{name}.b"), model.config.eps
    )


def norm_pullback(
    model: Transformer,
    name: str,
    x: Float[Tensor, "batch pos d_model"],
    gradients: Float[Tensor, "port batch pos d_model"],
) -> Float[Tensor, "port batch pos d_model"]:
    """Gradients where a norm reads x, from gradients of what it gives: one for each of many."""
    pull = torch.func.vjp(lambda y: norm(model, name, y), x)[1]
    (result,) = torch.vmap(pull)(gradients)
    return result
