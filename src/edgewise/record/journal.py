"""The folder of a run that has not finished: what was asked, and the decisions so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgewise.errors import EdgewiseError, FormatError, OutputError
from edgewise.identity import Identity, difference, warn_if_untold
from edgewise.methods.journal import STATE_FILE, FileJournal
from edgewise.storage import imported, read_json, write_json

FORMAT = "edgewise-unfinished"
VERSION = 2
_HEADER, _TRACE = "run.json", "trace.jsonl"


@contextmanager
def unfinished(folder: str | Path, work: Identity) -> Iterator[FileJournal]:
    """A journal of this work in a folder, made or gone on with; stays until `remove_unfinished`.

    Raises `OutputError` if the folder cannot be written, is in use or holds other work,
    `FormatError` if what it holds cannot be read or are not decisions of this work.
    """
    folder = Path(folder)
    warn_if_untold(work)
    journal = _open(folder, work)
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
            imported(read_json(folder / _HEADER, "journal"), str(folder), FORMAT, VERSION)
        for name in (_TRACE, STATE_FILE, f".{STATE_FILE}", _HEADER):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _open(folder: Path, work: Identity) -> FileJournal:
    """The folder's journal, made or gone on with; the header of one without decisions is anew."""
    found = _header(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = FileJournal(folder / _TRACE)
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    try:
        if not journal.is_empty:
            _check_same(folder, found or {}, work)
        else:
            write_json({"format": FORMAT, "version": VERSION, "work": work}, folder / _HEADER)
    except BaseException:
        journal.close()
        raise
    return journal


def _header(folder: Path) -> dict[str, Any] | None:
    """What the folder says of itself; None if it is missing or holds nothing yet."""
    try:
        if (folder / _HEADER).exists():
            found = read_json(folder / _HEADER, "journal")
            return imported(found, str(folder / _HEADER), FORMAT, VERSION)
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


def _check_same(folder: Path, found: Mapping[str, Any], work: Identity) -> None:
    differs = difference(found.get("work"), work)
    if differs:
        raise OutputError(
            f"{folder} holds an unfinished run of other work: {differs}. "
            "Ask for the same again, choose another folder, or remove it."
        )
