"""Load a model: a bundled one, a folder, a hub name, or one that is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import SettingError, UnsupportedModel, unknown_name
from edgewise.model import bridges
from edgewise.model.bundled import BUNDLED, bundled_model
from edgewise.model.checkpoints import check_tokenizer, first_line, from_pretrained
from edgewise.model.families import family_of
from edgewise.model.model import Model
from edgewise.model.processing import process, steps_that_are_exact
from edgewise.model.proof import (
    TOLERANCES,
    UNPROVEN,
    Source,
    huggingface_source,
    probed,
    prove,
    proved_again,
)
from edgewise.model.weights import check_finite, gathered, moved

_FLOATING = tuple(TOLERANCES)  # dtypes that can be computed in
# Where a package keeps modules whose weights are packed. (Those of transformers' own integrations
# are all of this kind.)
_PACKING = (
    *("torch.ao", "torchao", "bitsandbytes", "gptqmodel", "auto_gptq", "awq", "hqq", "eetq"),
    *("aqlm", "vptq", "optimum", "compressed_tensors", "transformers.integrations"),
)
_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
Processing = Literal["none", "transformer-lens"]


def load_model(
    source: Any,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | Sequence[torch.device | str] | None = None,
    processing: Processing = "none",
    tokenizer: Any = None,
) -> Model:
    """A model that has proved itself equal to its source.

    `source`: the name of a bundled model, a folder, a GGUF file (or a folder that holds one), a hub
    name, or a module of transformers (whose parameters are shared, not copied: training it changes
    the model; torch.compile and data parallelism may wrap it). Also a TransformerBridge or
    HookedTransformer of TransformerLens, or nanoGPT's checkpoint, a dictionary that you have read
    yourself. `dtype` and `device` default to the source's own, and to float32 for a GGUF file.
    Several devices share the layers of a model that is larger than one of them; "auto" lets
    transformers and accelerate place a checkpoint over all there are, without a copy in the CPU's
    memory (`pip install 'edgewise[cards]'`). `processing="transformer-lens"` rewrites the weights
    as TransformerLens does by default (`edgewise.model.process`). Raises `ModelError`: unsupported,
    unreachable, or not proved, there or on the device asked for; and `SettingError` for devices
    that this machine has not.

    >>> load_model("tracr-reverse").config.n_layers
    4
    """
    dtype, devices = _dtype(dtype), _devices(source, device)
    if processing not in ("none", "transformer-lens"):
        raise unknown_name("processing", str(processing), ("none", "transformer-lens"))
    if bridges.is_bridge(source):
        model = _from_bridge(source, tokenizer)
    elif isinstance(source, Mapping) or hasattr(source, "cfg"):
        model = _from_state(source, tokenizer)
    elif not isinstance(source, str | Path):
        module = unwrapped(source)
        model = _from_module(module, type(module).__name__, tokenizer)
    elif str(source) in BUNDLED:
        model = bundled_model(str(source))
        if tokenizer is not None:
            model = replace(model, tokenizer=as_tokenizer(tokenizer))
    else:
        module, own_tokenizer = from_pretrained(str(source), dtype, everywhere=devices == "auto")
        tokenizer = tokenizer or own_tokenizer
        model = _from_module(module, str(source), tokenizer)
        if len(devices) == 1 and devices[0] != model.device:
            device, expected = devices[0], probed(model)
            del model  # the module moves in place: a second copy may not fit
            model = _from_module(module.to(device), str(source), tokenizer)
            model = proved_again(model, expected)
    model = _placed(model, dtype, devices)
    if processing == "none":
        return model
    return process(model, **steps_that_are_exact(model))


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype, from one or its name. Raises `UnknownName`."""
    if dtype is None:
        return None
    names = {str(known).removeprefix("torch."): known for known in TOLERANCES}
    name = str(dtype).removeprefix("torch.")
    if name not in names:
        raise unknown_name("dtype for a model", name, names)
    return names[name]


def _devices(source: Any, device: Any) -> list[torch.device] | Literal["auto"]:
    """The devices asked for: none for the source's own. Raises `SettingError`."""
    if device == "auto":
        if not isinstance(source, str | Path) or str(source) in BUNDLED:
            raise SettingError(
                "device='auto' places checkpoints, by hub name or folder. For a model in memory "
                "or a bundled one name the devices, such as ['cuda:0', 'cuda:1']."
            )
        return "auto"
    if isinstance(device, str):
        device = device.split(",")
    several = device if isinstance(device, Sequence) else [device]
    return [place for place in map(_device, several) if place is not None]


