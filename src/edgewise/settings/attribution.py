"""Settings of the methods that score edges by gradients or one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.settings.checks import check_choice, check_seed, setting, whole
from edgewise.settings.selection import SelectionSettings

Over = Literal["inputs", "activations"]
Points = Literal["left", "midpoints"]


@dataclass(frozen=True)
class EAPSettings(SelectionSettings):
    """Settings of edge attribution patching: only how the circuit is selected."""


@dataclass(frozen=True)
class ExactSettings(SelectionSettings):
    """Settings of exact patching: only how the circuit is selected."""


@dataclass(frozen=True)
class EAPIGSettings(SelectionSettings):
    """Settings of edge attribution patching with integrated gradients."""

    steps: int = setting("Points on the way from the ablation to the clean input.", default=5)
    over: Over = setting(
        "What is interpolated: the input embeddings, or one layer's outputs after the other.",
        default="inputs",
    )
    points: Points = setting(
        "left: k/steps for k = 0 … steps-1, as published; midpoints: (k + 1/2)/steps, closer to "
        "the integral.",
        default="left",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", whole("steps", self.steps, 1))
        check_choice("path", self.over, get_args(Over))
        check_choice("points", self.points, get_args(Points))


@dataclass(frozen=True)
class AtPSettings(SelectionSettings):
    """Settings of the query and key correction: only how the circuit is selected."""


@dataclass(frozen=True)
class RelPSettings(SelectionSettings):
    """Settings of relevance patching: only how the circuit is selected."""


@dataclass(frozen=True)
class InformationFlowSettings(SelectionSettings):
    """Settings of information flow routes: only how the circuit is selected."""


@dataclass(frozen=True)
class MagnitudeSettings(SelectionSettings):
    """Settings of the magnitude baseline: only how the circuit is selected."""


@dataclass(frozen=True)
class RandomSettings(SelectionSettings):
    """Settings of the random baseline."""

    seed: int = setting("Seed of everything drawn at random.", default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", check_seed(self.seed))
