"""How far long work has come: one record of it, and one kind of listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is: `done` of `total` steps."""

    done: int
    total: int
    message: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """For callers who do not want to know."""


def counted(items: Sequence[T], on_progress: OnProgress, message: str) -> Iterator[T]:
    """The items one by one; each is told as done when the next is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(Progress(done, len(items), message))
