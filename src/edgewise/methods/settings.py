"""What can be set: a frozen class for the settings of a method, and the only home of defaults.

Nothing here imports torch, so the command line can offer every setting without waiting for it. A
field is a setting: its type holds the check of its values, its metadata the help text. Command-line
options (`--threshold`), `edgewise methods NAME` and signatures (`ew.acdc`) are made from them.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

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


def _not_nan(name: str, value: Any) -> float:
    converted = number(value)
    if math.isnan(converted):
        raise SettingError(f"{name} is {value!r}; it must be a number.")
    return converted


# Types of settings, each with its check: (name, value) -> the value as it is kept.
Number = Annotated[float, _not_nan]
Positive = Annotated[float, positive]
NotNegative = Annotated[float, not_negative]
Rate = Annotated[float, partial(positive, unit="per step")]
Share = Annotated[float, share]
Chance = Annotated[float, chance]
Count = Annotated[int, partial(whole, least=0)]
AtLeast1 = Annotated[int, partial(whole, least=1)]
AtLeast2 = Annotated[int, partial(whole, least=2)]
Seed = Annotated[int, lambda name, value: check_seed(value, name)]
HeadOrder = Literal["descending", "ascending"]
Select = Literal["top", "greedy"]
By = Literal["absolute", "signed"]

_DEFAULT_SHARE = 0.1
_UNLESS = f"({_DEFAULT_SHARE} if nothing else is said)"
_HEAD_ORDER = "Order of sending heads within a layer: descending or ascending."


def setting(help_text: str, default: Any = MISSING) -> Any:
    """A field with its help text; without a default it must be given."""
    return field(default=default, metadata={"help": help_text})


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """A value as a setting of this type keeps it. Raises `SettingError`, `UnknownName`."""
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0](name, value)
    if get_origin(kind) is Literal:
        check_choice(name.replace("_", " "), value, get_args(kind))
    elif kind is bool:
        check_flag(name, value)
    elif value is not None:
        return _checked(name, value, get_args(kind)[0])
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: every field is checked when the object is made.

    Raises `SettingError`, `UnknownName`.
    """

    def __post_init__(self) -> None:
        own: Any = type(self)
        for name, kind in _types(own).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))

    def _check_size(self, *sizes: str) -> None:
        """Raise `SettingError` if several are given; if none is, the second is a usual share."""
        given = [name for name in sizes if getattr(self, name) is not None]
        if len(given) > 1:
            raise SettingError(f"{' and '.join(given)} are given; say how much to keep only once.")
        if not given:
            object.__setattr__(self, sizes[1], _DEFAULT_SHARE)


