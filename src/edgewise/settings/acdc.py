"""What can be set: one frozen class per method, and the only place where defaults live.

Nothing here imports torch, so the command line can show every option without waiting for it. Help
texts are part of the fields; `edgewise methods`, `--help` and the docs are made from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from edgewise.errors import SettingError, unknown_name

HeadOrder = Literal["descending", "ascending"]
Engine = Literal["incremental", "plain"]
Precision = Literal["full", "reduced"]


def _setting(help_text: str, **options: Any) -> Any:
    return field(metadata={"help": help_text}, **options)


def _positive(name: str, value: Any) -> float:
    """A positive, finite number as a float; numbers of NumPy and torch are welcome."""
    try:
        number = float(value) if not isinstance(value, str | bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SettingError(
            f"{name} is {value!r}; it must be a positive number, in the loss's unit."
        )
    return number


@dataclass(frozen=True)
class ACDCSettings:
    """Settings of ACDC; `threshold` is the paper's tau, in the unit of the problem's loss."""

    threshold: float = _setting(
        "Remove an edge if the loss rises by less than this (the paper's τ)."
    )
    head_order: HeadOrder = _setting(
        "Order of sending heads within a layer: descending or ascending.", default="descending"
    )
    absolute: bool = _setting(
        "Compare the size of the change, not the rise: keep edges whose removal helps much.",
        default=False,
    )
    prune: bool = _setting(
        "Drop nodes that connect no input to the output (corrupted reference only).", default=False
    )

    engine: Engine = _setting(
        "How edges are tested: incremental (fast) or plain; the decisions are the same.",
        default="incremental",
    )
    precision: Precision = _setting(
        "full, or reduced: bfloat16 products, close decisions in full (kl and logit-diff).",
        default="full",
    )
    verify: bool = _setting(
        "Take every decision from scratch as well, and stop if one differs (slow).", default=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _positive("threshold", self.threshold))
        for name in ("absolute", "prune", "verify"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be True or False.")
        if self.head_order not in get_args(HeadOrder):
            raise unknown_name("head order", str(self.head_order), get_args(HeadOrder))
        if self.engine not in get_args(Engine):
            raise unknown_name("engine", str(self.engine), get_args(Engine))
        if self.precision not in get_args(Precision):
            raise unknown_name("precision", str(self.precision), get_args(Precision))
        if self.precision == "reduced" and self.engine == "plain":
            raise SettingError("engine 'plain' has no precision 'reduced'; it evaluates in full.")


# Method name -> its settings. `edgewise.discovery.METHODS` adds what needs torch.
SETTINGS: dict[str, type[Any]] = {"acdc": ACDCSettings}
