"""One layer of a transformer: from what its ports read to what its heads and its MLP write.

A head's q, k and v *vectors* are what its matrices make of the normed input, bias included: that is
what readers see and may replace. Norms of queries and keys and rotary positions come after, in
`compared`. With grouped-query attention keys and values exist once per key/value head, unless the
graph gives every head its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from edgewise.graph import SLOTS, Slot
from edgewise.model.config import ACTIVATIONS, NORMS, Experts, ModelConfig, NormKind
from edgewise.model.outputs import mixed_heads
from edgewise.model.positions import PromptPositions, Rotation

Vectors = Float[Tensor, "head batch pos d_head"]
Heads = slice | list[int] | None  # query heads; None: as many as the weights have
_IN_CACHE, _ON_CARD = 2**18, 2**27  # numbers of a gradient that are worked on together


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm with its weights: over d_model, recomputed for whatever a port reads."""

    kind: NormKind
    eps: float
    weight: Tensor | None = None
    bias: Tensor | None = None

    def __call__(self, x: Tensor, dims: tuple[int, ...] = (-1,)) -> Tensor:
        """x, normed; `dims` are those that an RMSNorm's mean square is over."""
        kind = self.kind
        weight = self.weight
        bias = self.bias
        if kind.form == "none":
            return x
        if kind.form == "rms":
            scale = self.inverse_root(x, dims)
            result = x.to(scale.dtype) * scale
            if kind.offset and (gain := self.gain) is not None:  # Gemma rounds after the product
                return (result * gain).to(x.dtype)
            return result.to(x.dtype) if weight is None else weight * result.to(x.dtype)
        if not kind.held:
            return functional.layer_norm(x, x.shape[-1:], weight, bias, self.eps)
        centred = x - x.mean(dim=-1, keepdim=True)
        scale = (centred.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt().detach()
        result = centred * scale
        result = result if weight is None else result * weight
        return result if bias is None else result + bias

    def inverse_root(self, x: Tensor, dims: tuple[int, ...] = (-1,)) -> Tensor:
        """1 / root of the mean square, in float32 or better; without a gradient if held."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = (wide.square().mean(dim=dims, keepdim=True) + self.eps).rsqrt()
        return scale.detach() if self.kind.held else scale

    @property
    def gain(self) -> Tensor | None:
        """What channels are multiplied by; in float32 or better where 1 is added to the weight."""
        weight = self.weight
        if weight is None or not self.kind.offset:
            return weight
        return self.kind.offset + weight.to(torch.promote_types(weight.dtype, torch.float32))

    def pullback(
        self,
        x: Float[Tensor, "batch pos d_model"],
        gradients: Float[Tensor, "port batch pos d_model"],
    ) -> Float[Tensor, "port batch pos d_model"]:
        """Gradients where the norm reads x, from gradients g of what it gives: one for each port.

        RMSNorm's in closed form, for y = weight * n with n = x / s and h = weight * g:

            dL / dx = (h - n mean(h n)) / s

        without the last term if the denominator is held. Sums are in float32 or better, some ports
        at a time, so that on a CPU they stay in its cache. LayerNorm's kernel does as well.
        """
        if self.kind.form == "none":
            return gradients
        if self.kind.form == "layer":
            (result,) = torch.vmap(torch.func.vjp(self, x)[1])(gradients)
            return result
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        inverse = (x.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt()
        normed = x * inverse
        result = torch.empty_like(gradients)
        gain = 1 if self.gain is None else self.gain.to(x.dtype)
        at_once = max(1, (_IN_CACHE if x.device.type == "cpu" else _ON_CARD) // x.numel())
        for part, out in zip(gradients.split(at_once), result.split(at_once), strict=True):
            h = part.to(x.dtype) * gain
            if not self.kind.held:
                h = h - normed * (h * normed).mean(dim=-1, keepdim=True)
            out.copy_(h * inverse)
        return result


class Block:
    """A layer with all that it computes with looked up once: weights, norms, device, positions.

    Inputs may lie elsewhere than the layer's weights (a model may fill several cards): products are
    made at `device`, and results go back to where the input was. Matrices of half precision are
    cast for each product, biases and norms once.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Tensor], layer: int) -> None:
        prefix = f"blocks.{layer}."
        own = {
            name.removeprefix(prefix): widened(tensor) if _is_small(name) else tensor
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
        self.config = config
        self.layer = layer
        self._weights = own
        self.W_O = own["attn.W_O"]
        self.b_O = own.get("attn.b_O")
        self.device = self.W_O.device
        self.scale = config.attention_scales[layer]
        self._group = config.group  # heads that share a key/value head
        self._activation = ACTIVATIONS[config.activation]
        self._experts = config.experts[layer] if config.experts else None
        pre = config.pre_norm
        post = config.post_norm
        on_qk = config.qk_norm != "none"
        self.ln1 = self._norm("ln1", pre)
        self.ln2 = self._norm("ln2", pre)
        self.ln1_post = self._norm("ln1_post", post)
        self.ln2_post = self._norm("ln2_post", post)
        self._qk_norms: Mapping[Slot, Norm] = {
            "q": self._norm("attn.norm_Q", on_qk),
            "k": self._norm("attn.norm_K", on_qk),
        }

    def _norm(self, name: str, there: bool) -> Norm:
        """A norm of the layer's; where it has none, one that does nothing."""
        kind = NORMS[self.config.norm if there else "none"]
        weights = self._weights.get(f"{name}.w"), self._weights.get(f"{name}.b")
        return Norm(kind, self.config.eps, *weights)

    # --- queries, keys and values

    def vectors(
        self,
        slot: Slot,
        x: Float[Tensor, "#head batch pos d_model"],
        *,
        at_heads: Float[Tensor, "batch pos d_model"] | None,
        heads: Heads = None,
    ) -> Vectors:
        """The q, k or v vectors of heads from what their ports read.

        `heads` are query heads: each gets its key/value head's vector. `at_heads` are position
        embeddings that reach queries and keys only (shortformer), or None.
        """
        home = x.device
        letter = slot.upper()
        x = self.ln1(x.to(self.device))
        if at_heads is not None and slot != "v":
            x = x + at_heads.to(x.device)
        weight = self._weights[f"attn.W_{letter}"]
        bias = self._weights.get(f"attn.b_{letter}")
        if heads is not None:
            weight = self.of_heads(slot, weight, heads)
            bias = None if bias is None else self.of_heads(slot, bias, heads)
        return _projected(x, weight, bias).to(home)

    def of_heads(self, slot: Slot, tensor: Tensor, heads: slice | list[int]) -> Tensor:
        """The rows of query heads in what a slot has per head; a view where it can be."""
        group = self._group
        if slot == "q" or group == 1:
            return tensor[heads]
        all_heads: Sequence[int] = range(self.config.n_heads)
        chosen = all_heads[heads] if isinstance(heads, slice) else heads
        shared = [head // group for head in chosen]
        return tensor[shared[0] : shared[0] + 1] if len(shared) == 1 else tensor[shared]

    def ungrouped(self, vectors: Float[Tensor, "shared *rest"]) -> Float[Tensor, "head *rest"]:
        """Keys or values of key/value heads, once for each of their query heads."""
        return ungrouped(vectors, self.config.n_heads)

    def compared(
        self,
        slot: Slot,
        vectors: Float[Tensor, "head *rest"],
        *,
        rotation: Rotation | None,
        heads: Heads = None,
    ) -> Float[Tensor, "head *rest"]:
        """Vectors [head … batch pos d_head] as attention compares them: normed and turned.

        `heads` are the query heads that the vectors are of; None: all, keys once or once for each.
        Values stay as they are.
        """
        if slot == "v":
            return vectors
        if self.config.qk_norm != "none":
            vectors = self._qk_normed(slot, vectors, heads)
        return vectors if rotation is None else rotation.turn(vectors)

    def _qk_normed(self, slot: Slot, vectors: Tensor, heads: Heads) -> Tensor:
        norm = self._qk_norms[slot]
        form = self.config.qk_norm
        weight, bias = (
            None if tensor is None else self._beside(slot, tensor, vectors, heads)
            for tensor in (norm.weight, norm.bias)
        )
        if form == "head":
            return replace(norm, weight=weight, bias=bias)(vectors)
        if form == "own-head":
            result = replace(norm, weight=None, bias=None)(vectors)
            result = result if weight is None else result * weight
            return result if bias is None else result + bias
        # Of all heads together. A head's own copy of a shared key counts like the key itself, so
        # that the mean square is the same.
        return replace(norm, kind=replace(norm.kind, offset=0.0), weight=weight)(vectors, (0, -1))

    def _beside(self, slot: Slot, tensor: Tensor, vectors: Tensor, heads: Heads) -> Tensor:
        """A norm's weight or bias for vectors of these heads, with as many dimensions."""
        tensor = tensor.to(vectors.device)
        if tensor.dim() == 1:
            return tensor
        tensor = tensor if heads is None else self.of_heads(slot, tensor, heads)
        tensor = ungrouped(tensor, len(vectors))  # each head may have its own copy of a shared key
        return tensor.view(len(tensor), *[1] * (vectors.dim() - 2), tensor.shape[-1])

    # --- attention

    def pattern(
        self,
        query: Float[Tensor, "... query d_head"],
        key: Float[Tensor, "... key d_head"],
        *,
        masked: Bool[Tensor, "... query key"],
        bias: Float[Tensor, "... 1 key"] | None,
    ) -> Float[Tensor, "... query key"]:
        """Attention weights of compared queries and keys; `masked` may not be looked at."""
        return self.weighted((query * self.scale) @ key.transpose(-1, -2), masked, bias=bias)

    def weighted(
        self,
        scores: Float[Tensor, "... query key"],
        masked: Bool[Tensor, "... query key"],
        *,
        bias: Float[Tensor, "... 1 key"] | None,
    ) -> Float[Tensor, "... query key"]:
        """Attention weights from scaled scores: capped, biased, masked, and adding up to one."""
        scores = soft_capped(scores, self.config.attention_cap)
        if bias is not None:
            scores = scores + bias
        return scores.masked_fill(masked, -torch.inf).softmax(dim=-1)

    def patterns(
        self, query: Tensor, key: Tensor, positions: PromptPositions
    ) -> Float[Tensor, "head *variants batch query key"]:
        """Every head's weights, from vectors [head … batch pos d_head] of its own or its group."""
        rotation = positions.rotations[self.layer]
        bias = positions.biases[self.layer]
        query = self.compared("q", query, rotation=rotation)
        key = self.ungrouped(self.compared("k", key, rotation=rotation))
        if bias is not None:
            between = max(query.dim(), key.dim()) - bias.dim()
            bias = bias.view(len(bias), *[1] * between, *bias.shape[1:])
        return self.pattern(query, key, masked=~positions.allowed[self.layer], bias=bias)

    def attend(self, vectors: Mapping[Slot, Vectors], positions: PromptPositions) -> Vectors:
        """What every head mixes from its values, before its output matrix."""
        if self.config.attention_cap:
            pattern = self.patterns(vectors["q"], vectors["k"], positions)
            return pattern @ self.ungrouped(vectors["v"])
        rotation = positions.rotations[self.layer]
        allowed = positions.allowed[self.layer]
        query, key, value = (
            self.ungrouped(self.compared(slot, vectors[slot], rotation=rotation)) for slot in SLOTS
        )
        bias = positions.biases[self.layer]
        mask = allowed[None] if bias is None else bias.masked_fill(~allowed, -torch.inf)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=self.scale
        )

    def written(self, z: Vectors) -> tuple[Vectors, Float[Tensor, "head d_head d_model"]]:
        """What heads write to the stream, as mixed values and output matrices.

        A norm of the layer's output (Gemma 2, OLMo 2) is over the sum of its heads. Given its
        denominator it is linear, so every head has its share: its own values divided by the
        denominator that all of them make, its own matrix times the norm's weight.
        """
        weight = self.W_O
        gain = self.ln1_post.gain
        home = z.device
        if gain is None:
            return z, weight
        z = z.to(weight.device)
        scale = self.ln1_post.inverse_root(mixed_heads(z, weight))
        shared = (weight * gain).to(z.dtype)
        return (z.to(scale.dtype) * scale).to(home, z.dtype), shared

    # --- the MLP

    def mlp(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The MLP's output, its output bias and output norm included, from what its port reads."""
        home = x.device
        x = self.ln2(x.to(self.device))
        if self._experts is not None:
            wrote = self._mixture(self._experts, x.flatten(0, -2)).view(x.shape)
        else:
            hidden = self._affine(x, "in")
            if self.config.gated:
                hidden = self._activation(self._affine(x, "gate")) * hidden
            else:
                hidden = self._activation(hidden)
            wrote = self._affine(hidden, "out")
        return self.ln2_post(wrote).to(home)

    def _affine(self, x: Tensor, name: str) -> Tensor:
        result = x @ self._weights[f"mlp.W_{name}"].to(x.dtype)
        bias = self._weights.get(f"mlp.b_{name}")
        return result if bias is None else result + bias

    def _mixture(
        self, experts: Experts, x: Float[Tensor, "row d_model"]
    ) -> Float[Tensor, "row d_model"]:
        """The weighted sum of the experts that the router chooses for each token."""
        act = self._activation

        def weight(name: str) -> Tensor:
            return self._weights[f"mlp.{name}"]

        wide = torch.promote_types(x.dtype, torch.float32)
        shares = functional.linear(x, weight("router").to(x.dtype)).to(wide).softmax(dim=-1)
        shares, chosen = shares.topk(experts.active, dim=-1)  # [row active]
        if experts.normalised:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        shares = shares.to(x.dtype)
        result = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            row, rank = (chosen == expert).nonzero(as_tuple=True)
            both = functional.linear(x[row], weight("experts.gate_up")[expert].to(x.dtype))
            gate, up = both.chunk(2, dim=-1)
            wrote = functional.linear(act(gate) * up, weight("experts.down")[expert].to(x.dtype))
            result = result.index_add(0, row, wrote * shares[row, rank, None])
        if not experts.d_shared:
            return result
        gate, up, share, down = (
            weight(f"shared.W_{part}").to(x.dtype) for part in ("gate", "in", "share", "out")
        )
        return result + (x @ share).sigmoid() * ((act(x @ gate) * (x @ up)) @ down)


def ungrouped(vectors: Float[Tensor, "shared *rest"], n_heads: int) -> Float[Tensor, "_ *rest"]:
    """What key/value heads have, once for each of their query heads."""
    group = n_heads // len(vectors)
    return vectors if group == 1 else vectors.repeat_interleave(group, dim=0)


def widened(tensor: Tensor) -> Tensor:
    """In float32 or better."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _is_small(name: str) -> bool:
    """Whether a weight is a bias, or of a norm."""
    return name.rpartition(".")[2].startswith(("b", "w"))


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """c tanh(x / c), as Gemma 2 has it; x itself if the cap is 0."""
    return cap * (x / cap).tanh() if cap else x


def _projected(
    x: Float[Tensor, "#head batch pos d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"] | None,
) -> Float[Tensor, "head batch pos d_head"]:
    """Each head's vector from its own input, or from the one input all heads share."""
    heads, d_model, d_head = weight.shape
    weight = weight.to(x.dtype)
    if x.shape[0] == 1:  # one product for all heads instead of one per head
        flat = weight.permute(1, 0, 2).reshape(d_model, heads * d_head)
        result = (x[0] @ flat).unflatten(-1, (heads, d_head)).permute(2, 0, 1, 3)
    else:
        batch, pos = x.shape[1:3]
        result = (x.flatten(1, 2) @ weight).unflatten(1, (batch, pos))
    return result if bias is None else result + bias[:, None, None, :]
