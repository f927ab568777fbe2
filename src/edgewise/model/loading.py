"""Load a model: a bundled one, a folder, a hub name, or one that is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import SettingError, UnsupportedModel, unknown_name
from edgewise.model import lens, proof
from edgewise.model.bundled import BUNDLED, bundled_model
from edgewise.model.checkpoints import check_tokenizer, from_pretrained
from edgewise.model.config import ModelConfig
from edgewise.model.families import family_of
from edgewise.model.model import Model
from edgewise.model.processing import process, steps_that_are_exact
from edgewise.model.weights import check_finite, gathered, moved

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
    wide = _dtype(dtype)
    is_checkpoint = isinstance(source, str | Path) and str(source) not in BUNDLED
    everywhere = device == "auto"
    if everywhere and not is_checkpoint:
        raise SettingError(
            "device='auto' places checkpoints, by hub name or folder. For a model in memory or a "
            "bundled one name the devices, such as ['cuda:0', 'cuda:1']."
        )
    devices = [] if everywhere or device is None else _devices(device)
    if processing not in get_args(Processing):
        raise unknown_name("processing", str(processing), get_args(Processing))
    if is_checkpoint:
        model = _from_checkpoint(str(source), wide, devices, tokenizer, everywhere=everywhere)
    else:
        model = _from_memory(source, tokenizer)
    if wide is not None or len(devices) == 1:
        model = model.to(dtype=wide, device=devices[0] if len(devices) == 1 else None)
    if len(devices) > 1:
        model = model.spread(devices)
    return model if processing == "none" else process(model, **steps_that_are_exact(model))


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype, from one or its name. Raises `UnknownName`."""
    if dtype is None:
        return None
    names = {str(known).removeprefix("torch."): known for known in proof.TOLERANCES}
    name = str(dtype).removeprefix("torch.")
    if name not in names:
        raise unknown_name("dtype for a model", name, names)
    return names[name]


def _devices(device: Any) -> list[torch.device]:
    """Devices that this machine has, from one, several, or their names. Raises `SettingError`."""
    if isinstance(device, str):
        device = device.split(",")
    devices = []
    for name in device if isinstance(device, Sequence) else [device]:
        try:
            devices.append(torch.empty(0, device=name).device)
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as reason:
            raise SettingError(
                f"device {str(name)!r} cannot be used here ({proof.first_line(reason)}). "
                "'cpu' always can; 'cuda' and 'mps' need their hardware and a torch built for it."
            ) from reason
    return devices


# --- from each kind of source


def _from_checkpoint(
    source: str,
    dtype: torch.dtype | None,
    devices: Sequence[torch.device],
    tokenizer: Any,
    *,
    everywhere: bool,
) -> Model:
    """From a hub name, a folder or a GGUF file."""
    module, own_tokenizer = from_pretrained(source, dtype, everywhere=everywhere)
    tokenizer = tokenizer or own_tokenizer
    model = _from_module(module, source, tokenizer)
    if len(devices) == 1 and devices[0] != model.device:
        expected = proof.probed(model)
        del model  # the module moves in place: a second copy may not fit
        model = proof.proved_again(_from_module(module.to(devices[0]), source, tokenizer), expected)
    return model


def _from_memory(source: Any, tokenizer: Any) -> Model:
    """From a bundled model's name, or an object that holds a model."""
    if isinstance(source, str | Path):
        model = bundled_model(str(source))
        return model if tokenizer is None else replace(model, tokenizer=as_tokenizer(tokenizer))
    if isinstance(source, Mapping):
        if "model_args" not in source or "model" not in source:
            raise UnsupportedModel(
                "a dictionary is read as a nanoGPT checkpoint, with 'model_args' and 'model'; this "
                f"one has {', '.join(map(str, list(source)[:6])) or 'nothing'}. For tensors of "
                "your own use Model.from_torch."
            )
        config = source["model_args"]
        state = source["model"]
        return Model.from_torch(config, state, name="nanoGPT", tokenizer=tokenizer)
    if not hasattr(source, "cfg"):
        module = unwrapped(source)
        return _from_module(module, type(module).__name__, tokenizer)
    name = getattr(source.cfg, "model_name", None) or type(source).__name__
    tokenizer = tokenizer or getattr(source, "tokenizer", None)
    lens.refuse_hooks(source, name)
    if lens.is_bridge(source):
        return _from_bridge(source, name, tokenizer)
    state = source.state_dict() if isinstance(source, torch.nn.Module) else {}
    if "embed.W_E" not in state:
        raise UnsupportedModel(
            f"{type(source).__name__} keeps its tensors in another layout than TransformerLens's "
            "HookedTransformer. Load the same model by its Hugging Face name."
        )
    config = vars(source.cfg)
    return Model.from_torch(config, state, source=source, name=name, tokenizer=tokenizer)


