"""Settings of the methods that mask nodes or edges: learned masks, and HISP's ranking of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.errors import SettingError
from edgewise.settings.checks import (
    chance,
    check_choice,
    check_flags,
    check_seed,
    not_negative,
    positive,
    setting,
    share,
    whole,
)

Binarise = Literal["stochastic", "threshold"]
Reading = Literal["paper", "code"]

_DEFAULT_UNIT_SHARE = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """How masks are trained."""

    steps: int = setting("Training steps, each on all prompts.", default=3000)
    learning_rate: float = setting("Adam's, constant.", default=0.001)
    seed: int = setting("Seed of the masks that are drawn.", default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", whole("steps", self.steps, 1))
        rate = positive("learning_rate", self.learning_rate, "per step")
        object.__setattr__(self, "learning_rate", rate)
        object.__setattr__(self, "seed", check_seed(self.seed))


@dataclass(frozen=True, kw_only=True)
class SPEdgesSettings(TrainingSettings):
    """Settings of Subnetwork Probing with a mask per edge."""

    regularisation: float = setting("The weight of the masks' size beside the loss (λ).")
    binarise: Binarise = setting(
        "threshold: keep what has a mean mask of at least 1/2; stochastic: draw once more and keep "
        "what is drawn as at least 1/2 (the paper).",
        default="threshold",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = not_negative("regularisation", self.regularisation)
        object.__setattr__(self, "regularisation", weight)
        check_choice("binarisation", self.binarise, get_args(Binarise))


@dataclass(frozen=True, kw_only=True)
class SPSettings(SPEdgesSettings):
    """Settings of Subnetwork Probing with a mask per q, k, v vector and MLP output."""

    dead_mlp_masks: bool = setting(
        "Weigh q, k and v as in the paper's attention-only runs, whose MLP masks do nothing but "
        "take a quarter of the regulariser.",
        default=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flags(self, "dead_mlp_masks")


@dataclass(frozen=True, kw_only=True)
class EdgePruningSettings(TrainingSettings):
    """Settings of Edge Pruning."""

    learning_rate: float = setting("Adam's, constant.", default=0.01)
    sparsity: float = setting("The share of edges to remove.")
    warm_up: float = setting(
        "The share of the steps in which the target rises from 0 to `sparsity`.", default=0.8
    )
    multiplier_rate: float = setting("The learning rate of the Lagrange multipliers.", default=0.01)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sparsity", share("sparsity", self.sparsity))
        object.__setattr__(self, "warm_up", share("warm_up", self.warm_up))
        rate = positive("multiplier_rate", self.multiplier_rate, "per step")
        object.__setattr__(self, "multiplier_rate", rate)


@dataclass(frozen=True, kw_only=True)
class UGSSettings(TrainingSettings):
    """Settings of uniform gradient sampling."""

    steps: int = setting("Training steps, each of `draws` draws on all prompts.", default=1000)
    learning_rate: float = setting("Adam's, constant.", default=0.01)
    regularisation: float = setting("What an edge costs, in the loss's unit (λ).")
    draws: int = setting("Independent draws of all masks in a step.", default=4)
    start: float = setting("The chance that an edge is kept, before training.", default=0.98)

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = not_negative("regularisation", self.regularisation)
        object.__setattr__(self, "regularisation", weight)
        object.__setattr__(self, "draws", whole("draws", self.draws, 1))
        object.__setattr__(self, "start", chance("start", self.start))


@dataclass(frozen=True)
class HISPSettings:
    """Settings of HISP. At most one of `units`, `unit_share` is given."""

    units: int | None = setting("Keep this many q, k, v vectors and MLPs.", default=None)
    unit_share: float | None = setting(
        f"Keep this share of the q, k, v vectors and MLPs ({_DEFAULT_UNIT_SHARE} if nothing else "
        "is said).",
        default=None,
    )
    reading: Reading = setting(
        "paper: clean minus ablation times gradient, as its equation 4 says; code: clean times "
        "gradient, as was run.",
        default="paper",
    )
    normalise: bool = setting("Divide scores by their layer's L2 norm.", default=True)
    allow_zero_gradient: bool = setting(
        "Rank where the metric's gradient is zero. Reproduces the paper's l2 runs (exact zeros); "
        "with kl the order is rounding noise, here as there, and differs from the paper's.",
        default=False,
    )

    def __post_init__(self) -> None:
        if self.units is not None and self.unit_share is not None:
            raise SettingError("units and unit_share are given; say how many to keep only once.")
        if self.units is not None:
            object.__setattr__(self, "units", whole("units", self.units, 0))
        else:
            kept = _DEFAULT_UNIT_SHARE if self.unit_share is None else self.unit_share
            object.__setattr__(self, "unit_share", share("unit_share", kept))
        check_choice("reading", self.reading, get_args(Reading))
        check_flags(self, "normalise", "allow_zero_gradient")
