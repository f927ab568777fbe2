"""Settings of ACDC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.errors import SettingError
from edgewise.settings.checks import check_choice, check_flags, positive, setting

HeadOrder = Literal["descending", "ascending"]
Engine = Literal["incremental", "plain"]
Precision = Literal["full", "reduced"]


@dataclass(frozen=True)
class ACDCSettings:
    """Settings of ACDC; `threshold` is the paper's tau, in the unit of the problem's loss."""

    threshold: float = setting(
        "Remove an edge if the loss rises by less than this (the paper's τ)."
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
        "full, or reduced: bfloat16 products, close decisions in full (kl and logit-diff).",
        default="full",
    )
    verify: bool = setting(
        "Take every decision from scratch as well, and stop if one differs (slow).", default=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", positive("threshold", self.threshold))
        check_flags(self, "absolute", "prune", "verify")
        check_choice("head order", self.head_order, get_args(HeadOrder))
        check_choice("engine", self.engine, get_args(Engine))
        check_choice("precision", self.precision, get_args(Precision))
        if self.precision == "reduced" and self.engine == "plain":
            raise SettingError("engine 'plain' has no precision 'reduced'; it evaluates in full.")
