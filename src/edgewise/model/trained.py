"""The bundled language models: small transformers trained to do the language tasks.

Each is a safetensors file of float16 weights and a JSON card beside it, made by
`scripts/train_small_models.py`. The name with `-untrained` behind it is the same model before its
first training step, the control for what training has put there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from edgewise.data.spaced_words import SpacedWordTokenizer
from edgewise.errors import unknown_name
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model
from edgewise.model.weights import schema
from edgewise.storage import check_format

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


@cache
def model_card(name: str) -> Card:
    """The card of a trained model, or of its untrained twin. Raises `UnknownName`."""
    trained = name.removesuffix(_SUFFIX)
    if trained not in TRAINED:
        raise unknown_name("trained model", name, (*TRAINED, *UNTRAINED))
    document = json.loads((_FOLDER / f"{trained}.json").read_text(encoding="utf-8"))
    check_format(document, f"{trained}.json", "edgewise-trained-model", 1)
    return Card(
        name=trained,
        description=document["description"],
        seed=document["seed"],
        words=tuple(document["words"]),
        config=ModelConfig.from_json(document["config"]),
        training=document["training"],
        accuracy=document["accuracy"],
    )


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

    Every matrix keeps the size of what it reads; the two that write to the stream are smaller by
    the root of their number, so that depth does not make the stream grow (as in GPT-2). The
    unembedding is the embedding.
    """
    generator = torch.Generator().manual_seed(seed)
    writers = config.n_layers * (2 if config.has_mlps else 1)
    weights = {}
    for name, expected in schema(config).items():
        kind = name.rpartition(".")[2]
        if kind.startswith("b"):
            weights[name] = torch.zeros(expected.shape)
        elif kind == "w":
            weights[name] = torch.ones(expected.shape)
        elif kind != "W_U":
            inputs = {"W_O": config.n_heads * config.d_head, "W_out": config.d_mlp}
            std = inputs.get(kind, config.d_model) ** -0.5
            std /= math.sqrt(writers) if kind in inputs else 1.0
            std = _EMBEDDING_STD if kind in ("W_E", "W_pos") else std
            weights[name] = torch.randn(expected.shape, generator=generator) * std
    return tied(weights)


# Small beside what layers write, so that the first norms pass the layers' news on.
_EMBEDDING_STD = 0.05


def tied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the embedding as unembedding."""
    return {**weights, "unembed.W_U": weights["embed.W_E"].T}
