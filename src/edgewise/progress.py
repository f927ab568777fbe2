"""How far something is that takes long: one record and one kind of listener for all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is: `done` of `total` steps."""

    done: int
    total: int
    message: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """For callers who do not want to know."""
