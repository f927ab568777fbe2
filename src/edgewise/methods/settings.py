"""What can be set: a frozen class for the settings of a method, and the only home of defaults.

Nothing here imports torch, so the command line can offer every setting without waiting for it. A
field is a setting with its help text and check; command-line options (`--threshold`), `edgewise
methods NAME` and the signatures of `ew.acdc`, … are made from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from edgewise.arguments import (
    chance,
    check_choice,
    check_flag,
    check_seed,
    not_negative,
    number,
    positive,
    share,
    whole,
)
from edgewise.errors import SettingError

if TYPE_CHECKING:
    from edgewise.circuit import Circuit, EdgeScores

HeadOrder = Literal["descending", "ascending"]
Engine = Literal["incremental", "plain"]
Precision = Literal["full", "reduced"]
Control = Literal["edge", "circuit"]
Test = Literal["t", "betting"]
Undecided = Literal["remove", "keep"]
Attribution = Literal["eap-ig", "eap", "clean-corrupted", "exact", "atp-star"]
Select = Literal["top", "greedy"]
By = Literal["absolute", "signed"]
Over = Literal["inputs", "activations"]
Points = Literal["left", "midpoints"]
Binarise = Literal["stochastic", "threshold"]
Reading = Literal["paper", "code"]

Check = Callable[[str, Any], Any]  # (name, value) -> the value as it is kept
_DEFAULT_SHARE = 0.1


def setting(help_text: str, *, check: Check | None = None, **options: Any) -> Any:
    """A field with its help text, and the check that its values must pass.

    True or False and choices need no check of their own: their type says what they may be.
    """
    return field(metadata={"help": help_text, "check": check}, **options)


def _not_nan(name: str, value: Any) -> float:
    converted = number(value)
    if math.isnan(converted):
        raise SettingError(f"{name} is {value!r}; it must be a number.")
    return converted


def _rate(name: str, value: Any) -> float:
    return positive(name, value, "per step")


def _seed(name: str, value: Any) -> int:
    return check_seed(value, name)


_at_least_0, _at_least_1 = partial(whole, least=0), partial(whole, least=1)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: every field is checked when the object is made.

    Raises `SettingError`, `UnknownName`.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        hints = _hints(kind)
        for known in fields(self):
            value, hint = getattr(self, known.name), hints[known.name]
            if value is None and type(None) in get_args(hint):
                continue
            if get_origin(hint) is Literal:
                check_choice(known.name.replace("_", " "), value, get_args(hint))
            elif hint is bool:
                check_flag(known.name, value)
            else:
                object.__setattr__(self, known.name, known.metadata["check"](known.name, value))


# --- selection of edges from scores


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(Settings):
    """How much to keep, and what. At most one of `edges`, `share`, `above`, `nodes` is given."""

    edges: int | None = setting("Keep this many edges.", check=_at_least_0, default=None)
    share: float | None = setting(
        f"Keep this share of the edges ({_DEFAULT_SHARE} if nothing else is said).",
        check=share,
        default=None,
    )
    above: float | None = setting(
        "Keep edges that score at least this.", check=_not_nan, default=None
    )
    nodes: int | None = setting(
        "Keep this many heads and MLPs, by the sum of the scores of the edges out of them, and "
        "every edge between what is kept.",
        check=_at_least_0,
        default=None,
    )
    select: Select = setting(
        "top: the best edges; greedy: the best that lead on to the output.", default="top"
    )
    by: By = setting(
        "Rank by absolute score (a circuit's opponents belong to it), or by signed score.",
        default="absolute",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("edges", "share", "above", "nodes")
        given = [name for name in sizes if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingError(f"{' and '.join(given)} are given; say how much to keep only once.")
        if not given:
            object.__setattr__(self, "share", _DEFAULT_SHARE)
        if self.select == "greedy" and (self.above is not None or self.nodes is not None):
            raise SettingError("select 'greedy' grows to a number of edges; give edges or share.")

    def circuit(self, scores: EdgeScores) -> Circuit:
        """The circuit of the best edges or nodes. Raises `SettingError` if there are too few."""
        absolute = self.by == "absolute"
        if self.above is not None:
            return scores.above(self.above, absolute=absolute)
        if self.nodes is not None:
            return scores.top_nodes(self.nodes, absolute=absolute)
        n = self.edges
        if n is None:
            assert self.share is not None  # filled in above
            n = round(self.share * scores.graph.n_edges)
        choose = scores.greedy if self.select == "greedy" else scores.top
        return choose(n, absolute=absolute)


@dataclass(frozen=True, kw_only=True)
class EAPIGSettings(SelectionSettings):
    """Settings of edge attribution patching with integrated gradients."""

    steps: int = setting(
        "Points on the way from the ablation to the clean input.", check=_at_least_1, default=5
    )
    over: Over = setting(
        "What is interpolated: the input embeddings, or one layer's outputs after the other.",
        default="inputs",
    )
    points: Points = setting(
        "left: k/steps for k = 0 … steps-1, as published; midpoints: (k + 1/2)/steps, closer to "
        "the integral.",
        default="left",
    )


@dataclass(frozen=True, kw_only=True)
class RandomSettings(SelectionSettings):
    """Settings of the random baseline."""

    seed: int = setting("Seed of everything drawn at random.", check=_seed, default=0)


# --- ACDC


@dataclass(frozen=True, kw_only=True)
class ACDCSettings(Settings):
    """Settings of ACDC; `threshold` is the paper's tau, in the unit of the problem's loss."""

    threshold: float = setting(
        "Remove an edge if the loss rises by less than this (the paper's τ).", check=positive
    )
    head_order: HeadOrder = setting(
        "Order of sending heads within a layer: descending or ascending.", default="descending"
    )
    absolute: bool = setting(
        "Compare the size of the change, not the rise: keep edges whose removal helps much.",
        default=False,
    )
    prune: bool = setting(
        "Drop nodes that connect no input to the output (corrupted ablation only).", default=False
    )

    engine: Engine = setting(
        "How edges are tested: incremental (fast) or plain; the decisions are the same.",
        default="incremental",
    )
    precision: Precision = setting(
        "full, or reduced: kl by bfloat16 products, close decisions in full.",
        default="full",
    )
    verify: bool = setting(
        "Take every decision from scratch as well, and stop if one differs (slow).", default=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "reduced" and self.engine == "plain":
            raise SettingError("engine 'plain' has no precision 'reduced'; it evaluates in full.")


@dataclass(frozen=True, kw_only=True)
class OrderedACDCSettings(ACDCSettings):
    """Settings of ACDC that tests the least attributed edge of each receiver first."""

    attribution: Attribution = setting(
        "The method whose scores say which edges matter least.", default="eap-ig"
    )


@dataclass(frozen=True, kw_only=True)
class ScreenedACDCSettings(OrderedACDCSettings):
    """Settings of ACDC on what is left when the least attributed edges are removed untested."""

    screen: float = setting(
        "Share of the edges, the least attributed, removed without a test.",
        check=share,
        default=0.8,
    )


@dataclass(frozen=True, kw_only=True)
class BisectingACDCSettings(ACDCSettings):
    """Settings of ACDC that removes groups of edges."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == "plain" or self.precision == "reduced" or self.verify:
            raise SettingError(
                "acdc-bisect always works incrementally, in full precision; "
                "leave engine, precision and verify as they are."
            )


