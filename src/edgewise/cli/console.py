"""How results look in a terminal: tables and sentences on stdout, progress on stderr."""

from __future__ import annotations

import codecs
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import rich.table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgewise.tables import Column, Result, Table


class _Plain(Console):
    """A console that shows texts as they are: names and paths hold brackets, and worse."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


OUT = _Plain()
ERR = _Plain(stderr=True)

_CONTROLS = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}
_PLAINER = {"…": "...", "–": "-", "·": ".", "⏎": "\\n", "⇥": "\\t", "×": "x", "→": "->", "−": "-"}
_MOST_ROWS = 40
_FIRST_SECONDS, _EVERY_SECONDS = 1.5, 10.0  # between the lines that stand for a bar


def visible(text: str) -> str:
    """The text with its control characters, which could move the cursor, spelled out."""
    return text.translate(_CONTROLS)


def accept_any_text() -> None:
    """Let stdout and stderr print what their encoding lacks in other characters."""
    codecs.register_error("edgewise", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="edgewise")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAINER.get(character, "?") for character in lacking), error.end


def as_json(document: Any) -> None:
    """Print a document as JSON, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")  # rich would wrap long lines


def say(sentence: str) -> None:
    """A line on stderr, never broken: it may hold a path to copy."""
    ERR.print(sentence, soft_wrap=True)


def deliver(
    result: Any,
    print_result: Callable[[Any], None],
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
    print_result(result)
    wrote(out, report)


def files(**paths: Path | None) -> dict[str, str | None]:
    """Where outputs are, for JSON."""
    return {name: None if path is None else str(path) for name, path in paths.items()}


def wrote(*paths: object) -> None:
    """A line for each file or folder that was written; None is none."""
    for path in paths:
        if path is not None:
            OUT.print(f"wrote {path}", soft_wrap=True)


def bold(name: str) -> Text:
    """A name that begins a line."""
    return Text(visible(name), style="bold")


def show(result: Result, **parts: Result) -> None:
    """Print what a result says, with others that belong to it: tables first, then sentences."""
    OUT.print(bold(result.title), soft_wrap=True)
    named = {"": result} | {f"{name.replace('_', ' ')}: ": part for name, part in parts.items()}
    for name, part in named.items():
        for table in part.tables():
            show_table(replace(table, title=f"{name}{table.title}"))
    OUT.print()
    for name, part in named.items():
        for sentence in part.sentences():
            OUT.print(f"{name}{sentence}")


def show_table(table: Table, *, most: int = _MOST_ROWS) -> None:
    """Print a table as wide as the terminal; JSON and pages have the rows beyond `most`."""
    grid = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    grid.show_header = any(column.name for column in table.columns)
    for i, column in enumerate(table.columns):  # a name that is cut or broken cannot be copied
        justify: Literal["left", "right"] = "right" if column.is_numeric else "left"
        whole = i == 0 or column.kind == "name"
        grid.add_column(visible(column.heading), justify=justify, overflow="fold", no_wrap=whole)
    for row in table.cells()[:most]:
        grid.add_row(*row)
    if table.title:
        OUT.print(f"\n{table.title}", style="italic")
    OUT.print(grid)
    if len(table.rows) > most:
        OUT.print(f"… and {len(table.rows) - most:,} more")
    for note in table.notes:
        OUT.print(note)


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
