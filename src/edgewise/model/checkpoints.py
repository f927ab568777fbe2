"""Models by hub name or folder: what transformers gives, or one line that says why not."""

from __future__ import annotations

import difflib
import io
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from edgewise.data import Tokenizer
from edgewise.errors import ModelUnavailable, SettingError, UnsupportedModel
from edgewise.model.bundled import BUNDLED
from edgewise.model.families import check_model_type
from edgewise.model.gguf import GGUFFile, gguf_file
from edgewise.model.proof import first_line

_SAMPLE = "When Mary and John went to the store, John gave a drink to 1234 others; 'why?' {x}\n"


def from_pretrained(
    source: str, dtype: torch.dtype | None, *, everywhere: bool = False
) -> tuple[Any, Any]:
    """Module and tokenizer of a folder, GGUF file or hub name, on the CPU or `everywhere`.

    The weights of a GGUF file become float32 unless a dtype is asked for. Raises `ModelError`,
    `SettingError`.
    """
    # transformers takes seconds to import, and bundled models do not need it.
    import transformers

    is_local = Path(source).exists()
    file = gguf_file(source)
    options: dict[str, Any] = {"trust_remote_code": False}  # else it asks whether to run code
    if is_local or not _hub_answers():
        options["local_files_only"] = True
    at = source
    tokenizer_options = dict(options)
    if file is not None:
        at = str(file.path.parent)
        options["gguf_file"] = file.path.name
    try:
        config = transformers.AutoConfig.from_pretrained(at, **options)
    except ValueError as reason:
        message = f"cannot read the model {source!r}: {first_line(reason)}"
        raise UnsupportedModel(message) from reason
    except Exception as reason:  # the hub client raises OSError, HTTP and its own errors
        raise _unavailable(source, is_local, reason) from reason
    check_model_type(config.model_type)
    _check_not_quantised(source, config)
    if everywhere:
        if find_spec("accelerate") is None:
            raise SettingError("device='auto' needs accelerate: pip install 'edgewise[cards]'.")
        options["device_map"] = "auto"
    if file is not None:
        file.correct(config)
        options["config"] = config
        if hasattr(transformers, "GgufConfig"):  # earlier versions always dequantise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with _quiet():  # what is missing or misshapen is an error below
            module, report = transformers.AutoModelForCausalLM.from_pretrained(
                at,
                dtype=dtype or ("auto" if file is None else torch.float32),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except Exception as reason:
        raise _unavailable(source, is_local, reason) from reason
    _check_complete(source, report)
    if file is not None:
        file.settle(module)
    return module, _tokenizer(source, file, tokenizer_options)


def _tokenizer(source: str, file: GGUFFile | None, options: Mapping[str, Any]) -> Any:
    """The tokenizer of a folder, GGUF file or hub name, or None if there is none."""
    import transformers

    try:
        if file is not None:
            return file.tokenizer()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    except Exception:  # a folder may hold a model alone; text prompts then say what is missing
        return None
    # For a folder without tokenizer files transformers makes an empty tokenizer, without a word.
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_tokens) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and reports from transformers for a while."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # where it draws bars that cannot be turned off
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_not_quantised(source: str, config: Any) -> None:
    """Raise `UnsupportedModel` for a checkpoint whose matrices are packed."""
    packing = getattr(config, "quantization_config", None)
    if packing is not None:
        is_dict = isinstance(packing, dict)
        method = packing.get("quant_method") if is_dict else packing.quant_method
        raise UnsupportedModel(
            f"the checkpoint {source!r} is quantised ({getattr(method, 'value', method)}), and "
            "packed matrices cannot be split into heads. Load the unquantised one, with "
            "dtype='bfloat16' if memory is short, or a GGUF file, which is unpacked as it is read."
        )


def _check_complete(source: str, report: Any) -> None:
    """Raise `ModelUnavailable` if transformers made up some weights."""
    faults = []
    for key, what in (("missing_keys", "missing"), ("mismatched_keys", "of another shape")):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in report[key])
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            faults.append(f"{names[0]}{more} {what}")
    if faults:
        raise ModelUnavailable(
            f"the checkpoint {source!r} does not fit its configuration: {'; '.join(faults)}. "
            "transformers would draw these at random. Download it again, or check config.json."
        )


def check_tokenizer(tokenizer: Tokenizer | None, d_vocab: int, name: str) -> None:
    """Raise `UnsupportedModel` if a tokenizer fails, or gives ids that a model does not embed."""
    if tokenizer is None:
        return
    try:
        largest = max(tokenizer.encode(_SAMPLE), default=0)
    except ValueError:  # it has few words, and none of these
        return
    except Exception as reason:  # transformers takes any value for its settings
        raise UnsupportedModel(
            f"{name}'s tokenizer cannot encode a sentence; are its files as they were? "
            f"({first_line(reason)})"
        ) from reason
    if largest >= d_vocab:
        raise UnsupportedModel(
            f"{name} embeds {d_vocab:,} tokens, but its tokenizer gives the id {largest:,}: it is "
            "another model's. Pass the right one as tokenizer=…, or none."
        )


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


def _unavailable(source: str, is_local: bool, reason: Exception) -> ModelUnavailable:
    if is_local:
        return ModelUnavailable(f"{source!r} holds no readable model: {first_line(reason)}")
    if source.count("/") > 1 or source.startswith((".", "~", "/")):  # no hub name is like this
        return ModelUnavailable(f"there is no folder or file {source!r}.")
    near = difflib.get_close_matches(source, BUNDLED, n=1)
    return ModelUnavailable(
        (f"Did you mean {near[0]!r}? " if near else "")
        + f"No model {source!r}: it is not bundled, not a folder, and the Hugging Face hub did not "
        f"give it ({first_line(reason)}). Without a network, use a bundled one, such as small-lm; "
        "`edgewise models` lists them."
    )
