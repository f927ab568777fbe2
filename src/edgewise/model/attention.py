"""Attention: vectors from what ports read, where positions act on them, patterns, and mixing.

A head's q, k and v *vectors* are what its matrices make of the normed input, bias included: that is
what readers see and may replace. Norms of queries and keys and rotary positions come after, in
`placed`. With grouped-query attention keys and values exist once per key/value head, unless the
graph gives every head its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from edgewise.graph import SLOTS, Slot
from edgewise.model.config import ModelConfig
from edgewise.model.norms import Transformer, layer_device, norm
from edgewise.model.parts import NORMS, Rotary, project, soft_capped

Vectors = Float[Tensor, "head batch pos d_head"]
Heads = slice | list[int] | None  # query heads; None: as many as the weights have


class PromptPositions:
    """What positions do in a run of given prompts: made once, used by every layer.

    Positions are counted from a prompt's first token; a permutation gives position p those of
    `permutation[p]`. Who may look at whom goes by the distance in the prompt.
    """

    def __init__(
        self,
        model: Transformer,
        real: Bool[Tensor, "batch pos"],
        permutation: Int[Tensor, "_pos"] | None = None,
    ) -> None:
        config, self._real = model.config, real
        self._config, self._dtype = config, model.weights["embed.W_E"].dtype
        counted = (real.cumsum(dim=1) - 1).clamp(min=0)  # from a prompt's first token
        self._positions = counted if permutation is None else permutation.to(real.device)[counted]
        embedded = None
        if config.positions != "none":
            embedded = model.weights["pos_embed.W_pos"][self._positions]
        self.in_stream = embedded if config.adds_positions else None
        self.at_heads = embedded if config.positions == "shortformer" else None
        self._allowed = cache(partial(attention_mask, real, causal=config.causal))
        self._angles = cache(self._make_angles)

    def allowed(self, layer: int) -> Bool[Tensor, "batch pos pos"]:
        """Who may look at whom in a layer."""
        return self._allowed(window=self._config.window_of(layer))

    def angles(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine of a layer's rotation [batch pos turned], if it turns anything."""
        rotary = self._config.rotary_of(layer)
        return None if rotary is None else self._angles(rotary)

    def _make_angles(self, rotary: Rotary) -> tuple[Tensor, Tensor]:
        return rotary.angles(self._positions, self._dtype)

    def bias(self, layer: int, heads: Heads = None) -> Float[Tensor, "head batch 1 pos"] | None:
        """What ALiBi adds to scaled attention scores, by key: scaled itself, as in Falcon."""
        if not self._config.alibi_slopes:
            return None
        # In bfloat16 whatever the model's dtype, as Hugging Face has it.
        slopes = torch.tensor(self._config.alibi_slopes, device=self._real.device).bfloat16()
        slopes = slopes if heads is None else slopes[heads]
        bias = slopes[:, None, None, None] * (self._positions * self._real)[:, None]
        return bias.to(self._dtype) * self._config.attention_scales[layer]


def attention_mask(
    real: Bool[Tensor, "batch pos"], *, causal: bool, window: int = 0
) -> Bool[Tensor, "batch pos pos"]:
    """Who may look at whom: real keys, no later than the query if causal, within the window.

    Padding looks at itself alone, so that its softmax has something to sum over.
    """
    n = real.shape[1]
    allowed = real[:, None, :].expand(-1, n, -1)
    if causal or window:
        near = torch.ones(n, n, dtype=torch.bool, device=real.device)
        near = near.tril() if causal else near
        near = near.triu(1 - window) if window else near
        allowed = allowed & near
    return allowed | torch.eye(n, dtype=torch.bool, device=real.device)


