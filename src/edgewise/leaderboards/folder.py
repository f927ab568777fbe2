"""The folder of a leaderboard: a line for each finished cell, and the tables made of them.

journal.jsonl     a header, then one line per finished cell, only ever added to
leaderboard.json  standings and cells; leaderboard.csv and cells.csv the same as tables
leaderboard.html  the page, which the command writes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from edgewise.errors import FormatError, OutputError, shortened
from edgewise.leaderboards.cell import Cell
from edgewise.storage import LineFile, imported, line_of, record_of, renamed

FORMAT, VERSION = "edgewise-leaderboard-journal", 2
JOURNAL = "journal.jsonl"


class BoardFolder:
    """The folder while cells are added; one process at a time may.

    Raises `OutputError` if it cannot be written, is in use, holds something else or is of another
    version of Edgewise; `FormatError` if its journal is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / JOURNAL).exists() and any(folder.iterdir()):
                first = min(path.name for path in folder.iterdir())
                raise OutputError(
                    f"{folder} is not the folder of a leaderboard: it holds {first}. Choose a new "
                    "folder."
                )
            self._file = LineFile(folder / JOURNAL, work="leaderboard")
        except OSError as reason:
            raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
        try:
            self.cells = _last(_cells(self._file.lines, folder / JOURNAL))
            if not self._file.lines:
                self._add(line_of(_header()))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> BoardFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, cell: Cell) -> None:
        """Keep a finished cell for good. Raises `OutputError`."""
        self._add(line_of(cell.to_json()))
        self.cells.pop(cell.place, None)
        self.cells[cell.place] = cell

    def _add(self, line: str) -> None:
        try:
            self._file.add(line.encode(), lasting=True)
        except OSError as reason:
            raise OutputError(
                f"cannot write to {self.path}: {reason.strerror}. The cells finished before are "
                "kept; the same call goes on from there."
            ) from reason


def read_cells(folder: Path) -> list[Cell]:
    """The last cell at every place, also while it is being written. Raises `FormatError`."""
    try:
        *lines, _ = (folder / JOURNAL).read_bytes().split(b"\n")
    except OSError as reason:
        raise FormatError(f"cannot read {folder / JOURNAL}: {reason.strerror}.") from reason
    return list(_last(_cells(lines, folder / JOURNAL)).values())


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


def _header() -> dict[str, object]:
    return {"format": FORMAT, "version": VERSION, "edgewise": version("edgewise")}


def _cells(lines: Sequence[bytes], source: Path) -> list[Cell]:
    cells = []
    for number, line in enumerate(lines, start=1):
        complaint = f"{source}, line {number}: not a finished cell"
        row = record_of(line, complaint)
        if number > 1:
            try:
                cells.append(Cell.from_json(renamed(row), complaint))
            except FormatError as reason:
                why = f"{reason} Remove the line to have the cell computed again."
                raise FormatError(why) from reason
            continue
        imported(row, str(source), FORMAT, VERSION)
        if row.get("edgewise") != version("edgewise"):
            raise OutputError(
                f"{source} was written by Edgewise {shortened(str(row.get('edgewise')))}, and this "
                f"is {version('edgewise')}; numbers of two versions do not mix. Choose another."
            )
    return cells
