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
from edgewise.model.config import NORMS, ModelConfig

Device = torch.device | str | None


@dataclass(frozen=True)
class Expected:
    """The shape a tensor must have, and whether a model may do without it (a bias that is zero)."""

    shape: tuple[int, ...]
    optional: bool = False


def schema(config: ModelConfig) -> dict[str, Expected]:
    """Every tensor that a model of this configuration has or may have."""
    c = config
    has_affine = NORMS[c.norm].affine

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
                if NORMS[c.norm].form == "layer":
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
    experts = c.experts[layer] if c.experts else None
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
    for name, tensor in weights.items():
        if name not in expected:
            near = difflib.get_close_matches(name, [e for e in expected if e not in weights], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield f"{name} is not a tensor of this architecture{hint}"
            continue
        size, shape = tuple(tensor.shape), expected[name].shape
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


def check_finite(weights: Mapping[str, Tensor], name: str) -> None:
    """Raise `ModelUnavailable` that names the first weights that hold NaN or infinity."""
    faults = []
    for key, weight in weights.items():
        values = weight.detach()
        if values.sum(dtype=torch.promote_types(values.dtype, torch.float32)).isfinite():
            continue  # a sum is cheap, and shows every number that is not finite
        counts = {"NaN": int(values.isnan().sum()), "infinite": int(values.isinf().sum())}
        if any(counts.values()):
            faults.append(
                f"{key} holds {' and '.join(f'{n:,} {k}' for k, n in counts.items() if n)}"
            )
    if faults:
        more = f", and {len(faults) - 1} more tensors are like it" if len(faults) > 1 else ""
        raise ModelUnavailable(
            f"{name}: the tensor {faults[0]}{more}. Every output that meets them is no number. "
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
        storage, device = tensor.untyped_storage(), device_of(name)
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
    seen: set[int] = set()
    for name, tensor in weights.items():
        if tensor.data_ptr() not in seen:  # a tied unembedding is no second copy
            seen.add(tensor.data_ptr())
            part = part_of(name)
            sizes[part] = sizes.get(part, 0) + tensor.numel() * tensor.element_size()
    layers = sorted((p for p in sizes if p.startswith("blocks.")), key=lambda p: int(p[7:]))
    placed: dict[str, torch.device] = {"the stream": devices[0]}
    left = sum(sizes.values())
    filled = sum(size for part, size in sizes.items() if part not in layers)
    at = 0
    for n, layer in enumerate(layers):
        waiting = len(devices) - at - 1  # devices that have nothing yet
        is_full = filled + sizes[layer] / 2 > left / (waiting + 1)
        must = len(layers) - n <= waiting
        if waiting and (must or (is_full and filled)) and n:
            left, filled, at = left - filled, 0, at + 1
        placed[layer] = devices[at]
        filled += sizes[layer]
    return placed
