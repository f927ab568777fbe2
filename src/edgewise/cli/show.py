"""How results look in a terminal: tables and sentences on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


def as_json(document: Any) -> None:
    """Print a document as JSON, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")  # rich would wrap long lines


def say(sentence: str) -> None:
    """A line on stderr, never broken: it may hold a path to copy."""
    ERR.print(sentence, soft_wrap=True, markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; cells are plain text."""
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):  # a name that is cut or broken cannot be copied
        grid.add_column(name, overflow="fold", no_wrap=i == 0)
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    OUT.print(grid)


def accuracy_line(accuracy: object) -> str:
    """How often the full model is right, as a sentence; `None` where nothing says what right is."""
    text = accuracy or "the prompts have no answers to judge the full model by."
    return f"{text}"[:1].upper() + f"{text}"[1:]


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading: significant digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


@contextmanager
def progress_bar(
    title: str, *, quiet: bool, tells_time: bool = False
) -> Iterator[Callable[[Any], None]]:
    """A bar on stderr for a method's progress; nothing at all when `quiet`.

    `tells_time`: the messages say how long it will take, and the bar does not guess.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([] if tells_time else [TimeRemainingColumn()]),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=ERR, disable=quiet, transient=True) as bar:
        task = bar.add_task(title, total=None, message="")

        def on_progress(step: Any) -> None:
            bar.update(task, completed=step.done, total=step.total, message=step.message)

        yield on_progress


@contextmanager
def spinner(title: str, *, quiet: bool) -> Iterator[None]:
    """A sign of life on stderr for work of unknown length, such as loading a model."""
    if quiet:
        yield
        return
    with ERR.status(title):
        yield
