"""Model families of Hugging Face transformers: one file of facts per family.

To add one, write a file with a function that turns a module into a configuration and tensors (see
gpt_neox.py; pieces.py has what that takes), and name it below under the module's
`config.model_type`. What the runtime lacks goes into `edgewise/model/attention.py`, `mlps.py` or
`parts.py`. Then a random model in `tests/hf.py`, and `python scripts/prove_families.py`. Loading
proves every model against its source, so a wrong fact cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.families import falcon, gpt2, gpt_neox, gptj, llama, opt, phi


@dataclass(frozen=True)
class Family:
    """How to read a module of one family."""

    model_type: str
    summary: str
    read: Callable[[Any], tuple[ModelConfig, dict[str, Tensor]]]
    final_norm: Callable[[Any], Any]  # the submodule that reads the final residual stream


def _like_llama(model_type: str, summary: str) -> Family:
    return Family(model_type, summary, llama.read, llama.final_norm)


_EVERY = (
    Family(
        "gpt2", "GPT-2 (all sizes, DistilGPT-2, GPT-2 shaped models)", gpt2.read, gpt2.final_norm
    ),
    _like_llama("llama", "Llama 1 to 3, SmolLM 1 and 2, TinyLlama and others of this shape"),
    _like_llama("mistral", "Mistral"),
    _like_llama("qwen2", "Qwen 1.5, 2 and 2.5"),
    _like_llama("qwen3", "Qwen 3"),
    _like_llama("smollm3", "SmolLM 3"),
    _like_llama("gemma", "Gemma 1"),
    _like_llama("gemma2", "Gemma 2"),
    _like_llama("gemma3_text", "Gemma 3, text"),
    _like_llama("olmo2", "OLMo 2"),
    _like_llama("mixtral", "Mixtral; its mixture of experts is one MLP node"),
    _like_llama("qwen2_moe", "Qwen 1.5 and 2 with experts as one MLP node"),
    _like_llama("qwen3_moe", "Qwen 3 with experts as one MLP node"),
    _like_llama("olmoe", "OLMoE, its experts as one MLP node"),
    Family("gpt_neox", "GPT-NeoX and Pythia", gpt_neox.read, gpt_neox.final_norm),
    Family("gptj", "GPT-J", gptj.read_gptj, gptj.final_norm),
    Family("gpt_neo", "GPT-Neo and TinyStories", gptj.read_gpt_neo, gptj.final_norm),
    Family("opt", "OPT (not 350M)", opt.read, opt.final_norm),
    Family("phi", "Phi 1, 1.5 and 2", phi.read, phi.final_norm),
    Family("stablelm", "StableLM", phi.read, phi.final_norm),
    Family("falcon", "Falcon, rotary or ALiBi", falcon.read, falcon.final_norm),
)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _EVERY}


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
