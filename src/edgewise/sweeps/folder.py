"""The folder of a sweep: a line for each finished point, its circuits, and the tables of them.

sweep.json        that this is a sweep, and of which version
journal.jsonl     one line per finished point, only ever added to; the truth of the folder
circuits/ID.json  each circuit once, by the hash of its content
unfinished/KEY/   the decisions, or the state, of a point at work
unfinished/at-work  held by every process that computes, so that those of a killed sweep are seen
points.jsonl, points.parquet   the journal as a table, made anew whenever a sweep ends
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgewise.errors import FormatError, OutputError, quoted
from edgewise.record import remove_unfinished
from edgewise.storage import (
    LineFile,
    imported,
    line_of,
    read_json,
    record_of,
    renamed,
    wait_until_nobody_holds,
    write_json,
)
from edgewise.sweeps.columns import Row, checked_row
from edgewise.sweeps.tables import LINES, PARQUET, write_tables

FORMAT = "edgewise-sweep"
VERSION = 2
_HEADER, _JOURNAL, _CIRCUITS, _UNFINISHED = "sweep.json", "journal.jsonl", "circuits", "unfinished"
AT_WORK = "at-work"  # in the folder of unfinished points; every process that computes holds it
_PATIENCE_SECONDS = 60.0  # with processes whose sweep was killed: they end by themselves


@dataclass(frozen=True)
class Outcome:
    """A finished point: its row, and its circuit's document if it found one."""

    row: Row
    circuit: dict[str, Any] | None = None


class SweepFolder:
    """A sweep's folder while a sweep writes into it; one process at a time may.

    Raises `OutputError` if it cannot be written, is in use or holds something else, `FormatError`
    if its journal is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.unfinished = folder / _UNFINISHED
        known = _is_sweep(folder)
        try:
            (folder / _CIRCUITS).mkdir(parents=True, exist_ok=True)
            self.unfinished.mkdir(exist_ok=True)
            self._file = LineFile(folder / _JOURNAL, work="sweep")
        except OSError as reason:
            raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
        try:
            if not wait_until_nobody_holds(self.unfinished / AT_WORK, _PATIENCE_SECONDS):
                raise OutputError(
                    f"{folder} is in use: processes of a sweep that was killed are still at work."
                )
            if not known:
                write_json({"format": FORMAT, "version": VERSION}, folder / _HEADER)
            _remove_half_written(folder)
            self._rows = rows_of(self._file.lines, folder / _JOURNAL)
            for key in self._rows:  # finished, and killed before this was removed
                remove_unfinished(self.unfinished / key)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SweepFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        with suppress(OSError):
            (self.unfinished / AT_WORK).unlink(missing_ok=True)
            self.unfinished.rmdir()  # stays while points are unfinished

    @property
    def rows(self) -> list[Row]:
        """The last row of every point."""
        return list(self._rows.values())

    def status(self, key: str) -> str | None:
        """done, failed, or None for a point that is not there."""
        return self._rows.get(key, {}).get("status")

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep finished points: first their circuits, then their lines. Raises `OutputError`."""
        lines = "".join(line_of(o.row) for o in outcomes)
        try:
            for outcome in outcomes:
                if outcome.circuit is not None:
                    self._keep_circuit(outcome.row["circuit_file"], outcome.circuit)
            self._file.add(lines.encode(), lasting=True)
        except (OSError, OutputError) as reason:
            why = f"{reason.strerror}." if isinstance(reason, OSError) else str(reason)
            raise OutputError(
                f"cannot write to {self.path}: {why.rstrip('.')}. The {len(self._rows):,} points "
                "finished before are kept; the same call goes on from there."
            ) from reason
        for outcome in outcomes:
            self._rows[outcome.row["key"]] = outcome.row
            remove_unfinished(self.unfinished / outcome.row["key"])

    def write_tables(self) -> list[Path]:
        """Write the tables of all points. Raises `OutputError`; the journal has them still."""
        # Read again: Ctrl-C may have come between a line and our knowing of it.
        return write_tables(read_rows(self.path), self.path)

    def _keep_circuit(self, name: str, document: dict[str, Any]) -> None:
        if not (self.path / name).exists():
            write_json(document, self.path / name)


def read_rows(folder: Path) -> list[Row]:
    """The rows of a sweep's folder, also while a sweep writes into it. Raises `FormatError`."""
    if not (folder / _HEADER).exists():
        raise FormatError(f"{folder} is not the folder of a sweep: it has no {_HEADER}.")
    _check_header(folder)
    try:
        *lines, _ = (folder / _JOURNAL).read_bytes().split(b"\n")
    except OSError as reason:
        raise FormatError(f"cannot read {folder / _JOURNAL}: {reason.strerror}.") from reason
    return list(rows_of(lines, folder / _JOURNAL).values())


def rows_of(lines: Iterable[bytes], source: Path) -> dict[str, Row]:
    """The last row of every point, by its key. Raises `FormatError`, naming the line."""
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        complaint = f"{source}, line {number}: not a finished point"
        try:
            row = checked_row(renamed(record_of(line, complaint)), complaint)
            _check_names(row)
        except ValueError as reason:
            why = reason if isinstance(reason, FormatError) else f"{complaint}: {reason}"
            why = f"{why}. Remove the line to have the point computed again."
            raise FormatError(why) from reason
        rows[row["key"]] = row
    return rows


def _check_names(row: Row) -> None:
    """Raise `ValueError` unless the names of a row that become paths stay in the folder."""
    if not re.fullmatch("[0-9a-f]{16}", row["key"]):
        raise ValueError(f"its key is {quoted(row['key'])}, not 16 hexadecimal digits")
    file = row.get("circuit_file")
    if file is not None and not re.fullmatch(rf"{_CIRCUITS}/[0-9a-f]+\.json", file):
        raise ValueError(f"its circuit_file is {quoted(file)}, not {_CIRCUITS}/ID.json")


def _check_header(folder: Path) -> None:
    imported(read_json(folder / _HEADER, "sweep"), str(folder / _HEADER), FORMAT, VERSION)


def _is_sweep(folder: Path) -> bool:
    """Whether the folder is a sweep's already; False if it is new. Raises `OutputError`."""
    try:
        if (folder / _HEADER).exists():
            _check_header(folder)
            return True
        # A process killed before it wrote the header leaves these.
        ours = {_JOURNAL, _CIRCUITS, _UNFINISHED}
        there = list(folder.iterdir()) if folder.exists() else []
    except OSError as reason:
        raise OutputError(f"cannot read {folder}: {reason.strerror}.") from reason
    strange = [p.name for p in there if p.name not in ours and not _is_half_written(p)]
    if strange:
        raise OutputError(
            f"{folder} is not the folder of a sweep: it holds {strange[0]}. Choose a new folder."
        )
    return False


def _is_half_written(path: Path) -> bool:
    """As `write_json` and its like leave a file when their process is killed."""
    names = (_HEADER, LINES, PARQUET)
    return path.name.startswith(tuple(f".{name}." for name in names))


def _remove_half_written(folder: Path) -> None:
    with suppress(OSError):
        left = [path for path in folder.iterdir() if _is_half_written(path)]
        for path in (*left, *(folder / _CIRCUITS).glob(".*.json.*")):
            path.unlink(missing_ok=True)
