"""Model families of Hugging Face transformers: one file of facts per family.

To add one, write a file with a function that turns a module into a `Model` (see gpt2.py), and name
it in `FAMILIES` under the module's `config.model_type`. What the runtime lacks goes into
`edgewise/model/parts.py`. Loading proves every model against its source, so a wrong fact cannot
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.families import gpt2


@dataclass(frozen=True)
class Family:
    """How to read a module of one family."""

    model_type: str
    summary: str
    read: Callable[[Any], tuple[ModelConfig, dict[str, Tensor]]]
    final_norm: Callable[[Any], Any]  # the submodule that reads the final residual stream


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        "gpt2", "GPT-2 (all sizes, DistilGPT-2, GPT-2 shaped models)", gpt2.read, gpt2.final_norm
    )
}


def family_of(module: Any) -> Family:
    """The family of a Hugging Face module. Raises `UnsupportedModel`, saying which there are."""
    config = getattr(module, "config", None)
    model_type = getattr(config, "model_type", None)
    if model_type is None:
        raise UnsupportedModel(
            f"{type(module).__name__} is not a Hugging Face language model: it has no "
            "config.model_type. Pass a hub name, a folder, or a module of transformers."
        )
    check_model_type(str(model_type))
    return FAMILIES[str(model_type)]


def check_model_type(model_type: str) -> None:
    """Raise `UnsupportedModel` unless there is a family of this name."""
    if model_type not in FAMILIES:
        raise UnsupportedModel(
            f"models of type {model_type!r} are not supported. Supported: {', '.join(FAMILIES)}. "
            "To add a family, see edgewise/model/families/__init__.py."
        )
