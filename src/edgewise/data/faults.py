"""Faults of prompts and files, and the order they are told in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from edgewise.errors import Fault

__all__ = ["Fault", "Label", "in_order"]

Label = Callable[[int], str]


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of the whole first, then those of each line."""

    def place(fault: Fault) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", fault.where)[:2]]

    return sorted(faults, key=place)
