"""The folder of a run that has not finished: what was asked, and the decisions so far."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewise.discovery import FileJournal
from edgewise.discovery.journal import STATE_FILE
from edgewise.errors import EdgewiseError, FormatError, OutputError
from edgewise.problem import Problem
from edgewise.record.run import ProblemSummary
from edgewise.storage import check_format, read_json, write_json

FORMAT = "edgewise-unfinished"
VERSION = 1
_HEADER, _TRACE = "run.json", "trace.jsonl"

# What a header says, and how to say that it is not the same.
_OTHER = {
    "method": "with another method",
    "settings": "with other settings",
    "problem": "of another problem",
    "graph": "on another graph",
    "baselines": "with other weights or another metric",
}
# Sums of floats differ between machines; other weights or another function differ by more.
SAME_BASELINE = 1e-3


@contextmanager
def unfinished(
    folder: str | Path, problem: Problem, method: str, settings: Mapping[str, Any]
) -> Iterator[FileJournal]:
    """A journal in a folder, made or gone on with. It stays until `remove_unfinished`.

    Raises `OutputError` if the folder cannot be written, is in use or holds other work,
    `FormatError` if what it holds cannot be read or are not decisions of this work.
    """
    folder = Path(folder)
    journal = _open(folder, _asked(problem, method, settings))
    try:
        yield journal
    except FormatError as reason:
        raise FormatError(
            f"{folder} cannot be gone on with: {str(reason).rstrip('.')}. Remove it to start anew."
        ) from reason
    finally:
        journal.close()
        if journal.is_empty:  # it ended before there was anything to keep
            remove_unfinished(folder)


def decisions_kept(folder: str | Path) -> int | None:
    """How many decisions an unfinished run holds; None if there is none, or an empty folder.

    Raises `OutputError` if the folder holds something else, `FormatError` if it cannot be read.
    """
    folder = Path(folder)
    if _header(folder) is None:
        return None
    try:
        return (folder / _TRACE).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
    except OSError as reason:
        raise FormatError(f"cannot read {folder / _TRACE}: {reason.strerror}.") from reason


def work_kept(folder: str | Path) -> str | None:
    """What an unfinished run holds, in words; None if that is nothing. Raises as above."""
    n = decisions_kept(folder)
    if n:
        return "1 decision" if n == 1 else f"{n:,} decisions"
    return "the training so far" if (Path(folder) / STATE_FILE).exists() else None


def remove_unfinished(folder: str | Path) -> None:
    """Remove such a folder, once the run it became is safe. Files of others in it stay.

    A link, or a folder whose header is not of an unfinished run, is left alone.
    """
    folder = Path(folder)
    with suppress(OSError, EdgewiseError):
        if folder.is_symlink() or not folder.is_dir():
            return
        if (folder / _HEADER).exists():
            check_format(read_json(folder / _HEADER, "journal"), str(folder), FORMAT, VERSION)
        for name in (_TRACE, STATE_FILE, f".{STATE_FILE}", _HEADER):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _asked(problem: Problem, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what is decided; the batch size only bounds memory, and may change."""
    summary = asdict(ProblemSummary.of(problem))
    del summary["batch_size"]
    full, empty = problem.baselines()
    asked = {
        "method": method,
        "settings": dict(settings),
        "problem": {**summary, "dtype": str(problem.model.dtype).removeprefix("torch.")},
        "graph": problem.graph.to_json(),
        "baselines": {"full": full, "empty": empty},
    }
    return json.loads(json.dumps(asked))  # as it will be read


def _open(folder: Path, asked: Mapping[str, Any]) -> FileJournal:
    """The folder's journal, made or gone on with; the header of one without decisions is anew."""
    found = _header(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = FileJournal(folder / _TRACE)
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    try:
        if not journal.is_empty:
            _check_same(folder, found or {}, asked)
        else:
            write_json({"format": FORMAT, "version": VERSION, **asked}, folder / _HEADER)
    except BaseException:
        journal.close()
        raise
    return journal


def _header(folder: Path) -> dict[str, Any] | None:
    """What the folder says of itself; None if it is missing or holds nothing yet."""
    try:
        if (folder / _HEADER).exists():
            found = read_json(folder / _HEADER, "journal")
            check_format(found, str(folder / _HEADER), FORMAT, VERSION)
            return found
        if not folder.exists():
            return None
        if folder.is_dir() and all(_is_empty_trace(path) for path in folder.iterdir()):
            return None
    except OSError as reason:
        raise OutputError(f"cannot read {folder}: {reason.strerror}.") from reason
    raise OutputError(f"{folder} is not an unfinished run. Choose another folder.")


def _is_empty_trace(path: Path) -> bool:
    """As a process leaves it that is killed before it writes the header."""
    return path.name == _TRACE and path.is_file() and path.stat().st_size == 0


def _check_same(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for key, value in asked.items():
        difference = _difference(key, found.get(key), value)
        if difference:
            raise OutputError(
                f"{folder} holds an unfinished run {_OTHER[key]} ({difference}). "
                "Ask for the same again, choose another folder, or remove it."
            )


def _difference(name: str, found: Any, asked: Any) -> str:
    """The first difference in words; empty if there is none."""
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        if name == "baselines":
            found = _rounding_forgiven(found, asked)
        differences = (_difference(key, found.get(key), value) for key, value in asked.items())
        return next(filter(None, differences), "")
    return "" if found == asked else f"{name} was {found!r}, is {asked!r}"


def _rounding_forgiven(found: Mapping[str, Any], asked: Mapping[str, float]) -> dict[str, Any]:
    """`found`, with the values that are near enough to those asked replaced by these."""
    scale = SAME_BASELINE * max(abs(value) for value in asked.values())
    return {
        key: value if abs(found.get(key, math.inf) - value) <= scale else found.get(key)
        for key, value in asked.items()
    }
