"""How an argument out of range is refused: one function for each kind of range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from edgewise.errors import SettingError, quoted, unknown_name


def number(value: Any) -> float:
    """A number of Python, NumPy or torch as a float; nan if it is none."""
    try:
        return float(value) if not isinstance(value, str | bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _required(holds: bool, name: str, value: Any, must: str) -> None:
    if not holds:
        raise SettingError(f"{name} is {quoted(value)}; it must be {must}.")


def positive(name: str, value: Any, unit: str = "in the loss's unit") -> float:
    """A positive, finite number. Raises `SettingError`."""
    converted = number(value)
    _required(0 < converted < math.inf, name, value, f"a positive number, {unit}")
    return converted


def not_negative(name: str, value: Any) -> float:
    """A finite number of at least 0. Raises `SettingError`."""
    converted = number(value)
    _required(0 <= converted < math.inf, name, value, "a number of at least 0")
    return converted


def share(name: str, value: Any) -> float:
    """A number between 0 and 1. Raises `SettingError`."""
    converted = number(value)
    _required(0 <= converted <= 1, name, value, "between 0 and 1")
    return converted


def chance(name: str, value: Any) -> float:
    """A probability that leaves both open: above 0, below 1. Raises `SettingError`."""
    converted = number(value)
    _required(0 < converted < 1, name, value, "above 0 and below 1")
    return converted


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`. Raises `SettingError`."""
    converted = number(value)
    holds = converted == converted // 1 and converted >= least
    _required(holds, name, value, f"a whole number of at least {least}")
    return int(value) if isinstance(value, int) else int(converted)  # floats lose digits


def check_seed(seed: Any, name: str = "seed") -> int:
    """A seed that every generator takes. Raises `SettingError`."""
    _required(0 <= number(seed) < 2**63, name, seed, "between 0 and 2**63 - 1")
    return whole(name, seed, 0)


def check_flag(name: str, value: object) -> None:
    """Raise `SettingError` unless the value is True or False."""
    _required(isinstance(value, bool), name, value, "True or False")


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
    """Raise `UnknownName`, with suggestions, unless the value is one of the choices."""
    known = tuple(choices)
    if value not in known:
        raise unknown_name(what, str(value), known)
