"""Where weights lie: moving them, and sharing layers out over devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from edgewise.model.weights import part_of

Device = torch.device | str | None


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
            every = tensor.new_empty(0).set_(storage)
            done[key] = every.to(dtype=dtype, device=device)
        place = tensor.size(), tensor.stride(), tensor.storage_offset()
        result[name] = done[key].as_strided(*place)
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
