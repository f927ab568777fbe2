"""The tensors of a model, by name and shape: one schema for loading, checking and saving.

Names and shapes are TransformerLens's (W_Q [head d_model d_head], y = x @ W + b), the ones
interpretability researchers know by heart.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.errors import ModelUnavailable, SettingError, UnsupportedModel
from edgewise.model.config import NORMS, Experts, ModelConfig

Device = torch.device | str | None


@dataclass(frozen=True)
class Expected:
    """The shape a tensor must have, and whether a model may do without it (a bias that is zero)."""

    shape: tuple[int, ...]
    optional: bool = False


def schema(config: ModelConfig) -> dict[str, Expected]:
    """Every tensor that a model of this configuration has or may have."""
    c = config
    tensors = {"embed.W_E": Expected((c.d_vocab, c.d_model))}
    if c.positions != "none":
        tensors["pos_embed.W_pos"] = Expected((c.n_ctx, c.d_model))
    for layer in range(c.n_layers):
        block = (_norm(c, "ln1") if c.pre_norm else {}) | _attention(c)
        if c.has_mlps:
            experts = c.experts[layer] if c.experts else None
            mlp = _dense(c) if experts is None else _mixture(c, experts)
            block |= _norm(c, "ln2") if c.pre_norm else {}
            block |= {f"mlp.{name}": expected for name, expected in mlp.items()}
        if c.post_norm:
            names = ("ln1_post.w", "ln2_post.w") if c.has_mlps else ("ln1_post.w",)
            block |= dict.fromkeys(names, Expected((c.d_model,)))
        tensors |= {f"blocks.{layer}.{name}": expected for name, expected in block.items()}
    tensors |= _norm(c, "ln_final")
    tensors["unembed.W_U"] = Expected((c.d_model, c.d_vocab_out))
    tensors["unembed.b_U"] = Expected((c.d_vocab_out,), True)
    return tensors


def _norm(c: ModelConfig, name: str) -> dict[str, Expected]:
    if not NORMS[c.norm].affine:
        return {}
    return {f"{name}.w": Expected((c.d_model,)), f"{name}.b": Expected((c.d_model,), True)}


def _attention(c: ModelConfig) -> dict[str, Expected]:
    tensors = {}
    for letter in "QKV":
        heads = c.n_heads if letter == "Q" else c.n_kv_heads
        tensors[f"attn.W_{letter}"] = Expected((heads, c.d_model, c.d_head))
        tensors[f"attn.b_{letter}"] = Expected((heads, c.d_head), True)
        if letter != "V" and c.qk_norm != "none":
            width = (c.d_head,) if c.qk_norm == "head" else (heads, c.d_head)
            tensors[f"attn.norm_{letter}.w"] = Expected(width)
            if NORMS[c.norm].form == "layer":
                tensors[f"attn.norm_{letter}.b"] = Expected(width, True)
    tensors["attn.W_O"] = Expected((c.n_heads, c.d_head, c.d_model))
    if not c.post_norm:
        tensors["attn.b_O"] = Expected((c.d_model,), True)
    return tensors


def _dense(c: ModelConfig) -> dict[str, Expected]:
    gate = {"W_gate": Expected((c.d_model, c.d_mlp)), "b_gate": Expected((c.d_mlp,), True)}
    return (gate if c.gated else {}) | {
        "W_in": Expected((c.d_model, c.d_mlp)),
        "b_in": Expected((c.d_mlp,), True),
        "W_out": Expected((c.d_mlp, c.d_model)),
        "b_out": Expected((c.d_model,), True),
    }


def _mixture(c: ModelConfig, experts: Experts) -> dict[str, Expected]:
    """The tensors of experts, which lie as Hugging Face has them, out by in."""
    n = experts.n_experts
    width = experts.d_expert
    shared = experts.d_shared
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
    devices: dict[str, set[str]] = {}
    for name, tensor in weights.items():
        devices.setdefault(part_of(name), set()).add(str(tensor.device))
    for part, lying in devices.items():
        if len(lying) > 1:
            raise UnsupportedModel(
                f"{source}: {part} lies on {' and '.join(sorted(lying))}. Layers may lie on "
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
    missing = [name for name in expected if name not in weights]
    for name, tensor in weights.items():
        if name not in expected:
            near = difflib.get_close_matches(name, missing, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield f"{name} is not a tensor of this architecture{hint}"
            continue
        size = tuple(tensor.shape)
        shape = expected[name].shape
        if size != shape:
            hint = " (its transpose fits: torch's linear layers are [out, in], ours [in, out])"
            turned = len(size) > 1 and (*size[:-2], size[-1], size[-2]) == shape
            yield f"{name} is {size}, expected {shape}{hint if turned else ''}"


def heads_that_read(
    weight: Float[Tensor, "rows d_model"], n_heads: int
) -> Float[Tensor, "head d_model d_head"]:
    """The weight [head x d_head, d_model] of a linear layer as W_Q, W_K or W_V; a view.

    Of a fused layer [q, k and v, d_model], split its chunks: `weight.chunk(3)`.
    Raises `SettingError`.
    """
    return _split(weight, n_heads, "rows").transpose(1, 2)


def heads_that_write(
    weight: Float[Tensor, "d_model columns"], n_heads: int
) -> Float[Tensor, "head d_head d_model"]:
    """The weight [d_model, head x d_head] of a linear layer as W_O; a view.

    Raises `SettingError`.
    """
    return _split(weight.T, n_heads, "columns")


def _split(weight: Tensor, n_heads: int, what: str) -> Tensor:
    if n_heads < 1 or len(weight) % n_heads:
        raise SettingError(
            f"a matrix cannot be split into {n_heads} heads: it has {len(weight)} {what}. A linear "
            "layer of torch is [out, in]."
        )
    return weight.unflatten(0, (n_heads, -1))


def check_finite(weights: Mapping[str, Tensor], name: str) -> None:
    """Raise `ModelUnavailable` that names the first weights that hold NaN or infinity."""
    for key, weight in weights.items():
        values = weight.detach()
        if values.sum(dtype=torch.promote_types(values.dtype, torch.float32)).isfinite():
            continue  # a sum is cheap, and shows every number that is not finite
        nans = int(values.isnan().sum())
        infinite = int(values.isinf().sum())
        if not nans and not infinite:
            continue
        kinds = f"{nans:,} NaN" if nans else f"{infinite:,} infinite numbers"
        raise ModelUnavailable(
            f"{name}: the tensor {key} holds {kinds}. Every output that meets them is no number. "
            "The file is damaged, its training diverged, or its numbers were too large for "
            "float16: take the original, in bfloat16 or float32."
        )


# --- where weights lie


def moved(
    weights: Mapping[str, Tensor], dtype: torch.dtype | None, device_of: Callable[[str], Device]
) -> dict[str, Tensor]:
    """Weights in another dtype, each on the device for its name; None leaves as it is.

    Weights that are views of one tensor stay so, if they go to one place.
    """
    done: dict[tuple[int, str], Tensor] = {}
    result = {}
    for name, tensor in weights.items():
        storage = tensor.untyped_storage()
        device = device_of(name)
        if storage.nbytes() > 4 * tensor.numel() * tensor.element_size():
            result[name] = tensor.to(dtype=dtype, device=device)  # a small view of a large file
            continue
        key = (storage.data_ptr(), str(device))
        if key not in done:
            whole = tensor.new_empty(0).set_(storage)
            done[key] = whole.to(dtype=dtype, device=device)
        view = tensor.size(), tensor.stride(), tensor.storage_offset()
        result[name] = done[key].as_strided(*view)
    return result


def gathered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With everything but layers where the token embeddings are."""
    home = weights["embed.W_E"].device
    return {n: t.to(home) if part_of(n) == "the stream" else t for n, t in weights.items()}


def layers_in_turn(
    weights: Mapping[str, Tensor], devices: Sequence[torch.device]
) -> dict[str, torch.device]:
    """A device for each part of a model: layers in their order, of equal bytes on each device.

    What is not a layer, "the stream", lies on the first, and counts there.
    """
    sizes: dict[str, int] = {}
    counted: set[int] = set()
    for name, tensor in weights.items():
        if tensor.data_ptr() not in counted:  # a tied unembedding is no second copy
            counted.add(tensor.data_ptr())
            sizes[part_of(name)] = sizes.get(part_of(name), 0) + tensor.nbytes
    filled = sizes.pop("the stream")
    layers = sorted(sizes, key=lambda part: int(part.removeprefix("blocks.")))
    devices_of = {"the stream": devices[0]}
    left = filled + sum(sizes.values())
    at = 0
    for n, layer in enumerate(layers):
        waiting = len(devices) - at - 1  # devices that have nothing yet
        is_full = filled + sizes[layer] / 2 > left / (waiting + 1)
        if waiting and n and (is_full or len(layers) - n <= waiting):
            left = left - filled
            filled = 0
            at = at + 1
        devices_of[layer] = devices[at]
        filled += sizes[layer]
    return devices_of