# --- selection of edges from scores


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(Settings):
    """How much to keep, and what. At most one of `edges`, `share`, `above`, `nodes` is given."""

    edges: Count | None = setting("Keep this many edges.", None)
    share: Share | None = setting(f"Keep this share of the edges {_UNLESS}.", None)
    above: Number | None = setting("Keep edges that score at least this.", None)
    nodes: Count | None = setting(
        "Keep this many heads and MLPs, by the sum of the scores of the edges out of them, and "
        "every edge between what is kept.",
        None,
    )
    select: Select = setting(
        "top: the best edges; greedy: the best that lead on to the output.", "top"
    )
    by: By = setting(
        "Rank by absolute score (a circuit's opponents belong to it), or by signed score.",
        "absolute",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_size("edges", "share", "above", "nodes")
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

    steps: AtLeast1 = setting("Points on the way from the ablation to the clean input.", 5)
    over: Literal["inputs", "activations"] = setting(
        "What is interpolated: the input embeddings, or one layer's outputs after the other.",
        "inputs",
    )
    points: Literal["left", "midpoints"] = setting(
        "left: k/steps for k = 0 … steps-1, as published; midpoints: (k + 1/2)/steps, closer to "
        "the integral.",
        "left",
    )


@dataclass(frozen=True, kw_only=True)
class RandomSettings(SelectionSettings):
    """Settings of the random baseline."""

    seed: Seed = setting("Seed of everything drawn at random.", 0)


# --- ACDC


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings(Settings):
    """Settings of a search by threshold, the paper's tau, in the unit of the problem's loss."""

    threshold: Positive = setting(
        "Remove an edge if the loss rises by less than this (the paper's τ)."
    )
    head_order: HeadOrder = setting(_HEAD_ORDER, "descending")
    absolute: bool = setting(
        "Compare the size of the change, not the rise: keep edges whose removal helps much.", False
    )
    prune: bool = setting(
        "Drop nodes that connect no input to the output (corrupted ablation only).", False
    )

    def check_ablation(self, kind: str) -> None:
        """Raise `SettingError` if pruning would change what the circuit answers."""
        if self.prune and kind != "corrupted":
            raise SettingError(
                f"prune drops nodes that no input reaches. With a {kind!r} ablation such nodes "
                "still compute something from constant biases, so pruning would change the "
                "circuit's answers. Leave prune off."
            )


@dataclass(frozen=True, kw_only=True)
class ACDCSettings(ThresholdSettings):
    """Settings of ACDC."""

    engine: Literal["incremental", "plain"] = setting(
        "How edges are tested: incremental (fast) or plain; the decisions are the same.",
        "incremental",
    )
    precision: Literal["full", "reduced"] = setting(
        "full, or reduced: kl by bfloat16 products, close decisions in full.", "full"
    )
    verify: bool = setting(
        "Take every decision from scratch as well, and stop if one differs (slow).", False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "reduced" and self.engine == "plain":
            raise SettingError("engine 'plain' has no precision 'reduced'; it evaluates in full.")


@dataclass(frozen=True, kw_only=True)
class OrderedACDCSettings(ACDCSettings):
    """Settings of ACDC that tests the least attributed edge of each receiver first."""

    attribution: Literal["eap-ig", "eap", "clean-corrupted", "exact", "atp-star"] = setting(
        "The method whose scores say which edges matter least.", "eap-ig"
    )


@dataclass(frozen=True, kw_only=True)
class ScreenedACDCSettings(OrderedACDCSettings):
    """Settings of ACDC on what is left when the least attributed edges are removed untested."""

    screen: Share = setting(
        "Share of the edges, the least attributed, removed without a test.", 0.8
    )


@dataclass(frozen=True, kw_only=True)
class TestedACDCSettings(Settings):
    """Settings of ACDC with tests; `threshold` is in the unit of the problem's loss."""

    threshold: NotNegative = setting(
        "The mean rise of the loss that a test compares with: keep edges shown to be above.", 0.0
    )
    error_rate: Chance = setting(
        "The chance, at most, that an edge is shown to be on the wrong side of the threshold.", 0.05
    )
    control: Literal["edge", "circuit"] = setting(
        "edge: the error rate is each edge's; circuit: of any error among all edges (Bonferroni).",
        "edge",
    )
    test: Literal["t", "betting"] = setting(
        "t: Student's t at each look, the error rate spent over looks; betting: valid without "
        "normality, for rises of at most --bound.",
        "t",
    )
    bound: Positive | None = setting(
        "betting: no prompt's loss rises or falls by more than this when an edge goes.", None
    )
    first: AtLeast2 = setting(
        "Prompts in the first look at an edge; each later look doubles them.", 16
    )
    undecided: Literal["remove", "keep"] = setting(
        "What becomes of an edge that all prompts leave undecided: remove or keep.", "remove"
    )
    head_order: HeadOrder = setting(_HEAD_ORDER, "descending")
    seed: Seed = setting("Seed of the order in which prompts are looked at.", 0)

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

    steps: AtLeast1 = setting("Training steps, each on all prompts.", 3000)
    learning_rate: Rate = setting("Adam's, constant.", 0.001)
    seed: Seed = setting("Seed of the masks that are drawn.", 0)


@dataclass(frozen=True, kw_only=True)
class SPEdgesSettings(TrainingSettings):
    """Settings of Subnetwork Probing with a mask per edge."""

    regularisation: NotNegative = setting("The weight of the masks' size beside the loss (λ).")
    binarise: Literal["stochastic", "threshold"] = setting(
        "threshold: keep what has a mean mask of at least 1/2; stochastic: draw once more and keep "
        "what is drawn as at least 1/2 (the paper).",
        "threshold",
    )


@dataclass(frozen=True, kw_only=True)
class SPSettings(SPEdgesSettings):
    """Settings of Subnetwork Probing with a mask per q, k, v vector and MLP output."""

    dead_mlp_masks: bool = setting(
        "Weigh q, k and v as in the paper's attention-only runs, whose MLP masks do nothing but "
        "take a quarter of the regulariser.",
        False,
    )


@dataclass(frozen=True, kw_only=True)
class EdgePruningSettings(TrainingSettings):
    """Settings of Edge Pruning."""

    learning_rate: Rate = setting("Adam's, constant.", 0.01)
    sparsity: Share = setting("The share of edges to remove.")
    warm_up: Share = setting(
        "The share of the steps in which the target rises from 0 to `sparsity`.", 0.8
    )
    multiplier_rate: Rate = setting("The learning rate of the Lagrange multipliers.", 0.01)


@dataclass(frozen=True, kw_only=True)
class UGSSettings(TrainingSettings):
    """Settings of uniform gradient sampling."""

    steps: AtLeast1 = setting("Training steps, each of `draws` draws on all prompts.", 1000)
    learning_rate: Rate = setting("Adam's, constant.", 0.01)
    regularisation: NotNegative = setting("What an edge costs, in the loss's unit (λ).")
    draws: AtLeast1 = setting("Independent draws of all masks in a step.", 4)
    start: Chance = setting("The chance that an edge is kept, before training.", 0.98)


@dataclass(frozen=True, kw_only=True)
class HISPSettings(Settings):
    """Settings of HISP. At most one of `activations`, `activation_share` is given."""

    activations: Count | None = setting("Keep this many q, k, v vectors and MLPs.", None)
    activation_share: Share | None = setting(
        f"Keep this share of the q, k, v vectors and MLPs {_UNLESS}.", None
    )
    reading: Literal["paper", "code"] = setting(
        "paper: clean minus ablation times gradient, as its equation 4 says; code: clean times "
        "gradient, as was run.",
        "paper",
    )
    normalise: bool = setting("Divide scores by their layer's L2 norm.", True)
    allow_zero_gradient: bool = setting(
        "Rank where the metric's gradient is zero. Reproduces the paper's l2 runs (exact zeros); "
        "with kl the order is rounding noise, here as there, and differs from the paper's.",
        False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_size("activations", "activation_share")
