"""The bundled models whose computation is known: compiled RASP programs and hand-made gates.

Each is a safetensors file and a JSON file beside it, made by `scripts/compile_programs.py` and
`scripts/make_gates.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load

from edgewise.data.tokenizers import WordTokenizer
from edgewise.documents import imported
from edgewise.errors import unknown_name
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model

_FOLDER = files("edgewise.model") / "bundled" / "programs"
PROGRAMS: tuple[str, ...] = tuple(
    sorted(f.name.removesuffix(".json") for f in _FOLDER.iterdir() if f.name.endswith(".json"))
)


@dataclass(frozen=True)
class Program:
    """What is known of a program beside its weights."""

    name: str
    description: str
    source: str  # RASP, or the formula of a gate
    vocab: tuple[str, ...]
    bos: int | None
    inputs: tuple[int, ...]  # token ids that may stand in an input
    max_length: int  # of an input, without BOS
    distinct: bool  # no token may stand in an input twice
    output: dict[str, Any]  # kind, and the labels of the output channels
    examples: tuple[dict[str, Any], ...]
    config: ModelConfig


@cache
def bundled_program(name: str) -> Program:
    """What a bundled program computes. Raises `UnknownName`."""
    if name not in PROGRAMS:
        raise unknown_name("bundled program", name, PROGRAMS)
    document = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    imported(document, f"{name}.json", "edgewise-model", 1)
    return Program(
        name=name,
        description=document["description"],
        source=document["program"],
        vocab=tuple(document["vocab"]),
        bos=document["bos"],
        inputs=tuple(document["inputs"]),
        max_length=document["max_length"],
        distinct=document["distinct"],
        output=document["output"],
        examples=tuple(document["examples"]),
        config=ModelConfig.from_json(document["config"]),
    )


def program_model(name: str) -> Model:
    """A bundled program, in the dtype it was made in. Raises `UnknownName`."""
    program = bundled_program(name)
    weights = load((_FOLDER / f"{name}.safetensors").read_bytes())
    weights = {key: tensor for key, tensor in weights.items() if _says_something(key, tensor)}
    tokenizer = WordTokenizer(program.vocab, program.bos)
    return Model(program.config, weights, name=name, tokenizer=tokenizer)


def _says_something(name: str, tensor: torch.Tensor) -> bool:
    """Biases that are zero are left out: a reader of the weights should see what is there."""
    return ".b_" not in name or bool(tensor.any())
