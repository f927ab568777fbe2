"""How much memory removals that are evaluated together may take, by device.

A CPU is fastest while they stay near its caches. A GPU needs far more of them to be busy at all.
When memory runs out nevertheless, `Removals` halves what it evaluates at once.
"""

from __future__ import annotations

import torch

_ON_CPU = 256 * 2**20
_STEP_ON_CPU = 8 * 2**20
_SHARE_OF_GPU = 0.1


def variant_bytes(device: torch.device) -> int:
    """Of activations alive at a time, for all variants together."""
    if device.type != "cuda":
        return _ON_CPU
    return int(_SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory)


def step_bytes(device: torch.device) -> int:
    """Of what one step of a plan reads and writes, for all variants that go through it together."""
    return _STEP_ON_CPU if device.type == "cpu" else variant_bytes(device)


def logits_bytes(device: torch.device) -> int:
    """Of logits alive at a time."""
    return variant_bytes(device) // 4
