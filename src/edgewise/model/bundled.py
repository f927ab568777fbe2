"""The models that come with Edgewise, by name: compiled programs, and trained language models."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.errors import unknown_name
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model
from edgewise.model.programs import PROGRAMS, bundled_program, program_model
from edgewise.model.trained import TRAINED, UNTRAINED, model_card, trained_model

BUNDLED: tuple[str, ...] = (*PROGRAMS, *TRAINED, *UNTRAINED)


@dataclass(frozen=True)
class About:
    """What a list of the bundled models shows of one."""

    name: str
    description: str
    config: ModelConfig
    vocabulary: tuple[str, ...]


def about(name: str) -> About:
    """A bundled model before its weights are read. Raises `UnknownName`."""
    _check(name)
    if name in PROGRAMS:
        program = bundled_program(name)
        return About(name, program.description, program.config, program.vocab)
    card = model_card(name)
    description = f"{card.name} before training" if name in UNTRAINED else card.description
    return About(name, description, card.config, card.words)


def bundled_model(name: str) -> Model:
    """A bundled model. Raises `UnknownName`."""
    _check(name)
    return program_model(name) if name in PROGRAMS else trained_model(name)


def _check(name: str) -> None:
    if name not in BUNDLED:
        raise unknown_name("bundled model", name, BUNDLED)
