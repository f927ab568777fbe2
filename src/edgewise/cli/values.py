"""Several values on the command line: `0.01,0.1`, `0:9:10lin`, `0.01:1:9log`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from edgewise.errors import SettingError, quoted, shortened

_RANGE = re.compile(r"([^:]+):([^:]+):(\d+)(log|lin)")
_NUMBERS = (float, float | None, int, int | None)


def parse_values(name: str, texts: Sequence[str], kind: Any) -> list[Any]:
    """The values of an option of a type such as `float | None`, each once. Raises `SettingError`.

    >>> parse_values("threshold", ["0.01:1:3log,5"], float)
    [0.01, 0.1, 1.0, 5.0]
    """
    values: list[Any] = []
    for word in (part.strip() for text in texts for part in text.split(",")):
        if not word:
            raise SettingError(f"--{name} {shortened(','.join(texts))} has a value that is empty.")
        match = _RANGE.fullmatch(word) if kind in _NUMBERS else None
        try:
            if match is None:
                values.append(msgspec.convert(word, kind, strict=False))
            else:
                numbers = _range(*match.groups())
                values += numbers if kind in _NUMBERS[:2] else map(round, numbers)
        except (msgspec.ValidationError, ValueError) as reason:
            raise SettingError(
                f"--{name}: {quoted(word)} does not fit: {shortened(str(reason))}. Numbers may be "
                "a range such as 1:100:3log or 0:9:10lin."
            ) from None
    return list(dict.fromkeys(values))


def _range(first: str, last: str, n: str, how: str) -> list[float]:
    """Numbers in equal steps or, for log, by equal factors. Raises `ValueError`."""
    ends, count = (float(first), float(last)), int(n)
    if count < 2 or (how == "log" and min(ends) <= 0):
        raise ValueError("a range has at least 2 values, and one with log lies above 0")
    numbers = (np.geomspace if how == "log" else np.linspace)(*ends, count)
    return [float(f"{number:.10g}") for number in numbers]  # the same on every machine
