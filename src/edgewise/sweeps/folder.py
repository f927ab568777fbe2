"""The folder of a sweep: a record for each finished point, its circuits, and the tables of them.

journal.jsonl     one line per finished point, only ever added to; the truth of the folder
circuits/ID.json  each circuit once, by the hash of its content
unfinished/KEY/   the decisions, or the state, of a point at work
points.jsonl, points.parquet   the journal as a table, made anew whenever a sweep ends
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.documents import write_json
from edgewise.errors import FormatError, OutputError, quoted
from edgewise.sweeps.table import LINES, PARQUET, Row, checked_row, write_tables
from edgewise.work.journal import Journal, JournalFormat, Record, read_journal
from edgewise.work.store import remove_unfinished

_JOURNAL, _CIRCUITS, _UNFINISHED = "journal.jsonl", "circuits", "unfinished"
_SWEEP = JournalFormat("edgewise-sweep", holds="a sweep", version_1=("sweep.json", _JOURNAL))


@dataclass(frozen=True)
class PointResult:
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
        _check_is_sweep(folder)
        try:
            (folder / _CIRCUITS).mkdir(parents=True, exist_ok=True)
            self.unfinished.mkdir(exist_ok=True)
        except OSError as reason:
            raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
        self._journal = Journal(folder / _JOURNAL, _SWEEP)
        try:
            _remove_half_written(folder)
            self._rows = rows_of(self._journal.records, folder / _JOURNAL)
            for key in self._rows:  # finished, and killed before this was removed
                remove_unfinished(self.unfinished / key)
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> SweepFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
        with suppress(OSError):
            self.unfinished.rmdir()  # stays while points are unfinished

    @property
    def rows(self) -> list[Row]:
        """The last row of every point."""
        return list(self._rows.values())

    def status(self, key: str) -> str | None:
        """done, failed, or None for a point that is not there."""
        return self._rows.get(key, {}).get("status")

    def add(self, results: Sequence[PointResult]) -> None:
        """Keep finished points: first their circuits, then their lines. Raises `OutputError`."""
        for result in results:
            if result.circuit is not None:
                self._keep_circuit(result.row["circuit_file"], result.circuit)
        self._journal.add(*(result.row for result in results), lasting=True)
        for result in results:
            self._rows[result.row["key"]] = result.row
            remove_unfinished(self.unfinished / result.row["key"])

    def _keep_circuit(self, name: str, document: dict[str, Any]) -> None:
        if (self.path / name).exists():
            return
        try:
            write_json(document, self.path / name)
        except OutputError as reason:
            raise OutputError(
                f"{str(reason).rstrip('.')}. The points finished before are kept: run the "
                "same call again to resume."
            ) from reason

    def write_tables(self) -> list[Path]:
        """Write the tables of all points. Raises `OutputError`; the journal has them still."""
        # Read again: Ctrl-C may have come between a line and our knowing of it.
        return write_tables(read_rows(self.path), self.path)


def is_sweep(folder: Path) -> bool:
    """Whether a folder looks like a sweep's."""
    return (folder / _JOURNAL).exists()


def read_rows(folder: Path) -> list[Row]:
    """The rows of a sweep's folder, also while a sweep writes into it. Raises `FormatError`."""
    if not is_sweep(folder):
        raise FormatError(f"{folder} is not the folder of a sweep: it has no {_JOURNAL}.")
    records = read_journal(folder / _JOURNAL, _SWEEP).records
    return list(rows_of(records, folder / _JOURNAL).values())


def rows_of(records: Iterable[Record], source: Path) -> dict[str, Row]:
    """The last row of every point, by its key. Raises `FormatError`."""
    rows: dict[str, Row] = {}
    for record in records:
        row = checked_row(record, f"{source}: not a finished point")
        _check_names(row, source)
        rows[row["key"]] = row
    return rows


def _check_names(row: Row, source: Path) -> None:
    """Raise `FormatError` unless the names of a row that become paths stay in the folder."""
    if not re.fullmatch("[0-9a-f]{16}", row["key"]):
        raise FormatError(
            f"{source}: the key of a point is {quoted(row['key'])}, not 16 hexadecimal digits."
        )
    file = row.get("circuit_file")
    if file is not None and not re.fullmatch(rf"{_CIRCUITS}/[0-9a-f]+\.json", file):
        raise FormatError(
            f"{source}: the circuit_file of a point is {quoted(file)}, not {_CIRCUITS}/ID.json."
        )


def _check_is_sweep(folder: Path) -> None:
    """Raise `OutputError` for a folder of something else."""
    try:
        # A process killed before it wrote the journal's header leaves these.
        ours = {_JOURNAL, _CIRCUITS, _UNFINISHED}
        present = list(folder.iterdir()) if folder.exists() else []
    except OSError as reason:
        raise OutputError(f"cannot read {folder}: {reason.strerror}.") from reason
    strange = [p.name for p in present if p.name not in ours and not _is_half_written(p)]
    if strange and not is_sweep(folder):
        raise OutputError(
            f"{folder} is not the folder of a sweep: it holds {strange[0]}. Choose a new folder."
        )


def _is_half_written(path: Path) -> bool:
    """As `write_text` and its like leave a file when their process is killed."""
    return path.name.startswith(tuple(f".{name}." for name in (LINES, PARQUET, _JOURNAL)))


def _remove_half_written(folder: Path) -> None:
    with suppress(OSError):
        left = [path for path in folder.iterdir() if _is_half_written(path)]
        for path in (*left, *(folder / _CIRCUITS).glob(".*.json.*")):
            path.unlink(missing_ok=True)
