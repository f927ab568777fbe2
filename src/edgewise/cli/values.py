"""Several values on the command line: `0.01,0.1`, `0:9:10lin`, `0.01:1:9log`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from edgewise.errors import SettingError, quoted, shortened

_RANGE = re.compile(r"([^:]+):([^:]+):(\d+)(log|lin)")
_DIGITS = 10  # of the values of a range: enough, and the same on every machine


def parse_values(name: str, texts: Sequence[str], annotation: Any) -> list[Any]:
    """The values of an option, each once. Raises `SettingError`.

    >>> parse_values("threshold", ["0.01:1:3log,5"], float)
    [0.01, 0.1, 1.0, 5.0]
    """
    kind = _kind(annotation)
    values: list[Any] = []
    for word in (part.strip() for text in texts for part in text.split(",")):
        if not word:
            raise SettingError(f"--{name} {shortened(','.join(texts))} has a value that is empty.")
        match = _RANGE.fullmatch(word) if kind in (int, float) else None
        values += _range(name, word, kind, *match.groups()) if match else [_value(name, word, kind)]
    return list(dict.fromkeys(values))


def _kind(annotation: Any) -> type:
    """int, float, bool or str: what `float | None` or a Literal is made of."""
    if type(None) in get_args(annotation):
        (annotation,) = (k for k in get_args(annotation) if k is not type(None))
    is_type = isinstance(annotation, type) and get_origin(annotation) is None
    return annotation if is_type else str


def _value(name: str, word: str, kind: type) -> Any:
    if kind is bool:
        known = {"true": True, "false": False}
        if word.lower() not in known:
            raise SettingError(f"--{name}: {quoted(word)} is neither true nor false.")
        return known[word.lower()]
    try:
        return kind(word)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise SettingError(
            f"--{name}: {quoted(word)} is not {what}, nor a range such as 1:100:3log or 0:9:10lin."
        ) from None


def _range(name: str, word: str, kind: type, first: str, last: str, n: str, how: str) -> list[Any]:
    low, high, count = (float(_value(name, first, kind)), float(_value(name, last, kind)), int(n))
    if count < 2:
        raise SettingError(
            f"--{name}: the range {quoted(word)} has {count} values; it needs at least 2."
        )
    if how == "log":
        if not (low > 0 and high > 0):
            raise SettingError(
                f"--{name}: the range {quoted(word)} is logarithmic; its ends must be above 0."
            )
        low, high = math.log(low), math.log(high)
    steps = [low + (high - low) * i / (count - 1) for i in range(count)]
    values = [math.exp(step) if how == "log" else step for step in steps]
    return [round(v) if kind is int else float(f"{v:.{_DIGITS}g}") for v in values]