@dataclass(frozen=True, kw_only=True)
class TestedACDCSettings(Settings):
    """Settings of ACDC with tests; `threshold` is in the unit of the problem's loss."""

    threshold: float = setting(
        "The mean rise of the loss that a test compares with: keep edges shown to be above.",
        check=not_negative,
        default=0.0,
    )
    error_rate: float = setting(
        "The chance, at most, that an edge is shown to be on the wrong side of the threshold.",
        check=chance,
        default=0.05,
    )
    control: Control = setting(
        "edge: the error rate is each edge's; circuit: of any error among all edges (Bonferroni).",
        default="edge",
    )
    test: Test = setting(
        "t: Student's t at each look, the error rate spent over looks; betting: valid without "
        "normality, for rises of at most --bound.",
        default="t",
    )
    bound: float | None = setting(
        "betting: no prompt's loss rises or falls by more than this when an edge goes.",
        check=positive,
        default=None,
    )
    first: int = setting(
        "Prompts in the first look at an edge; each later look doubles them.",
        check=partial(whole, least=2),
        default=16,
    )
    undecided: Undecided = setting(
        "What becomes of an edge that all prompts leave undecided: remove or keep.",
        default="remove",
    )
    head_order: HeadOrder = setting(
        "Order of sending heads within a layer: descending or ascending.", default="descending"
    )
    seed: int = setting("Seed of the order in which prompts are looked at.", check=_seed, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.error_rate >= 0.5:
            raise SettingError(f"error_rate is {self.error_rate}; it must be below 0.5.")
        if (self.test == "betting") != (self.bound is not None):
            raise SettingError(
                "test 'betting' needs bound, the most that a prompt's loss can change; test 't' "
                "takes none."
            )
        if self.bound is not None and self.bound <= self.threshold:
            raise SettingError(
                f"bound is {self.bound}; it must be above the threshold, {self.threshold}."
            )


# --- masks


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How masks are trained."""

    steps: int = setting("Training steps, each on all prompts.", check=_at_least_1, default=3000)
    learning_rate: float = setting("Adam's, constant.", check=_rate, default=0.001)
    seed: int = setting("Seed of the masks that are drawn.", check=_seed, default=0)


@dataclass(frozen=True, kw_only=True)
class SPEdgesSettings(TrainingSettings):
    """Settings of Subnetwork Probing with a mask per edge."""

    regularisation: float = setting(
        "The weight of the masks' size beside the loss (λ).", check=not_negative
    )
    binarise: Binarise = setting(
        "threshold: keep what has a mean mask of at least 1/2; stochastic: draw once more and keep "
        "what is drawn as at least 1/2 (the paper).",
        default="threshold",
    )


@dataclass(frozen=True, kw_only=True)
class SPSettings(SPEdgesSettings):
    """Settings of Subnetwork Probing with a mask per q, k, v vector and MLP output."""

    dead_mlp_masks: bool = setting(
        "Weigh q, k and v as in the paper's attention-only runs, whose MLP masks do nothing but "
        "take a quarter of the regulariser.",
        default=False,
    )


@dataclass(frozen=True, kw_only=True)
class EdgePruningSettings(TrainingSettings):
    """Settings of Edge Pruning."""

    learning_rate: float = setting("Adam's, constant.", check=_rate, default=0.01)
    sparsity: float = setting("The share of edges to remove.", check=share)
    warm_up: float = setting(
        "The share of the steps in which the target rises from 0 to `sparsity`.",
        check=share,
        default=0.8,
    )
    multiplier_rate: float = setting(
        "The learning rate of the Lagrange multipliers.", check=_rate, default=0.01
    )


@dataclass(frozen=True, kw_only=True)
class UGSSettings(TrainingSettings):
    """Settings of uniform gradient sampling."""

    steps: int = setting(
        "Training steps, each of `draws` draws on all prompts.", check=_at_least_1, default=1000
    )
    learning_rate: float = setting("Adam's, constant.", check=_rate, default=0.01)
    regularisation: float = setting(
        "What an edge costs, in the loss's unit (λ).", check=not_negative
    )
    draws: int = setting("Independent draws of all masks in a step.", check=_at_least_1, default=4)
    start: float = setting(
        "The chance that an edge is kept, before training.", check=chance, default=0.98
    )


@dataclass(frozen=True, kw_only=True)
class HISPSettings(Settings):
    """Settings of HISP. At most one of `activations`, `activation_share` is given."""

    activations: int | None = setting(
        "Keep this many q, k, v vectors and MLPs.", check=_at_least_0, default=None
    )
    activation_share: float | None = setting(
        f"Keep this share of the q, k, v vectors and MLPs ({_DEFAULT_SHARE} if nothing else "
        "is said).",
        check=share,
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
        super().__post_init__()
        if self.activations is not None and self.activation_share is not None:
            raise SettingError(
                "activations and activation_share are given; say how many to keep only once."
            )
        if self.activations is None and self.activation_share is None:
            object.__setattr__(self, "activation_share", _DEFAULT_SHARE)
