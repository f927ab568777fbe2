"""What commands print beside results: JSON, files written, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgewise.reporting.terminal import ERR, OUT, accept_any_text, bold, show, show_table, visible
from edgewise.tables import Column, Table

__all__ = ["ERR", "OUT", "accept_any_text", "bold", "show", "show_table", "visible"]

_FIRST_SECONDS, _EVERY_SECONDS = 1.5, 10.0  # between the lines that stand for a bar


def as_json(document: Any) -> None:
    """Print a document as JSON, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")  # rich would wrap long lines


def say(sentence: str) -> None:
    """A line on stderr, never broken: it may hold a path to copy."""
    ERR.print(sentence, soft_wrap=True)


def deliver(
    result: Any,
    *,
    out: Path | None = None,
    report: Path | None = None,
    json: bool,
) -> None:
    """Save a result, write its page, and print it, as JSON if `json`."""
    if out is not None:
        result.save(out)
    if report is not None:
        from edgewise.reporting import report as write_report

        write_report(result, report)
    if json:
        as_json(result.to_json() | files(out=out, report=report))
        return
    show(result)
    wrote(out, report)


def files(**paths: Path | None) -> dict[str, str | None]:
    """Where outputs are, for JSON."""
    return {name: None if path is None else str(path) for name, path in paths.items()}


def wrote(*paths: object) -> None:
    """A line for each file or folder that was written; None is none."""
    for path in paths:
        if path is not None:
            OUT.print(f"wrote {path}", soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of words; names are in the first column."""
    heads = tuple(Column(name, "name" if i == 0 else "text") for i, name in enumerate(columns))
    show_table(Table(title, heads, tuple(tuple(map(str, row)) for row in rows)), most=len(rows))


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
    """A bar on stderr for a method's progress, lines if it is no terminal; nothing when `quiet`.

    `tells_time`: the messages say how long it will take, and the bar does not guess.
    """
    if quiet or not ERR.is_terminal or ERR.is_dumb_terminal:
        told = [""]

        def note(step: Any) -> None:
            total = f" of {step.total:,}" if step.total else ""
            told[:] = [f": {step.done:,}{total} {step.message}".rstrip()]

        with nullcontext() if quiet else _lines(lambda: f"{title}{told[0]}"):
            yield note
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *([] if tells_time else [TimeRemainingColumn()]),
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task(title, total=None, message="")

        def on_progress(step: Any) -> None:
            bar.update(task, completed=step.done, total=step.total, message=visible(step.message))

        yield on_progress


@contextmanager
def spinner(title: str, *, quiet: bool) -> Iterator[None]:
    """A sign of life on stderr for work of unknown length, such as loading a model."""
    if quiet:
        yield
    elif ERR.is_terminal and not ERR.is_dumb_terminal:
        with ERR.status(Text(title)):
            yield
    else:
        with _lines(lambda: title):
            yield


class Stopped(Exception):
    """Ctrl-C, with a sentence on what is kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@contextmanager
def stoppable(kept: Callable[[], str | None]) -> Iterator[None]:
    """Turn Ctrl-C into `Stopped` with what `kept` says; None says that nothing is kept."""
    try:
        yield
    except KeyboardInterrupt:
        message = kept()
        if message is None:
            raise
        raise Stopped(message) from None


@contextmanager
def _lines(state: Callable[[], str]) -> Iterator[None]:
    """Say how it stands after a second or two, and then now and then."""
    start, ended = time.monotonic(), Event()

    def tell() -> None:
        seconds = _FIRST_SECONDS
        while not ended.wait(seconds):
            say(f"{state()} ({time.monotonic() - start:.0f} s)")
            seconds = _EVERY_SECONDS

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
