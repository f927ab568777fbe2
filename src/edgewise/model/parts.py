"""The parts that model families choose from: a function here, and a name in its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Norm:
    """A kind of norm: over d_model, eps inside the root, recomputed for whatever a port reads.

    Those of `kind` "layer" subtract the mean, of "rms" do not, and "none" leaves the stream as it
    is, as in compiled programs. `offset` is added to the weight (Gemma). `held`: the denominator
    has no gradient (the LN rule of relevance propagation).
    """

    kind: Literal["layer", "rms", "none"]
    affine: bool = True  # it has a weight of its own, and perhaps a bias
    offset: float = 0.0
    held: bool = False

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        *,
        dims: tuple[int, ...] = (-1,),
    ) -> Tensor:
        """x, normed; `dims` are those that an RMSNorm's mean square is over."""
        if self.kind == "none":
            return x
        if self.kind == "rms":
            return self._rms(x, weight, eps, dims)
        if not self.held:
            return functional.layer_norm(x, x.shape[-1:], weight, bias, eps)
        centred = x - x.mean(dim=-1, keepdim=True)
        scale = (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt().detach()
        result = centred * scale
        result = result if weight is None else result * weight
        return result if bias is None else result + bias

    def _rms(self, x: Tensor, weight: Tensor | None, eps: float, dims: tuple[int, ...]) -> Tensor:
        scale = self.inverse_root(x, eps, dims)
        result = x.to(scale.dtype) * scale
        if self.offset and weight is not None:  # Gemma rounds after the product, the others before
            return (result * (self.offset + weight.to(result.dtype))).to(x.dtype)
        result = result.to(x.dtype)
        return result if weight is None else weight * result

    def inverse_root(self, x: Tensor, eps: float, dims: tuple[int, ...] = (-1,)) -> Tensor:
        """1 / root of the mean square, in float32 or better; without a gradient if held."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = (wide.square().mean(dim=dims, keepdim=True) + eps).rsqrt()
        return scale.detach() if self.held else scale


NORMS: dict[str, Norm] = {
    "layernorm": Norm("layer"),
    "layernorm-plain": Norm("layer", affine=False),
    "rmsnorm": Norm("rms"),
    "rmsnorm-offset": Norm("rms", offset=1.0),
    "rmsnorm-plain": Norm("rms", affine=False),
    "none": Norm("none", affine=False),
}
NORMS |= {f"{name}-linearised": replace(norm, held=True) for name, norm in NORMS.items()}


def linearised(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x times a constant activation(x) / x (the identity rule of relevance propagation)."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            tiny = x.abs() < torch.finfo(x.dtype).eps
            ratio = torch.where(tiny, 0.5, activation(x) / torch.where(tiny, 1.0, x))
        return x * ratio

    return function


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": functional.silu,
    "relu2": lambda x: functional.relu(x).square(),
}
ACTIVATIONS |= {f"{name}-linearised": linearised(f) for name, f in ACTIVATIONS.items()}


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """c tanh(x / c), as Gemma 2 has it; x itself if the cap is 0."""
    return cap * (x / cap).tanh() if cap else x


def project(
    x: Float[Tensor, "#head batch pos d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"] | None,
) -> Float[Tensor, "head batch pos d_head"]:
    """Each head's vector from its own input, or from the one input all heads share."""
    heads, d_model, d_head = weight.shape
    if x.shape[0] == 1:  # one product for all heads instead of one per head
        flat = weight.permute(1, 0, 2).reshape(d_model, heads * d_head)
        result = (x[0] @ flat).unflatten(-1, (heads, d_head)).permute(2, 0, 1, 3)
    else:
        batch, pos = x.shape[1:3]
        result = (x.flatten(1, 2) @ weight).unflatten(1, (batch, pos))
    return result if bias is None else result + bias[:, None, None, :]


def mixed_heads(
    z: Float[Tensor, "head batch pos d_head"], weight: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """The sum of all heads' outputs, without bias, in one product."""
    return z.permute(1, 2, 0, 3).flatten(2) @ weight.flatten(0, 1)


def separate_heads(
    z: Float[Tensor, "head batch pos d_head"], weight: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head batch pos d_model"]:
    """Each head's output, without bias."""
    batch, pos = z.shape[1:3]
    return (z.flatten(1, 2) @ weight).unflatten(1, (batch, pos))


@dataclass(frozen=True)
class Rotary:
    """How one layer turns its queries and keys (Su et al. 2021, arXiv 2104.09864).

    `frequencies` are radians per position, one per pair of channels; channels beyond those pairs
    stay as they are. A pair is two neighbours (`interleaved`, GPT-J) or one channel of either half
    of those that turn (GPT-NeoX, Llama). `scale` multiplies cosines and sines (YaRN).
    """

    frequencies: tuple[float, ...]
    interleaved: bool = False
    scale: float = 1.0

    def angles(
        self, positions: Int[Tensor, "batch pos"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "batch pos turned"], Float[Tensor, "batch pos turned"]]:
        """Cosine and sine for every channel that turns, computed in float32 in every model.

        So are those of Hugging Face, and a float64 angle would be another model's.
        """
        frequencies = torch.tensor(self.frequencies, dtype=torch.float32, device=positions.device)
        half = positions[..., None].float() * frequencies
        both = half.repeat_interleave(2, dim=-1) if self.interleaved else half.repeat(1, 1, 2)
        return (both.cos() * self.scale).to(dtype), (both.sin() * self.scale).to(dtype)

    def turn(
        self,
        x: Float[Tensor, "*vectors pos d_head"],
        cosine: Float[Tensor, "batch pos turned"],
        sine: Float[Tensor, "batch pos turned"],
    ) -> Float[Tensor, "*vectors pos d_head"]:
        """Vectors [… batch pos d_head], turned."""
        n = cosine.shape[-1]
        turned, rest = x[..., :n], x[..., n:]
        turned = turned * cosine + self._across(turned) * sine
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned

    def _across(self, x: Tensor) -> Tensor:
        """Each pair (a, b) as (-b, a)."""
        if self.interleaved:
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([-second, first], dim=-1)
