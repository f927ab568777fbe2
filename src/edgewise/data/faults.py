"""A fault of prompts or of a file: a sentence that knows which prompt and column it is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Label = Callable[[int], str]


class Fault(str):
    """What is wrong, as a sentence; `where` names the prompt (its line), `column` the field.

    Both are empty for faults of the whole.
    """

    where: str
    column: str

    def __new__(cls, text: str, *, where: str = "", column: str = "") -> Fault:
        fault = super().__new__(cls, f"{where}: {text}" if where else text)
        fault.where, fault.column = where, column
        return fault

    @property
    def text(self) -> str:
        """The sentence without the place."""
        return self.removeprefix(f"{self.where}: ") if self.where else str(self)


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of the whole first, then those of each line."""

    def place(fault: Fault) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", fault.where)[:2]]

    return sorted(faults, key=place)
