"""The tensors of a model, by name and shape: one schema for loading, checking and saving.

Names and shapes are TransformerLens's (W_Q [head d_model d_head], y = x @ W + b), the ones
interpretability researchers know by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.parts import NORMS


@dataclass(frozen=True)
class Expected:
    """The shape a tensor must have, and whether a model may do without it (a bias that is zero)."""

    shape: tuple[int, ...]
    optional: bool = False


def schema(config: ModelConfig) -> dict[str, Expected]:
    """Every tensor that a model of this configuration has or may have."""
    c = config
    has_affine = NORMS[c.norm][1]

    def norm(name: str) -> dict[str, Expected]:
        if not has_affine:
            return {}
        return {f"{name}.w": Expected((c.d_model,)), f"{name}.b": Expected((c.d_model,), True)}

    tensors = {"embed.W_E": Expected((c.d_vocab, c.d_model))}
    if c.positions != "none":
        tensors["pos_embed.W_pos"] = Expected((c.n_ctx, c.d_model))
    for layer in range(c.n_layers):
        at = f"blocks.{layer}"
        tensors |= norm(f"{at}.ln1")
        for letter in "QKV":
            tensors[f"{at}.attn.W_{letter}"] = Expected((c.n_heads, c.d_model, c.d_head))
            tensors[f"{at}.attn.b_{letter}"] = Expected((c.n_heads, c.d_head), True)
        tensors[f"{at}.attn.W_O"] = Expected((c.n_heads, c.d_head, c.d_model))
        tensors[f"{at}.attn.b_O"] = Expected((c.d_model,), True)
        if c.has_mlps:
            tensors |= norm(f"{at}.ln2")
            tensors[f"{at}.mlp.W_in"] = Expected((c.d_model, c.d_mlp))
            tensors[f"{at}.mlp.b_in"] = Expected((c.d_mlp,), True)
            tensors[f"{at}.mlp.W_out"] = Expected((c.d_mlp, c.d_model))
            tensors[f"{at}.mlp.b_out"] = Expected((c.d_model,), True)
    tensors |= norm("ln_final")
    tensors["unembed.W_U"] = Expected((c.d_model, c.d_vocab_out))
    tensors["unembed.b_U"] = Expected((c.d_vocab_out,), True)
    return tensors


def check_weights(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise `UnsupportedModel` with every tensor that is missing, unknown or of another shape."""
    expected = schema(config)
    faults = [
        f"{name} is missing"
        for name, e in expected.items()
        if not e.optional and name not in weights
    ]
    for name, tensor in weights.items():
        if name not in expected:
            faults.append(f"{name} is not a tensor of this architecture")
        elif tuple(tensor.shape) != expected[name].shape:
            faults.append(f"{name} is {tuple(tensor.shape)}, expected {expected[name].shape}")
    if faults:
        raise UnsupportedModel(f"{source}: {'; '.join(faults)}.")
    kinds = {(tensor.dtype, tensor.device) for tensor in weights.values()}
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise UnsupportedModel(f"{source}: its tensors are of several kinds ({found}); use one.")
