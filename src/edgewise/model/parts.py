"""The parts that model families choose from: a function here, and a name in its table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Normalise = Callable[..., Tensor]  # of x, weight, bias, eps


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm over d_model, eps inside the root; always recomputed for what a port reads."""
    return functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    offset: float = 0.0,
    held: bool = False,
    dims: tuple[int, ...] = (-1,),
) -> Tensor:
    """RMSNorm, its mean square in float32 or better; `offset` is added to the weight (Gemma).

    `held`: the denominator has no gradient. `dims` are those that the mean square is over.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = (wide.square().mean(dim=dims, keepdim=True) + eps).rsqrt()
    result = wide * (scale.detach() if held else scale)
    if offset and weight is not None:  # Gemma rounds after the product, the others before
        return (result * (offset + weight.to(wide.dtype))).to(x.dtype)
    result = result.to(x.dtype)
    return result if weight is None else weight * result


def no_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """What compiled programs have: the stream as it is."""
    return x


def linearised_layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """LayerNorm whose denominator has no gradient (the LN rule of relevance propagation)."""
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt().detach()
    result = centred * scale
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def linearised(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x times a constant activation(x) / x (the identity rule of relevance propagation)."""

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            tiny = x.abs() < torch.finfo(x.dtype).eps
            ratio = torch.where(tiny, 0.5, activation(x) / torch.where(tiny, 1.0, x))
        return x * ratio

    return function


# Norm kinds, and whether each has a weight and bias of its own.
NORMS: dict[str, tuple[Normalise, bool]] = {
    "layernorm": (layer_norm, True),
    "layernorm-plain": (layer_norm, False),
    "rmsnorm": (rms_norm, True),
    "rmsnorm-offset": (partial(rms_norm, offset=1.0), True),
    "rmsnorm-plain": (rms_norm, False),
    "none": (no_norm, False),
    "layernorm-linearised": (linearised_layer_norm, True),
    "layernorm-plain-linearised": (linearised_layer_norm, False),
    "rmsnorm-linearised": (partial(rms_norm, held=True), True),
    "rmsnorm-offset-linearised": (partial(rms_norm, offset=1.0, held=True), True),
    "rmsnorm-plain-linearised": (partial(rms_norm, held=True), False),
    "none-linearised": (no_norm, False),
}

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
