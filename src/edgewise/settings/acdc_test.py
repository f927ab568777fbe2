"""Settings of ACDC whose decisions are sequential tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.errors import SettingError
from edgewise.settings.acdc import HeadOrder
from edgewise.settings.checks import (
    chance,
    check_choice,
    check_seed,
    not_negative,
    positive,
    setting,
    whole,
)

Control = Literal["edge", "circuit"]
Test = Literal["t", "betting"]
Undecided = Literal["remove", "keep"]


@dataclass(frozen=True)
class TestedACDCSettings:
    """Settings of ACDC with tests; `threshold` is in the unit of the problem's loss."""

    threshold: float = setting(
        "The mean rise of the loss that a test compares with: keep edges shown to be above.",
        default=0.0,
    )
    error_rate: float = setting(
        "The chance, at most, that an edge is shown to be on the wrong side of the threshold.",
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
        default=None,
    )
    first: int = setting(
        "Prompts in the first look at an edge; each later look doubles them.", default=16
    )
    undecided: Undecided = setting(
        "What becomes of an edge that all prompts leave undecided: remove or keep.",
        default="remove",
    )
    head_order: HeadOrder = setting(
        "Order of sending heads within a layer: descending or ascending.", default="descending"
    )
    seed: int = setting("Seed of the order in which prompts are looked at.", default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", not_negative("threshold", self.threshold))
        object.__setattr__(self, "error_rate", chance("error_rate", self.error_rate))
        if self.error_rate >= 0.5:
            raise SettingError(f"error_rate is {self.error_rate}; it must be below 0.5.")
        check_choice("control", self.control, get_args(Control))
        check_choice("test", self.test, get_args(Test))
        if (self.test == "betting") != (self.bound is not None):
            raise SettingError(
                "test 'betting' needs bound, the most that a prompt's loss can change; test 't' "
                "takes none."
            )
        if self.bound is not None:
            object.__setattr__(self, "bound", positive("bound", self.bound))
            if self.bound <= self.threshold:
                raise SettingError(
                    f"bound is {self.bound}; it must be above the threshold, {self.threshold}."
                )
        object.__setattr__(self, "first", whole("first", self.first, 2))
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_choice("undecided", self.undecided, get_args(Undecided))
        check_choice("head order", self.head_order, get_args(HeadOrder))
