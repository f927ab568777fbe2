"""The folder of a leaderboard: a line for each finished cell, and the tables made of them.

journal.jsonl     a header, then one line per finished cell, only ever added to
leaderboard.json  standings and cells; leaderboard.csv and cells.csv the same as tables
leaderboard.html  the page, which the command writes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgewise.errors import FormatError, OutputError
from edgewise.leaderboards.cell import Cell
from edgewise.work.journal import Journal, JournalFormat, read_journal

JOURNAL = "journal.jsonl"
_BOARD = JournalFormat("edgewise-leaderboard-journal", holds="a leaderboard")


class BoardFolder:
    """The folder while cells are added; one process at a time may.

    Raises `OutputError` if it cannot be written, is in use or holds something else; `FormatError`
    if its journal is broken.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / JOURNAL).exists() and any(folder.iterdir()):
                first = min(path.name for path in folder.iterdir())
                raise OutputError(
                    f"{folder} is not the folder of a leaderboard: it holds {first}. Choose a new "
                    "folder."
                )
        except OSError as reason:
            raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
        self._journal = Journal(folder / JOURNAL, _BOARD)
        try:
            self.cells = _last(_cells(self._journal.records, folder / JOURNAL))
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> BoardFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(self, cell: Cell) -> None:
        """Keep a finished cell for good. Raises `OutputError`."""
        self._journal.add(cell.to_json(), lasting=True)
        self.cells.pop(cell.place, None)
        self.cells[cell.place] = cell


def read_cells(folder: Path) -> list[Cell]:
    """The last cell at every place, also while it is being written. Raises `FormatError`."""
    if not (folder / JOURNAL).exists():
        raise FormatError(f"{folder} is not the folder of a leaderboard: it has no {JOURNAL}.")
    records = read_journal(folder / JOURNAL, _BOARD).records
    return list(_last(_cells(records, folder / JOURNAL)).values())


def current(cells: Iterable[Cell], now: Mapping[str, str] | None = None) -> list[Cell]:
    """Without the cells of methods and problems that have changed since: the last version stays.

    `now` has the identity of methods that are known to be of one version.
    """
    kept = list(cells)
    method_ids = {cell.method: cell.method_id for cell in kept} | dict(now or {})
    kept = [cell for cell in kept if cell.method_id == method_ids[cell.method]]
    problem_ids = {cell.problem: cell.problem_id for cell in kept}
    return [cell for cell in kept if cell.problem_id == problem_ids[cell.problem]]


def _last(cells: Iterable[Cell]) -> dict[tuple[str, str, int, str], Cell]:
    """The last cell at every place, in the order of these."""
    last: dict[tuple[str, str, int, str], Cell] = {}
    for cell in cells:
        last.pop(cell.place, None)
        last[cell.place] = cell
    return last


def _cells(records: Iterable[Mapping[str, Any]], source: Path) -> list[Cell]:
    return [Cell.from_json(record, f"{source}: not a finished cell") for record in records]
