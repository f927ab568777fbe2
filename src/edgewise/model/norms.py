"""The norms of a model by name, and gradients back through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.model.config import ModelConfig
from edgewise.model.parts import NORMS

_IN_CACHE, _ON_CARD = 2**18, 2**27  # numbers of a gradient that are worked on together


@runtime_checkable
class Transformer(Protocol):
    """All that a run needs of a model."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Tensors by the names of `edgewise.model.weights.schema`."""
        ...


def layer_device(model: Transformer, layer: int) -> torch.device:
    """Where a layer's weights lie, and so where it computes: a model may fill several cards."""
    return model.weights[f"blocks.{layer}.attn.W_O"].device


def norm(model: Transformer, name: str, x: Tensor) -> Tensor:
    """The norm called `name` (ln1, ln2 and their _post of a block, or ln_final)."""
    config = model.config
    if not config.pre_norm and name.endswith(("ln1", "ln2")):
        return x
    weight, bias = model.weights.get(f"{name}.w"), model.weights.get(f"{name}.b")
    return NORMS[config.norm](x, weight, bias, config.eps)


def norm_pullback(
    model: Transformer,
    name: str,
    x: Float[Tensor, "batch pos d_model"],
    *,
    gradients: Float[Tensor, "port batch pos d_model"],
) -> Float[Tensor, "port batch pos d_model"]:
    """Gradients where a norm reads x, from gradients g of what it gives: one for each of many.

    RMSNorm's in closed form, for y = weight * n with n = x / s and h = weight * g:

        dL / dx = (h - n mean(h n)) / s

    without the last term if the denominator is held. Sums are in float32 or better, some ports at
    a time, so that on a CPU they stay in its cache. LayerNorm has a kernel that does as well.
    """
    config, kind = model.config, NORMS[model.config.norm]
    if kind.kind == "none" or (not config.pre_norm and name.endswith(("ln1", "ln2"))):
        return gradients
    if kind.kind == "layer":
        pull = torch.func.vjp(lambda y: norm(model, name, y), x)[1]
        (result,) = torch.vmap(pull)(gradients)
        return result
    wide = torch.promote_types(x.dtype, torch.float32)
    x, weight = x.to(wide), model.weights.get(f"{name}.w")
    if weight is not None:
        weight = weight.to(wide) + kind.offset
    inverse = (x.square().mean(dim=-1, keepdim=True) + config.eps).rsqrt()
    normed, result = x * inverse, torch.empty_like(gradients)
    at_once = max(1, (_IN_CACHE if x.device.type == "cpu" else _ON_CARD) // x.numel())
    for part, out in zip(gradients.split(at_once), result.split(at_once), strict=True):
        h = part.to(wide) * (1 if weight is None else weight)
        if not kind.held:
            h = h - normed * (h * normed).mean(dim=-1, keepdim=True)
        out.copy_(h * inverse)
    return result
