"""What settings classes are made with, and how they refuse values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from edgewise.errors import SettingError, quoted, unknown_name


def setting(help_text: str, **options: Any) -> Any:
    """A dataclass field with the help text that the command line and the docs show."""
    return field(metadata={"help": help_text}, **options)


def number(value: Any) -> float:
    """A number of Python, NumPy or torch as a float; nan if it is none."""
    try:
        return float(value) if not isinstance(value, str | bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan


def positive(name: str, value: Any, unit: str = "in the loss's unit") -> float:
    """A positive, finite number. Raises `SettingError`."""
    found = number(value)
    if not (math.isfinite(found) and found > 0):
        raise SettingError(f"{name} is {quoted(value)}; it must be a positive number, {unit}.")
    return found


def not_negative(name: str, value: Any) -> float:
    """A finite number of at least 0. Raises `SettingError`."""
    found = number(value)
    if not (math.isfinite(found) and found >= 0):
        raise SettingError(f"{name} is {quoted(value)}; it must be a number of at least 0.")
    return found


def share(name: str, value: Any) -> float:
    """A number between 0 and 1. Raises `SettingError`."""
    found = number(value)
    if not 0 <= found <= 1:
        raise SettingError(f"{name} is {quoted(value)}; it must be between 0 and 1.")
    return found


def chance(name: str, value: Any) -> float:
    """A probability that leaves both open: above 0, below 1. Raises `SettingError`."""
    found = number(value)
    if not 0 < found < 1:
        raise SettingError(f"{name} is {quoted(value)}; it must be above 0 and below 1.")
    return found


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`. Raises `SettingError`."""
    found = number(value)
    if not (found == found // 1 and found >= least):
        raise SettingError(
            f"{name} is {quoted(value)}; it must be a whole number of at least {least}."
        )
    return int(value) if isinstance(value, int) else int(found)  # of large ones floats lose digits


def check_seed(seed: Any, name: str = "seed") -> int:
    """A seed that every generator takes. Raises `SettingError`."""
    if not 0 <= number(seed) < 2**63:
        raise SettingError(f"{name} is {quoted(seed)}; it must be between 0 and 2**63 - 1.")
    return whole(name, seed, 0)


def check_flags(settings: object, *names: str) -> None:
    """Raise `SettingError` unless these fields are True or False."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise SettingError(f"{name} is {quoted(value)}; it must be True or False.")


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
    """Raise `UnknownName`, with suggestions, unless the value is one of the choices."""
    known = tuple(choices)
    if value not in known:
        raise unknown_name(what, str(value), known)