def head_vectors(
    model: Transformer,
    layer: int,
    slot: Slot,
    *,
    x: Float[Tensor, "#head batch pos d_model"],
    at_heads: Float[Tensor, "batch pos d_model"] | None,
    heads: Heads = None,
) -> Vectors:
    """The q, k or v vectors of a layer's heads from what their ports read, on the stream's device.

    `heads` are query heads: each gets its key/value head's vector. `at_heads` are position
    embeddings that reach queries and keys only (shortformer), or None.
    """
    home = x.device
    x = norm(model, f"blocks.{layer}.ln1", x.to(layer_device(model, layer)))
    if at_heads is not None and slot != "v":
        x = x + at_heads.to(x.device)
    name, bias = f"blocks.{layer}.attn.W_{slot.upper()}", f"blocks.{layer}.attn.b_{slot.upper()}"
    weight = of_heads(model.config, slot, model.weights[name], heads=heads)
    if bias not in model.weights:
        return project(x, weight, None).to(home)
    return project(x, weight, of_heads(model.config, slot, model.weights[bias], heads=heads)).to(
        home
    )


def of_heads(config: ModelConfig, slot: Slot, tensor: Tensor, *, heads: Heads) -> Tensor:
    """The rows of query heads in something that a slot has per head; a view where it can be."""
    if heads is None:
        return tensor
    if slot == "q" or config.group == 1:
        return tensor[heads]
    all_heads: Sequence[int] = range(config.n_heads)
    chosen = all_heads[heads] if isinstance(heads, slice) else heads
    shared = [head // config.group for head in chosen]
    if len(shared) == 1:
        return tensor[shared[0] : shared[0] + 1]
    return tensor[shared]


def ungrouped(config: ModelConfig, vectors: Float[Tensor, "shared *rest"]) -> Tensor:
    """Keys or values of key/value heads, once for each of their query heads."""
    group = config.n_heads // len(vectors)
    return vectors if group == 1 else vectors.repeat_interleave(group, dim=0)


def placed(
    model: Transformer,
    layer: int,
    slot: Slot,
    *,
    vectors: Float[Tensor, "head *rest"],
    angles: tuple[Tensor, Tensor] | None,
    heads: Heads = None,
) -> Float[Tensor, "head *rest"]:
    """Queries or keys [head … batch pos d_head] as attention compares them: normed and turned.

    `heads` are the query heads that the vectors are of; None: all, keys once or once for each.
    """
    config = model.config
    if slot == "v":
        return vectors
    if config.qk_norm != "none":
        name = f"blocks.{layer}.attn.norm_{slot.upper()}"
        weight = _for_vectors(config, slot, model.weights[f"{name}.w"], vectors, heads)
        bias = model.weights.get(f"{name}.b")
        if bias is not None:
            bias = _for_vectors(config, slot, bias, vectors, heads)
        vectors = _normed(config, vectors, weight, bias)
    rotary = config.rotary_of(layer)
    if rotary is None or angles is None:
        return vectors
    return rotary.turn(vectors, *angles)


def _for_vectors(
    config: ModelConfig, slot: Slot, tensor: Tensor, vectors: Tensor, heads: Heads
) -> Tensor:
    """A norm's weight or bias as it multiplies vectors of these heads, beside their first axis."""
    tensor = tensor.to(vectors.device)
    if tensor.dim() == 1:
        return tensor
    tensor = of_heads(config, slot, tensor, heads=heads)
    if len(tensor) < len(vectors):  # each head has its own copy of a shared key
        tensor = tensor.repeat_interleave(len(vectors) // len(tensor), dim=0)
    return tensor.view(len(tensor), *[1] * (vectors.dim() - 2), tensor.shape[-1])


def _normed(config: ModelConfig, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    normalise = NORMS[config.norm]
    if config.qk_norm == "head":
        return normalise(vectors, weight, bias, config.eps)
    if config.qk_norm == "own-head":
        result = normalise(vectors, None, None, config.eps) * weight
        return result if bias is None else result + bias
    # Of all heads together. A head's own copy of a shared key counts like the key itself, so that
    # the mean square is the same.
    return replace(normalise, offset=0.0)(vectors, weight, None, config.eps, dims=(0, -1))


def pattern(
    config: ModelConfig,
    layer: int,
    query: Float[Tensor, "... query d_head"],
    *,
    key: Float[Tensor, "... key d_head"],
    masked: Bool[Tensor, "... query key"],
    bias: Float[Tensor, "... 1 key"] | None,
) -> Float[Tensor, "... query key"]:
    """Attention weights of placed queries and keys; `masked` may not be looked at."""
    scores = (query * config.attention_scales[layer]) @ key.transpose(-1, -2)
    return weighted(config, scores, masked, bias=bias)


def weighted(
    config: ModelConfig,
    scores: Float[Tensor, "... query key"],
    masked: Bool[Tensor, "... query key"],
    *,
    bias: Float[Tensor, "... 1 key"] | None,
) -> Float[Tensor, "... query key"]:
    """Attention weights from scaled scores: capped, biased, masked, and adding up to one."""
    scores = soft_capped(scores, config.attention_cap)
    if bias is not None:
        scores = scores + bias
    return scores.masked_fill(masked, -torch.inf).softmax(dim=-1)


def patterns(
    model: Transformer,
    layer: int,
    query: Vectors,
    *,
    key: Float[Tensor, "shared batch pos d_head"],
    positions: PromptPositions,
) -> Float[Tensor, "head batch query key"]:
    """Every head's attention weights, from its q vectors and its key/value head's k vectors."""
    config, angles = model.config, positions.angles(layer)
    query = placed(model, layer, "q", vectors=query, angles=angles)
    key = ungrouped(config, placed(model, layer, "k", vectors=key, angles=angles))
    return pattern(
        config, layer, query, key=key, masked=~positions.allowed(layer), bias=positions.bias(layer)
    )


def attend(
    model: Transformer, layer: int, vectors: Mapping[Slot, Vectors], *, positions: PromptPositions
) -> Vectors:
    """What every head mixes from its values, before its output matrix."""
    config, angles, allowed = model.config, positions.angles(layer), positions.allowed(layer)
    query, key, value = (
        ungrouped(config, placed(model, layer, slot, vectors=vectors[slot], angles=angles))
        for slot in SLOTS
    )
    bias = positions.bias(layer)
    if config.attention_cap:
        return pattern(config, layer, query, key=key, masked=~allowed, bias=bias) @ value
    mask = allowed[None] if bias is None else bias.masked_fill(~allowed, -torch.inf)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=config.attention_scales[layer]
    )


def written(
    model: Transformer, layer: int, z: Vectors
) -> tuple[Vectors, Float[Tensor, "head d_head d_model"]]:
    """What heads write to the stream, as mixed values and output matrices.

    A norm of the layer's output (Gemma 2, OLMo 2) is over the sum of its heads. Given its
    denominator it is linear, so every head has its share: its own values divided by the
    denominator that all of them make, its own matrix times the norm's weight.
    """
    weight, home = model.weights[f"blocks.{layer}.attn.W_O"], z.device
    if not model.config.post_norm:
        return z, weight
    z = z.to(weight.device)
    scale = output_scale(model.config, z.permute(1, 2, 0, 3).flatten(2) @ weight.flatten(0, 1))
    shared = (weight * output_gain(model, layer)).to(weight.dtype)
    return (z.to(scale.dtype) * scale).to(home, z.dtype), shared


def output_scale(
    config: ModelConfig, total: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows 1"]:
    """What a norm of a layer's output divides by, inverted, from the sum of its heads.

    In float32 or better.
    """
    return NORMS[config.norm].inverse_root(total, config.eps)


def output_gain(model: Transformer, layer: int) -> Float[Tensor, "d_model"]:
    """What a norm of a layer's output multiplies its channels by."""
    gain = model.weights[f"blocks.{layer}.ln1_post.w"]
    if offset := NORMS[model.config.norm].offset:
        return offset + gain.to(torch.promote_types(gain.dtype, torch.float32))
    return gain
