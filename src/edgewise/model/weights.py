"""The tensors of a model, by name and shape: one schema for loading, checking and saving.

Names and shapes are TransformerLens's (W_Q [head d_model d_head], y = x @ W + b), the ones
interpretability researchers know by heart.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from edgewise.errors import SettingError, UnsupportedModel
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
        if c.pre_norm:
            tensors |= norm(f"{at}.ln1")
        for letter in "QKV":
            heads = c.n_heads if letter == "Q" else c.n_kv_heads
            tensors[f"{at}.attn.W_{letter}"] = Expected((heads, c.d_model, c.d_head))
            tensors[f"{at}.attn.b_{letter}"] = Expected((heads, c.d_head), True)
            if letter != "V" and c.qk_norm != "none":
                width = (c.d_head,) if c.qk_norm == "head" else (heads, c.d_head)
                tensors[f"{at}.attn.norm_{letter}.w"] = Expected(width)
                if c.norm.startswith("layernorm"):
                    tensors[f"{at}.attn.norm_{letter}.b"] = Expected(width, True)
        tensors[f"{at}.attn.W_O"] = Expected((c.n_heads, c.d_head, c.d_model))
        if not c.post_norm:
            tensors[f"{at}.attn.b_O"] = Expected((c.d_model,), True)
        if c.has_mlps:
            tensors |= norm(f"{at}.ln2") if c.pre_norm else {}
            tensors |= {f"{at}.mlp.{name}": e for name, e in _mlp(c, layer).items()}
        if c.post_norm:
            tensors[f"{at}.ln1_post.w"] = Expected((c.d_model,))
            tensors |= {f"{at}.ln2_post.w": Expected((c.d_model,))} if c.has_mlps else {}
    tensors |= norm("ln_final")
    tensors["unembed.W_U"] = Expected((c.d_model, c.d_vocab_out))
    tensors["unembed.b_U"] = Expected((c.d_vocab_out,), True)
    return tensors


def _mlp(c: ModelConfig, layer: int) -> dict[str, Expected]:
    """The tensors of a layer's MLP. Those of experts lie as Hugging Face has them, out by in."""
    experts = c.experts_of(layer)
    if experts is None:
        gate = {"W_gate": Expected((c.d_model, c.d_mlp)), "b_gate": Expected((c.d_mlp,), True)}
        return (gate if c.gated else {}) | {
            "W_in": Expected((c.d_model, c.d_mlp)),
            "b_in": Expected((c.d_mlp,), True),
            "W_out": Expected((c.d_mlp, c.d_model)),
            "b_out": Expected((c.d_model,), True),
        }
    n, width, shared = experts.n_experts, experts.d_expert, experts.d_shared
    tensors = {
        "router": Expected((n, c.d_model)),
        "experts.gate_up": Expected((n, 2 * width, c.d_model)),
        "experts.down": Expected((n, c.d_model, width)),
    }
    if shared:
        tensors["shared.W_gate"] = tensors["shared.W_in"] = Expected((c.d_model, shared))
        tensors["shared.W_out"] = Expected((shared, c.d_model))
        tensors["shared.W_share"] = Expected((c.d_model, 1))
    return tensors


def check_weights(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise `UnsupportedModel` with what is missing, unknown or of another shape, and what fits."""
    faults = list(_faults(schema(config), weights))
    if faults:
        shown = "; ".join(faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UnsupportedModel(f"{source}: {shown}{more}.")
    dtypes = sorted({str(tensor.dtype) for tensor in weights.values()})
    if len(dtypes) > 1:
        raise UnsupportedModel(f"{source}: its tensors are {' and '.join(dtypes)}; use one dtype.")
    places: dict[str, set[str]] = {}
    for name, tensor in weights.items():
        places.setdefault(part_of(name), set()).add(str(tensor.device))
    for part, found in places.items():
        if len(found) > 1:
            raise UnsupportedModel(
                f"{source}: {part} lies on {' and '.join(sorted(found))}. Layers may lie on "
                "several devices, each on one."
            )


def part_of(name: str) -> str:
    """What a tensor lies together with: its layer, "blocks.3", or all else, "the stream"."""
    return ".".join(name.split(".")[:2]) if name.startswith("blocks.") else "the stream"


_SHOWN = 12  # faults in one message: a state dict under other names has hundreds


def _faults(expected: Mapping[str, Expected], weights: Mapping[str, Tensor]) -> Iterator[str]:
    for name, e in expected.items():
        if not e.optional and name not in weights:
            yield f"{name} is missing, expected {e.shape}"
    for name, tensor in weights.items():
        if name not in expected:
            near = difflib.get_close_matches(name, [e for e in expected if e not in weights], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield f"{name} is not a tensor of this architecture{hint}"
            continue
        found, shape = tuple(tensor.shape), expected[name].shape
        if found != shape:
            hint = " (its transpose fits: torch's linear layers are [out, in], ours [in, out])"
            turned = len(found) > 1 and (*found[:-2], found[-1], found[-2]) == shape
            yield f"{name} is {found}, expected {shape}{hint if turned else ''}"


def heads_that_read(
    weight: Float[Tensor, "rows d_model"], n_heads: int
) -> Float[Tensor, "head d_model d_head"]:
    """The weight [head x d_head, d_model] of a linear layer as W_Q, W_K or W_V; a view.

    Of a fused layer [q, k and v, d_model], split its chunks: `weight.chunk(3)`.
    Raises `SettingError`.
    """
    _check_heads(weight, n_heads, 0)
    return weight.unflatten(0, (n_heads, -1)).transpose(1, 2)


def heads_that_write(
    weight: Float[Tensor, "d_model columns"], n_heads: int
) -> Float[Tensor, "head d_head d_model"]:
    """The weight [d_model, head x d_head] of a linear layer as W_O; a view.

    Raises `SettingError`.
    """
    _check_heads(weight, n_heads, 1)
    return weight.T.unflatten(0, (n_heads, -1))


def _check_heads(weight: Tensor, n_heads: int, dim: int) -> None:
    size = weight.shape[dim]
    if n_heads < 1 or size % n_heads:
        what = ("rows", "columns")[dim]
        raise SettingError(
            f"a matrix {tuple(weight.shape)} cannot be split into {n_heads} heads: it has {size} "
            f"{what}. A linear layer of torch is [out, in]."
        )