def _placed(
    model: Model, dtype: torch.dtype | None, devices: list[torch.device] | Literal["auto"]
) -> Model:
    if len(devices) == 1 or devices == "auto":
        device = None if devices == "auto" else devices[0]
        return model if dtype is None and device is None else model.to(dtype=dtype, device=device)
    model = model if dtype is None else model.to(dtype=dtype)
    return model.spread(devices) if devices else model


def _device(device: torch.device | str | None) -> torch.device | None:
    """A device that this machine has. Raises `SettingError`."""
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as reason:
        raise SettingError(
            f"device {str(device)!r} cannot be used here ({first_line(reason)}). "
            "'cpu' always can; 'cuda' and 'mps' need their hardware and a torch built for it."
        ) from reason


def _from_module(module: Any, name: str, tokenizer: Any) -> Model:
    """From a module of transformers, in the family that it belongs to."""
    if isinstance(module, torch.nn.Module):
        check_plain(module, name)
    family = family_of(module)
    n_layers = getattr(module.config, "num_hidden_layers", 1)
    if n_layers < 1:
        raise UnsupportedModel(f"{name} has {n_layers} layers; a model needs at least 1.")
    config, weights = family.read(module)
    model = Model(config, gathered(weights), name=name, tokenizer=as_tokenizer(tokenizer))
    model = _proved(model, huggingface_source(module, family.final_norm(module)))
    if model.device.type not in UNPROVEN:
        return model
    # It came as it is, and its source computes there too: what both get wrong, only a CPU shows.
    home = replace(model, weights=moved(model.weights, None, lambda _: "cpu"))
    return proved_again(model, probed(home))


def _from_bridge(bridge: Any, tokenizer: Any) -> Model:
    """From a TransformerBridge of TransformerLens 3 or 4."""
    name = getattr(bridge.cfg, "model_name", None) or type(bridge).__name__
    plain = bridges.unwrapped(bridge.original_model)
    bridges.refuse_hooks(bridge, name)
    check_plain(plain, name)
    config, weights, final_norm = bridges.read(bridge, plain)
    wrapped = as_tokenizer(tokenizer or getattr(bridge, "tokenizer", None))
    model = Model(config, gathered(weights), name=name, tokenizer=wrapped)
    if getattr(bridge, "_weights_processed", False):
        model = replace(model, processing="by TransformerLens")
    forward = bridges.forward(bridge, name)
    return _proved(model, huggingface_source(bridge.original_model, final_norm, forward=forward))


def _proved(model: Model, source: Source) -> Model:
    """The model, if its tokenizer fits and it computes what its source does."""
    check_tokenizer(model.tokenizer, model.config.d_vocab, model.name)
    return replace(model, proof=prove(model, source))


def _from_state(source: Any, tokenizer: Any) -> Model:
    """From TransformerLens, or a nanoGPT checkpoint."""
    if isinstance(source, Mapping):
        if "model_args" not in source or "model" not in source:
            raise UnsupportedModel(
                "a dictionary is read as a nanoGPT checkpoint, with 'model_args' and 'model'; this "
                f"one has {', '.join(map(str, list(source)[:6])) or 'nothing'}. For tensors of "
                "your own use Model.from_torch."
            )
        return Model.from_torch(
            source["model_args"], source["model"], name="nanoGPT", tokenizer=tokenizer
        )
    name = getattr(source.cfg, "model_name", None) or type(source).__name__
    bridges.refuse_hooks(source, name)
    state = source.state_dict() if isinstance(source, torch.nn.Module) else {}
    if "embed.W_E" not in state:
        raise UnsupportedModel(
            f"{type(source).__name__} keeps its tensors in another layout than TransformerLens's "
            "HookedTransformer. Load the same model by its Hugging Face name."
        )
    return Model.from_torch(
        vars(source.cfg),
        state,
        source=source,
        name=name,
        tokenizer=tokenizer or getattr(source, "tokenizer", None),
    )


# --- modules inside others: unwrapped where that is exact, else named, with what would work


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
        if parameter.dtype not in _FLOATING or hasattr(data, "__tensor_flatten__"):
            kind = type(data).__name__
            raise _packed(name, f"{key} is {'of ' + str(data.dtype) if kind == 'Tensor' else kind}")
    check_finite(dict(module.named_parameters()), name)


def _packed(name: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{name} is quantised: {what}, and packed matrices cannot be split into heads. Load the "
        "unquantised model (dtype='bfloat16' if memory is short), or its GGUF file, which is "
        "unpacked as it is read."
    )
