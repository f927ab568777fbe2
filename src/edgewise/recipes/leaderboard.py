"""The leaderboard: every method on every benchmark problem, kept trial by trial, and what it says.

journal.jsonl     one line per finished trial, only ever added to
leaderboard.json  rows and trials; leaderboard.csv and cells.csv the same as tables
leaderboard.html  the page, which the command writes
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgewise.documents import Scalar, decoded, imported, write_text
from edgewise.errors import FormatError
from edgewise.model import PROGRAMS
from edgewise.recipes.contestants import NAMES
from edgewise.recipes.leaderboard_rows import LeaderboardRow, leaderboard_rows
from edgewise.recipes.leaderboard_tables import leaderboard_sentences, leaderboard_tables
from edgewise.recipes.trials import ABLATIONS, Trial
from edgewise.tables import Chart, Table
from edgewise.work.journal import JournalFormat, Record, read_journal

FORMAT, VERSION = "edgewise-leaderboard", 2
JOURNAL = "journal.jsonl"
KEPT_TRIALS = JournalFormat("edgewise-leaderboard-journal", holds="a leaderboard")


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Methods against the structural truth of compiled programs: trials, and rows made of them.

    `edgewise.report(board, "leaderboard.html")` shows it.
    """

    trials: tuple[Trial, ...]

    def __repr__(self) -> str:
        return f"Leaderboard({len(self.rows)} methods on {self.n_problems} problems)"

    @property
    def title(self) -> str:
        return "Methods against what the weights use"

    @cached_property
    def rows(self) -> tuple[LeaderboardRow, ...]:
        """A row for each method, the best first."""
        return leaderboard_rows(self.answered)

    @property
    def answered(self) -> tuple[Trial, ...]:
        """The trials of methods."""
        return tuple(trial for trial in self.trials if trial.method)

    @property
    def left_out(self) -> tuple[Trial, ...]:
        """Problems that are not there, or on which nothing has an effect."""
        return tuple(trial for trial in self.trials if not trial.method)

    @property
    def n_problems(self) -> int:
        """How many different problems methods have run on."""
        return len({trial.problem_id for trial in self.answered})

    def values(self, name: str) -> list[Any]:
        """The values of a column among the trials of methods, such as "program" or "seed"."""
        return list(dict.fromkeys(getattr(trial, name) for trial in self.answered))

    def common(self) -> Leaderboard:
        """The same on those problems only that every method has run on."""
        ran = [{t.problem for t in self.answered if t.method == m} for m in self.values("method")]
        shared = set.intersection(*ran) if ran else set()
        return Leaderboard(tuple(trial for trial in self.answered if trial.problem in shared))

    # --- as a result

    def sentences(self) -> tuple[str, ...]:
        """Who stands first and how surely, on what, and who has no answer."""
        return leaderboard_sentences(self)

    def tables(self) -> tuple[Table, ...]:
        """The rows, where each method is good, what it costs, and where it has no answer."""
        return leaderboard_tables(self)

    def charts(self) -> tuple[Chart, ...]:
        """None: the first table has a bar for each mean."""
        return ()

    # --- files

    def to_json(self) -> dict[str, Any]:
        """Rows and every trial; the trials as lists, whose columns are named once."""
        trials = [trial.to_json() for trial in self.trials]
        return {
            "format": FORMAT,
            "version": VERSION,
            "edgewise": version("edgewise"),
            "standings": [row.to_json() for row in self.rows],
            "columns": [field.name for field in fields(Trial)],
            "cells": [list(trial.values()) for trial in trials],
        }

    @classmethod
    def from_json(cls, document: Any, *, source: str = "leaderboard") -> Leaderboard:
        """The leaderboard of `to_json`. Raises `FormatError`."""
        complaint = f"{source}: a broken cell"
        document = imported(document, source, kind=FORMAT, version=VERSION)
        saved = decoded(_SavedBoard, document, complaint)
        if any(len(row) != len(saved.columns) for row in saved.cells):
            raise FormatError(f"{complaint}: it has not {len(saved.columns)} columns.")
        rows = (dict(zip(saved.columns, row, strict=True)) for row in saved.cells)
        return cls.of(Trial.from_json(row, source=complaint).checked(complaint) for row in rows)

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Leaderboard:
        """Of trials in any order: by program, ablation, seed and method."""

        def place(trial: Trial) -> tuple[Any, ...]:
            known = NAMES.index(trial.method) if trial.method in NAMES else len(NAMES)
            at = PROGRAMS.index(trial.program), list(ABLATIONS).index(trial.ablation)
            return *at, trial.seed, known, trial.method

        return cls(tuple(sorted(trials, key=place)))

    @classmethod
    def load(cls, folder: str | Path) -> Leaderboard:
        """What a folder holds, also while it is being written. Raises `FormatError`."""
        path = Path(folder) / JOURNAL
        if not path.exists():
            raise FormatError(f"{folder} is not the folder of a leaderboard: it has no {JOURNAL}.")
        return cls.of(current(last_trials(read_journal(path, KEPT_TRIALS).records, path)))

    def save(self, folder: str | Path) -> list[Path]:
        """Write leaderboard.json, leaderboard.csv and cells.csv. Raises `OutputError`."""
        document = self.to_json()
        lines = ",\n".join(json.dumps(row) for row in document.pop("cells"))
        head = json.dumps(document, indent=1).removesuffix("\n}")
        text = f'{head},\n "cells": [\n{lines}\n]}}\n'  # a line per trial: a tenth of the lines
        texts = {
            "leaderboard.json": text,
            "leaderboard.csv": csv_text([row.flat() for row in self.rows]),
            "cells.csv": csv_text([trial.to_json() for trial in self.trials]),
        }
        return [write_text(text, Path(folder) / name) for name, text in texts.items()]


@dataclass(frozen=True)
class _SavedBoard:
    """What leaderboard.json holds; standings follow from the cells."""

    columns: list[str]
    cells: list[list[Scalar]]


def last_trials(records: Iterable[Record], source: Path) -> list[Trial]:
    """The last trial at every point of the grid, of a journal's records. Raises `FormatError`."""
    complaint = f"{source}: not a finished trial"
    trials = (Trial.from_json(record, source=complaint).checked(complaint) for record in records)
    return list({trial.place: trial for trial in trials}.values())


def current(trials: Sequence[Trial], now: Mapping[str, str] | None = None) -> list[Trial]:
    """Without the trials of methods and problems that have changed since: the last version stays.

    `now` has the identity of methods that are known to be of one version.
    """
    method_ids = {trial.method: trial.method_id for trial in trials} | dict(now or {})
    kept = [trial for trial in trials if trial.method_id == method_ids[trial.method]]
    problem_ids = {trial.problem: trial.problem_id for trial in kept}
    return [trial for trial in kept if trial.problem_id == problem_ids[trial.problem]]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, under all the columns that they have together."""
    file = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