def _from_bridge(bridge: Any, name: str, tokenizer: Any) -> Model:
    """From a TransformerBridge of TransformerLens 3 or 4."""
    plain = lens.without_wrappers(bridge.original_model)
    check_plain(plain, name)
    config, weights, final_norm = lens.read_bridge(bridge, plain)
    forward = lens.bridge_forward(bridge, name)
    source = proof.huggingface_source(bridge.original_model, final_norm, forward=forward)
    model = _proved(config, weights, source, name=name, tokenizer=tokenizer)
    is_processed = getattr(bridge, "_weights_processed", False)
    return replace(model, processing="by TransformerLens") if is_processed else model


def _from_module(module: Any, name: str, tokenizer: Any) -> Model:
    """From a module of transformers, in the family that it belongs to."""
    if isinstance(module, torch.nn.Module):
        check_plain(module, name)
    family = family_of(module)
    n_layers = getattr(module.config, "num_hidden_layers", 1)
    if n_layers < 1:
        raise UnsupportedModel(f"{name} has {n_layers} layers; a model needs at least 1.")
    source = proof.huggingface_source(module, family.final_norm(module))
    model = _proved(*family.read(module), source, name=name, tokenizer=tokenizer)
    if model.device.type not in proof.UNPROVEN:
        return model
    # It came as it is, and its source computes there too: what both get wrong, only a CPU shows.
    home = replace(model, weights=moved(model.weights, None, lambda _: "cpu"))
    return proof.proved_again(model, proof.probed(home))


def _proved(
    config: ModelConfig,
    weights: Mapping[str, torch.Tensor],
    source: proof.Source,
    *,
    name: str,
    tokenizer: Any,
) -> Model:
    """A model, if its tokenizer fits and it computes what its source does."""
    model = Model(config, gathered(weights), name=name, tokenizer=as_tokenizer(tokenizer))
    check_tokenizer(model.tokenizer, config.d_vocab, name)
    return replace(model, proof=proof.prove(model, source))


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
        where = type(part).__module__
        kind = type(part).__name__
        if where.startswith("peft."):
            raise UnsupportedModel(
                f"{name} has adapters of PEFT ({key or 'the module'} is a {kind}). Merge them into "
                "its weights first: load_model(model.merge_and_unload())."
            )
        if where.startswith(_PACKING):
            package = ".".join(where.split(".")[:2])
            raise _packed(name, f"{key or 'the module'} is a {kind} of {package}")
        if kind == "FullyShardedDataParallel":
            raise UnsupportedModel(f"{name}: {key} is sharded by FSDP. Load the whole module.")
    for key, parameter in module.named_parameters():
        if parameter.is_meta:
            raise UnsupportedModel(
                f"{name}: {key} is on the meta device, which holds no numbers: load the model "
                "whole, not offloaded."
            )
        data = parameter.data
        if parameter.dtype not in proof.TOLERANCES or hasattr(data, "__tensor_flatten__"):
            kind = type(data).__name__
            raise _packed(name, f"{key} is {'of ' + str(data.dtype) if kind == 'Tensor' else kind}")
    check_finite(dict(module.named_parameters()), name)


def _packed(name: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{name} is quantised: {what}, and packed matrices cannot be split into heads. Load the "
        "unquantised model (dtype='bfloat16' if memory is short), or its GGUF file, which is "
        "unpacked as it is read."
    )
