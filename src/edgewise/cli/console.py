"""Where results go: JSON or text on stdout, files that are written, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.columns import Columns
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from edgewise.cli.options import grouped
from edgewise.documents import check_output_file, check_output_files
from edgewise.progress import OnProgress, Progress
from edgewise.reporting.terminal import ERR, OUT, accept_any_text, bold, show, show_table, visible
from edgewise.tables import Column, Table

__all__ = ["ERR", "OUT", "accept_any_text", "bold", "show", "show_table", "visible"]

_FIRST_SECONDS, _EVERY_SECONDS = 1.5, 10.0  # between the lines that stand for a bar


class Stopped(Exception):
    """Ctrl-C, with a sentence on what is kept."""


@dataclass(frozen=True)
class Output:
    """The options that say where the result of a command goes, and what they do."""

    out: Path | None = grouped("JSON file for the result.")
    report: Path | None = grouped("HTML page to write.")
    journal: Path | None = grouped("File that keeps circuits found, to resume from.")
    force: bool = grouped("Replace output files that exist.", False)
    json: bool = grouped("Print JSON, and nothing else.", False)

    def check(self) -> None:
        """Raise `OutputError`, before work starts, unless the files can be written."""
        check_output_files(self.out, self.report, overwrite=self.force)
        check_output_file(self.journal)

    @contextmanager
    def progress(self, title: str, *, kept: Path | None = None) -> Iterator[OnProgress]:
        """A bar on stderr, or lines where that is no terminal; nothing beside JSON.

        `kept` is where work is written as it is done: Ctrl-C becomes `Stopped`, which says so.
        """
        steps = deque([Progress(0, 0, "")], maxlen=1)
        drawn = nullcontext(steps.append) if self.json else _drawn(title, steps)
        with drawn as on_progress:
            try:
                yield on_progress
            except KeyboardInterrupt:
                if kept is None or not kept.exists():
                    raise
                done, total = steps[-1].done, steps[-1].total
                where = f" after {done:,} of {total:,}" if total else ""
                raise Stopped(
                    f"stopped{where}. What is done is kept in {kept}; run the same command again "
                    "to resume."
                ) from None

    def deliver(
        self,
        result: Any,
        *written: object,
        document: Mapping[str, Any] | None = None,
        page_of: Any = None,
        **parts: Any,
    ) -> None:
        """Write the files of a result, and print it: as JSON alone, or its tables and sentences.

        `written` are files that are written already; `document` is the JSON where it is not
        `result.to_json()` with its files; `page_of` is what the page is about where it is not the
        result; `parts` are results that are shown with this one.
        """
        if self.out is not None:
            result.save(self.out)
        if self.report is not None:
            from edgewise.reporting import report

            report(page_of or result, self.report)
        if self.json:
            as_json(result.to_json() | self.files() if document is None else document)
        else:
            show(result, **parts)
            wrote(self.out, *written, self.report)

    def files(self, **more: object) -> dict[str, str | None]:
        """Where the files are that were written, for JSON."""
        paths = {"out": self.out, "report": self.report, **more}
        return {name: None if path is None else str(path) for name, path in paths.items()}


def summarize(result: Any, document: Mapping[str, Any], *files: str, quiet: bool) -> None:
    """Print a result whose page has the rest: its first table and sentences; as JSON if `quiet`."""
    if quiet:
        as_json(document)
        return
    for table in result.tables()[:1]:
        show_table(table)
    for sentence in result.sentences():
        OUT.print(sentence)
    wrote(*files)


def as_json(document: Any) -> None:
    """Print a document as JSON, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")  # rich would wrap long lines


def say(sentence: str) -> None:
    """A line on stderr, never broken: it may hold a path to copy."""
    ERR.print(sentence, soft_wrap=True)


def line(text: str) -> None:
    """A line on stdout, never broken: it may hold a name to search for."""
    OUT.print(text, soft_wrap=True)


def wrote(*paths: object) -> None:
    """A line for each file or folder that was written; None is none."""
    for path in paths:
        if path is not None:
            line(f"wrote {path}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of words; names are in the first column."""
    heads = tuple(Column(name, "name" if i == 0 else "text") for i, name in enumerate(columns))
    show_table(Table(title, heads, tuple(tuple(map(str, row)) for row in rows)), most=len(rows))


def side_by_side(cells: Sequence[Text]) -> None:
    """Print texts of equally many lines beside each other, in rows as wide as the terminal."""
    OUT.print(Columns(cells, padding=(0, 1)))


def accuracy_line(accuracy: object) -> str:
    """How often the full model is right, as a sentence; `None` where nothing says what right is."""
    text = str(accuracy or "the prompts have no answers to judge the full model by.")
    return text[:1].upper() + text[1:]


# --- progress


@contextmanager
def _drawn(title: str, steps: deque[Progress]) -> Iterator[OnProgress]:
    """Draw each step that is added to `steps`: as a bar, or now and then as a line."""
    if not ERR.is_terminal or ERR.is_dumb_terminal:
        with _lines(lambda: f"{title}: {_words(steps[-1])}" if _words(steps[-1]) else title):
            yield steps.append
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Bar(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task(title, total=None, words="")

        def on_progress(step: Progress) -> None:
            steps.append(step)
            bar.update(task, completed=step.done, total=step.total or None, words=_words(step))

        yield on_progress


def _words(step: Progress) -> str:
    total = f"{step.done:,} of {step.total:,} " if step.total else ""
    return visible(f"{total}{step.message}".rstrip())


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
