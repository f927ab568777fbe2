"""The bundled language models: small transformers trained to do the language tasks.

Each is a safetensors file of float16 weights and a JSON card beside it, made by
`scripts/train_small_models.py`. The name with `-untrained` behind it is the same model before its
first training step, the control for what training has put there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from edgewise.data.tokenizers import SpacedWordTokenizer
from edgewise.documents import decoded, imported, parsed
from edgewise.errors import unknown_name
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model
from edgewise.model.weights import schema

_FOLDER = files("edgewise.model") / "bundled" / "trained"
_SUFFIX = "-untrained"
TRAINED: tuple[str, ...] = tuple(
    sorted(f.name.removesuffix(".json") for f in _FOLDER.iterdir() if f.name.endswith(".json"))
)
UNTRAINED: tuple[str, ...] = tuple(name + _SUFFIX for name in TRAINED)


@dataclass(frozen=True)
class Card:
    """What is known of a trained model beside its weights."""

    name: str
    description: str
    seed: int
    words: tuple[str, ...]  # the vocabulary, in the order of token ids
    config: ModelConfig
    training: dict[str, Any]  # what it was trained on, and for how long
    accuracy: dict[str, Any]  # on held-out prompts, by task


@dataclass(frozen=True)
class _Document:
    """What a card's file holds."""

    description: str
    seed: int
    words: tuple[str, ...]
    config: dict[str, Any]
    training: dict[str, Any]
    accuracy: dict[str, Any]


@cache
def model_card(name: str) -> Card:
    """The card of a trained model, or of its untrained twin. Raises `UnknownName`."""
    trained = name.removesuffix(_SUFFIX)
    if trained not in TRAINED:
        raise unknown_name("trained model", name, (*TRAINED, *UNTRAINED))
    source = f"{trained}.json"
    document = parsed((_FOLDER / source).read_bytes(), source)
    imported(document, source, "edgewise-trained-model", 1)
    found = decoded(_Document, document, source)
    return Card(**{**vars(found), "config": ModelConfig.from_json(found.config)}, name=trained)


def trained_model(name: str) -> Model:
    """A trained model or its untrained twin, in float32. Raises `UnknownName`."""
    card = model_card(name)
    if name in UNTRAINED:
        weights = initial_weights(card.config, card.seed)
    else:
        stored = load((_FOLDER / f"{name}.safetensors").read_bytes())
        weights = tied({key: tensor.float() for key, tensor in stored.items()})
    return Model(card.config, weights, name=name, tokenizer=SpacedWordTokenizer(card.words, bos=0))


def initial_weights(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Random weights to begin training from: normal matrices, zero biases, norms that do nothing.

    Reading matrices keep the size of what they read; writing ones make a fraction of it, so that
    later layers see the tokens. Positions begin as sines and cosines, where "one before" is the
    same rotation everywhere. The unembedding is the embedding.
    """
    generator = torch.Generator().manual_seed(seed)
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
            written = _WRITTEN / math.sqrt(config.n_layers)
            std = written if kind in ("W_O", "W_out") else 1.0
            std = _EMBEDDING if kind == "W_E" else std * inputs**-0.5
            weights[name] = torch.randn(expected.shape, generator=generator) * std
    return tied(weights)


# Root mean squares, chosen by how soon induction forms.
_EMBEDDING = 0.1
_WRITTEN = 0.2


def _waves(n_ctx: int, d_model: int) -> Tensor:
    """Sines and cosines of d_model / 2 frequencies [n_ctx d_model], of mean square one."""
    frequencies = 100.0 ** (-torch.arange(d_model // 2) / (d_model // 2))
    angles = torch.arange(n_ctx)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1) * math.sqrt(2)


def tied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the embedding as unembedding."""
    return {**weights, "unembed.W_U": weights["embed.W_E"].T}
