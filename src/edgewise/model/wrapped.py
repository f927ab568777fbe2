"""Modules inside others: unwrapped where that is exact, else named, with what would work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgewise.errors import ModelUnavailable, UnsupportedModel

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Where a package keeps modules whose weights are packed. (Those of transformers' own integrations
# are all of this kind.)
_PACKING = (
    *("torch.ao", "torchao", "bitsandbytes", "gptqmodel", "auto_gptq", "awq", "hqq", "eetq"),
    *("aqlm", "vptq", "optimum", "compressed_tensors", "transformers.integrations"),
)


_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


def unwrapped(module: Any) -> Any:
    """The module that torch.compile or data parallelism wraps: the same weights, and outputs."""
    while True:
        if isinstance(module, _PARALLEL):
            module = module.module
        elif (inner := getattr(module, "_orig_mod", None)) is not None:
            module = inner
        else:
            return module


def check_plain(module: torch.nn.Module, name: str) -> None:
    """Check that all weights are plain tensors of finite numbers.

    Raises `UnsupportedModel`, and `ModelUnavailable` for numbers that are not finite.
    """
    for key, part in module.named_modules():
        where, kind = type(part).__module__, type(part).__name__
        if where.startswith("peft."):
            raise UnsupportedModel(
                f"{name} has adapters of PEFT ({key or 'the module'} is a {kind}). Merge them into "
                "its weights first: load_model(model.merge_and_unload())."
            )
        if where.startswith(_PACKING):
            raise _packed(
                name, f"{key or 'the module'} is a {kind} of {'.'.join(where.split('.')[:2])}"
            )
        if kind == "FullyShardedDataParallel":
            raise UnsupportedModel(f"{name}: {key} is sharded by FSDP. Load the whole module.")
    for key, parameter in module.named_parameters():
        if parameter.is_meta:
            raise UnsupportedModel(
                f"{name}: {key} is on the meta device, which holds no numbers: load the model "
                "whole, not offloaded."
            )
        data = parameter.data
        if parameter.dtype not in FLOATING or hasattr(data, "__tensor_flatten__"):
            kind = type(data).__name__
            raise _packed(name, f"{key} is {'of ' + str(data.dtype) if kind == 'Tensor' else kind}")
    check_finite(dict(module.named_parameters()), name)


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


def _packed(name: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{name} is quantised: {what}, and packed matrices cannot be split into heads. Load the "
        "unquantised model (dtype='bfloat16' if memory is short), or its GGUF file, which is "
        "unpacked as it is read."
    )
