"""The models that come with Edgewise, by name: compiled programs, and small language models.

Each is a safetensors file and a JSON file beside it. Programs, whose computation is known, are made
by `scripts/compile_programs.py` (RASP) and `scripts/make_gates.py` (by hand). Language models are
trained on the language tasks by `scripts/train_small_models.py` and kept in float16; a name with
`-untrained` behind it is the same model before its first training step, the control for what
training has put there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from edgewise.data.tokenizers import SpacedWordTokenizer, WordTokenizer
from edgewise.documents import decoded, imported, parsed
from edgewise.errors import unknown_name
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model
from edgewise.model.weights import schema

_FOLDER = files("edgewise.model") / "bundled"
_SUFFIX = "-untrained"


def _names(kind: str) -> tuple[str, ...]:
    names = (file.name for file in (_FOLDER / kind).iterdir())
    return tuple(sorted(n.removesuffix(".json") for n in names if n.endswith(".json")))


PROGRAMS: tuple[str, ...] = _names("programs")
TRAINED: tuple[str, ...] = _names("trained")
UNTRAINED: tuple[str, ...] = tuple(name + _SUFFIX for name in TRAINED)
BUNDLED: tuple[str, ...] = (*PROGRAMS, *TRAINED, *UNTRAINED)


def list_models() -> list[str]:
    """The names of the bundled models: compiled programs, trained ones, and those untrained."""
    return list(BUNDLED)


@dataclass(frozen=True)
class Program:
    """What is known of a program beside its weights."""

    name: str
    description: str
    program: str  # RASP, or the formula of a gate
    vocab: tuple[str, ...]
    bos: int | None
    inputs: tuple[int, ...]  # token ids that may stand in an input
    max_length: int  # of an input, without BOS
    distinct: bool  # no token may stand in an input twice
    output: dict[str, Any]  # kind, and the labels of the output channels
    examples: tuple[dict[str, Any], ...]
    config: ModelConfig


@dataclass(frozen=True)
class Card:
    """What is known of a trained model, or the same before training, beside its weights."""

    name: str
    description: str
    seed: int
    vocab: tuple[str, ...]  # in the order of token ids
    config: ModelConfig
    training: dict[str, Any]  # what it was trained on, and for how long
    accuracy: dict[str, Any]  # on held-out prompts, by task


@cache
def bundled_program(name: str) -> Program:
    """What a bundled program computes. Raises `UnknownName`."""
    if name not in PROGRAMS:
        raise unknown_name("bundled program", name, PROGRAMS)
    return decoded(Program, _document("programs", name, "edgewise-model"), f"{name}.json")


@cache
def model_card(name: str) -> Card:
    """The card of a trained model, or of the same before training. Raises `UnknownName`."""
    trained = name.removesuffix(_SUFFIX)
    if trained not in TRAINED:
        raise unknown_name("trained model", name, (*TRAINED, *UNTRAINED))
    document = _document("trained", trained, "edgewise-trained-model")
    card = decoded(Card, {**document, "vocab": document["words"]}, f"{trained}.json")
    if name == trained:
        return card
    return replace(card, name=name, description=f"{trained} before training")


def _document(kind: str, name: str, file_format: str) -> dict[str, Any]:
    source = f"{name}.json"
    document = parsed((_FOLDER / kind / source).read_bytes(), source)
    imported(document, source, kind=file_format, version=1)
    return {**document, "config": ModelConfig.from_json(document["config"])}


def about(name: str) -> Program | Card:
    """What is known of a bundled model before its weights are read. Raises `UnknownName`."""
    if name not in BUNDLED:
        raise unknown_name("bundled model", name, BUNDLED)
    return bundled_program(name) if name in PROGRAMS else model_card(name)


def bundled_model(name: str) -> Model:
    """A bundled model: a program in the dtype it was made in, a language model in float32.

    Raises `UnknownName`.
    """
    facts = about(name)
    if isinstance(facts, Program):
        # Biases that are zero are left out: a reader of the weights should see what is there.
        stored = _stored("programs", name).items()
        weights = {key: tensor for key, tensor in stored if ".b_" not in key or tensor.any()}
        words = WordTokenizer(facts.vocab, facts.bos)
        return Model(facts.config, weights, name=name, tokenizer=words)
    if name in UNTRAINED:
        weights = initial_weights(facts.config, facts.seed)
    else:
        weights = tied({key: tensor.float() for key, tensor in _stored("trained", name).items()})
    tokenizer = SpacedWordTokenizer(facts.vocab, bos=0)
    return Model(facts.config, weights, name=name, tokenizer=tokenizer)


def _stored(kind: str, name: str) -> dict[str, Tensor]:
    return load((_FOLDER / kind / f"{name}.safetensors").read_bytes())


# --- training begins here

# Root mean squares, chosen by how soon induction forms.
_EMBEDDING = 0.1
_WRITTEN = 0.2


def initial_weights(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Random weights to begin training from: normal matrices, zero biases, norms that do nothing.

    Reading matrices keep the size of what they read; writing ones make a fraction of it, so that
    later layers see the tokens. Positions begin as sines and cosines, where "one before" is the
    same rotation everywhere. The unembedding is the embedding.
    """
    generator = torch.Generator().manual_seed(seed)
    written = _WRITTEN / math.sqrt(config.n_layers)
    weights = {}
    for name, expected in schema(config).items():
        kind = name.rpartition(".")[2]
        if kind.startswith("b"):
            weights[name] = torch.zeros(expected.shape)
        elif kind == "w":
            weights[name] = torch.ones(expected.shape)
        elif kind == "W_pos":
            weights[name] = _waves(*expected.shape) * _EMBEDDING
        elif kind != "W_U":
            inputs = config.d_mlp if kind == "W_out" else config.d_model
            std = (written if kind in ("W_O", "W_out") else 1.0) * inputs**-0.5
            std = _EMBEDDING if kind == "W_E" else std
            weights[name] = torch.randn(expected.shape, generator=generator) * std
    return tied(weights)


def _waves(n_ctx: int, d_model: int) -> Tensor:
    """Sines and cosines of d_model / 2 frequencies [n_ctx d_model], of mean square one."""
    frequencies = 100.0 ** (-torch.arange(d_model // 2) / (d_model // 2))
    angles = torch.arange(n_ctx)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1) * math.sqrt(2)


def tied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the embedding as unembedding."""
    return {**weights, "unembed.W_U": weights["embed.W_E"].T}
