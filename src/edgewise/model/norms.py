"""The norms of a model by name, and gradients back through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.model.config import ModelConfig
from edgewise.model.parts import NORMS


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
    normalise, _ = NORMS[config.norm]
    return normalise(x, model.weights.get(f"{name}.w"), model.weights.get(f"{name}.b"), config.eps)


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
