"""Load a model: a bundled one, a folder, a hub name, or a Hugging Face module in memory."""

from __future__ import annotations

import difflib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from edgewise.data.tokenizers import as_tokenizer
from edgewise.errors import ModelUnavailable, SettingError, UnsupportedModel, unknown_name
from edgewise.model.bundled import BUNDLED, bundled_model
from edgewise.model.families import check_model_type, family_of
from edgewise.model.model import Model
from edgewise.model.processing import process
from edgewise.model.proof import TOLERANCES, huggingface_source, prove

Processing = Literal["none", "transformer-lens"]


def load_model(
    source: Any,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    processing: Processing = "none",
    tokenizer: Any = None,
) -> Model:
    """A model that has proved itself equal to its source.

    `source`: the name of a bundled model, a folder, a hub name, or a module of transformers (whose
    parameters are shared, not copied: training it changes the model). `dtype` and `device` default
    to the source's own. `processing="transformer-lens"` rewrites the weights as TransformerLens
    does by default (`edgewise.model.process`). Raises `ModelError`: unsupported, unreachable, or
    not proved.

    >>> load_model("tracr-reverse").config.n_layers
    4
    """
    dtype, device = _dtype(dtype), _device(device)
    if processing not in ("none", "transformer-lens"):
        raise unknown_name("processing", str(processing), ("none", "transformer-lens"))
    if not isinstance(source, str | Path):
        model = _from_module(source, type(source).__name__, tokenizer, dtype, device)
    elif str(source) in BUNDLED:
        model = bundled_model(str(source)).to(dtype=dtype, device=device)
        if tokenizer is not None:
            model = replace(model, tokenizer=as_tokenizer(tokenizer))
    else:
        module, found = _from_pretrained(str(source), dtype)
        model = _from_module(module, str(source), tokenizer or found, dtype, device)
    if processing == "none":
        return model
    # Compiled programs are read as numbers, not as probabilities: no step may shift their outputs.
    centred = model.config.norm != "none"
    foldable = model.config.positions != "shortformer"
    return process(model, fold_norm=foldable, center_writing=centred, center_unembed=centred)


def _dtype(asked: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype, from one or its name. Raises `UnknownName`."""
    if asked is None:
        return None
    names = {str(known).removeprefix("torch."): known for known in TOLERANCES}
    name = str(asked).removeprefix("torch.")
    if name not in names:
        raise unknown_name("dtype for a model", name, names)
    return names[name]


def _device(asked: torch.device | str | None) -> torch.device | None:
    """A device that this machine has. Raises `SettingError`."""
    if asked is None:
        return None
    try:
        return torch.empty(0, device=asked).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as reason:
        raise SettingError(
            f"device {str(asked)!r} cannot be used here ({_first_line(reason)}). "
            "'cpu' always can; 'cuda' and 'mps' need their hardware and a torch built for it."
        ) from reason


def _from_module(
    module: Any,
    name: str,
    tokenizer: Any,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Model:
    family = family_of(module)
    config, weights = family.read(module)
    wrapped = as_tokenizer(tokenizer)
    model = Model(config, weights, name=name, tokenizer=wrapped)
    proof = prove(model, huggingface_source(module, family.final_norm(module)))
    proved = Model(config, model.weights, name=name, tokenizer=wrapped, proof=proof)
    return proved if dtype is None and device is None else proved.to(dtype=dtype, device=device)


def _from_pretrained(source: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Module and tokenizer of a folder or hub name. Raises `ModelError`."""
    # transformers takes seconds to import, and bundled models do not need it.
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    is_folder = Path(source).is_dir()
    offline = {"local_files_only": True} if is_folder or not _hub_answers() else {}
    try:
        config = AutoConfig.from_pretrained(source, **offline)
    except ValueError as reason:
        raise UnsupportedModel(
            f"cannot read the model {source!r}: {_first_line(reason)}"
        ) from reason
    except Exception as reason:  # the hub client raises OSError, HTTP and its own errors
        raise _unavailable(source, is_folder, reason) from reason
    check_model_type(config.model_type)
    try:
        module = AutoModelForCausalLM.from_pretrained(source, dtype=dtype or "auto", **offline)
    except Exception as reason:
        raise _unavailable(source, is_folder, reason) from reason
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **offline)
    except Exception:  # a folder may hold a model alone; text prompts then say what is missing
        return module, None
    # For a folder without tokenizer files transformers makes an empty tokenizer, without a word.
    return module, tokenizer if len(tokenizer) > len(tokenizer.all_special_tokens) else None


def _hub_answers() -> bool:
    """Whether the hub's name can be resolved; without this, its client retries for half a minute.

    Behind a proxy names need not resolve, so there the client is left to try.
    """
    from huggingface_hub import constants

    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _unavailable(source: str, is_folder: bool, reason: Exception) -> ModelUnavailable:
    if is_folder:
        return ModelUnavailable(
            f"the folder {source!r} holds no readable model: {_first_line(reason)}"
        )
    near = difflib.get_close_matches(source, BUNDLED, n=1)
    return ModelUnavailable(
        (f"Did you mean {near[0]!r}? " if near else "")
        + f"No model {source!r}: it is not bundled, not a folder, and the Hugging Face hub did not "
        f"give it ({_first_line(reason)}). Without a network, use a bundled one: "
        f"{', '.join(BUNDLED)}."
    )


def _first_line(reason: Exception) -> str:
    return next(iter(str(reason).strip().splitlines()), type(reason).__name__)
