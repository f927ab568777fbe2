"""The leaderboard: methods on compiled programs, ablations and seeds, each trial kept for good.

A method is handed the problem and nothing else: the truth stays here. A folder holds
journal.jsonl (a line per finished trial, only ever added to), leaderboard.json with
leaderboard.csv and cells.csv (rows and trials), and leaderboard.html, which the command writes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

from edgewise.arguments import check_choice, check_seed
from edgewise.documents import Scalar, csv_text, decoded, imported, write_text
from edgewise.errors import FormatError, OutputError, SettingError, quoted
from edgewise.evaluation.records import Record
from edgewise.model import PROGRAMS
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.recipes.leaderboard_rows import (
    LeaderboardRow,
    leaderboard_rows,
    leaderboard_sentences,
    leaderboard_tables,
)
from edgewise.recipes.trials import (
    ABLATIONS,
    NAMES,
    AnyContestant,
    Contestant,
    Trial,
    benchmark_problem,
    contestants,
    tried,
)
from edgewise.tables import Table
from edgewise.work.identity import warn_if_untold
from edgewise.work.journal import Journal, JournalFormat, read_journal

QUICK_PROGRAMS = ("or-gate", "tracr-reverse", "tracr-sort", "tracr-xproportion")
QUICK_ABLATIONS = ("zero", "corrupted")
_MOST_SEEDS = 10_000
_FORMAT, _VERSION, _JOURNAL = "edgewise-leaderboard", 2, "journal.jsonl"
_TRIALS = JournalFormat("edgewise-leaderboard-journal", holds="a leaderboard")
_Point = tuple[str, str, int, str]  # of the grid: program, ablation, seed, method


def leaderboard(
    methods: AnyContestant | Iterable[AnyContestant] | Mapping[str, AnyContestant] | None = None,
    *,
    programs: Sequence[str] | None = None,
    ablations: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Leaderboard:
    """Methods on every bundled program, ablation and seed, against the structural truth.

    A method is one of ours by name, or one of yours: a function that takes a `Problem` and returns
    `EdgeScores` (larger matters more), a `Circuit`, or a list of them, as it is, by the name of an
    entry point (group "edgewise.methods") or as "module:function"; a mapping gives names. Baselines
    `random` and `magnitude` always take part. Seeds draw other prompts, and are the seed of methods
    that have one. By default all methods that need no training, all programs and ablations.

    Your methods go first; what raises or returns something else on its first problem is refused
    before anything else runs. Later such a trial counts as an order in which all edges tie.

    With `out`, a finished trial is in that folder for good: the same call resumes where it stopped,
    a call with other values adds, and what is returned is all the folder holds. Trials of a method
    whose source has changed are run again.

    Raises `UnknownName`, `SettingError`; `OutputError` if the folder cannot be written, is in use
    or holds something else, `FormatError` if its journal is broken.

    >>> board = leaderboard(["exact"], programs=["tracr-reverse"], ablations=["zero"], seeds=1)
    >>> [row.method for row in board.rows]
    ['exact', 'magnitude', 'random']
    """
    chosen = sorted(contestants(methods), key=lambda contestant: not contestant.is_own)
    names = _named("bundled program", programs, PROGRAMS)
    kinds = _named("ablation of the leaderboard", ablations, tuple(ABLATIONS))
    problems = list(product(names, _seeds(seeds), kinds))
    now = {contestant.name: contestant.identity for contestant in chosen}
    with nullcontext() if out is None else _opened(Path(out)) as journal:
        trials: dict[_Point, Trial] = {}
        if journal is not None:
            warn_if_untold({f"method {name}": identity for name, identity in now.items()})
            trials = _last_trials(journal.records, journal.path)
            _warn_of_changed(trials.values(), now, out)
        for trial in _new_trials(problems, chosen, trials, on_progress):
            trials[trial.point] = trial
            if journal is not None:
                journal.add(trial.to_json(), lasting=True)
        board = Leaderboard.of(_current(trials.values(), now))
        if out is not None:
            board.save(out)
    if not board.answered:
        raise SettingError("none of these problems has an effect to find; name other programs.")
    return board


def _new_trials(
    problems: Sequence[tuple[str, int, str]],
    chosen: Sequence[Contestant],
    trials: Mapping[_Point, Trial],
    on_progress: OnProgress,
) -> Iterator[Trial]:
    """The trials that there are not yet, or that were of other work.

    Raises `SettingError` if the first of a user's own method fails.
    """
    step = Progress(0, len(problems) * len(chosen), "")
    for program, seed, ablation in problems:
        task, left_out = benchmark_problem(program, ablation, seed)
        for contestant in chosen:
            trial, wrong = left_out, None
            if task is not None:
                trial = replace(trial, method=contestant.name, method_id=contestant.identity)
            old = trials.get(trial.point)
            if old is None or old.ids != trial.ids:
                message = f"{contestant.name} on {program}, {ablation}, seed {seed}"
                on_progress(replace(step, message=message))
                if task is not None:
                    trial, wrong = tried(contestant, task, trial)
                is_first = trial.method_id not in {known.method_id for known in trials.values()}
                if wrong is not None and contestant.is_own and is_first:
                    where = f"{program} ({ablation} ablation)"
                    raise SettingError(
                        f"method {trial.method}, tried on {where}: {trial.why}"
                    ) from wrong
                yield trial
            step = replace(step, done=step.done + 1)
    on_progress(step)


def _named(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names in the order known, all by default. Raises `UnknownName`, `SettingError`."""
    chosen = known if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        check_choice(kind, name, known)
    if not chosen:
        raise SettingError(f"there is no {kind} to run on; name one, or leave it out for all.")
    return [name for name in known if name in chosen]


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    """How many seeds, from 0 on, or which. Raises `SettingError`."""
    chosen = range(seeds) if isinstance(seeds, int) and seeds <= _MOST_SEEDS else seeds
    if not isinstance(chosen, Sequence) or not chosen:
        raise SettingError(
            f"seeds is {quoted(seeds)}; pass how many (1 to {_MOST_SEEDS:,}), or which."
        )
    return list(dict.fromkeys(check_seed(seed) for seed in chosen))


# --- trials on disk


def _opened(folder: Path) -> Journal:
    """The journal of a folder, which may be new. Raises as `leaderboard` does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    if names and _JOURNAL not in names:
        raise OutputError(
            f"{folder} is not the folder of a leaderboard: it holds {names[0]}. Choose another."
        )
    return Journal(folder / _JOURNAL, _TRIALS)


def _last_trials(records: Iterable[Any], source: Path) -> dict[_Point, Trial]:
    """The last trial at every point of the grid, of a journal's records. Raises `FormatError`."""
    complaint = f"{source}: not a finished trial"
    trials = (Trial.from_json(record, source=complaint) for record in records)
    return {trial.point: trial for trial in trials}


def _warn_of_changed(trials: Iterable[Trial], now: Mapping[str, str], out: object) -> None:
    changed = {t.method for t in trials if t.method_id != now.get(t.method, t.method_id)}
    if changed:
        warnings.warn(
            f"{out} has trials of {', '.join(sorted(changed))} from before they changed, or of an "
            "older Edgewise; those of this call are run again.",
            stacklevel=3,
        )


def _current(trials: Collection[Trial], now: Mapping[str, str]) -> list[Trial]:
    """Without the trials of methods and problems that have changed since: the last version stays.

    `now` has the identity of methods that are known to be of one version.
    """
    method_ids = {trial.method: trial.method_id for trial in trials} | dict(now)
    of_methods = [trial for trial in trials if trial.method_id == method_ids[trial.method]]
    problem_ids = {trial.problem: trial.problem_id for trial in of_methods}
    return [trial for trial in of_methods if trial.problem_id == problem_ids[trial.problem]]


# --- the result


class _Saved(TypedDict):
    """What leaderboard.json holds; the rows follow from it."""

    columns: list[str]
    cells: list[list[Scalar]]


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(Record):
    """Methods against the structural truth of compiled programs: trials, and rows made of them.

    `edgewise.report(board, "leaderboard.html")` shows it.
    """

    trials: tuple[Trial, ...]

    title = "Methods against what the weights use"

    def __repr__(self) -> str:
        return f"Leaderboard({len(self.rows)} methods on {self.n_problems} problems)"

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

    def sentences(self) -> tuple[str, ...]:
        """Who stands first and how surely, on what, and who has no answer."""
        return leaderboard_sentences(self)

    def tables(self) -> tuple[Table, ...]:
        """The rows, where each method is good, what it costs, and where it has no answer."""
        return leaderboard_tables(self)

    # --- files

    def to_json(self) -> dict[str, Any]:
        """Rows and every trial; the trials as lists, whose columns are named once."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "edgewise": version("edgewise"),
            "standings": [row.to_json() for row in self.rows],
            "columns": [field.name for field in fields(Trial)],
            "cells": [list(trial.to_json().values()) for trial in self.trials],
        }

    @classmethod
    def from_json(cls, document: Any, *, source: str = "leaderboard") -> Leaderboard:
        """The leaderboard of `to_json`. Raises `FormatError`."""
        complaint = f"{source}: a broken cell"
        document = imported(document, source, kind=_FORMAT, version=_VERSION)
        saved = decoded(_Saved, document, complaint)
        columns, cells = saved["columns"], saved["cells"]
        if any(len(cell) != len(columns) for cell in cells):
            raise FormatError(f"{complaint}: it has not {len(columns)} columns.")
        rows = (dict(zip(columns, cell, strict=True)) for cell in cells)
        return cls.of(Trial.from_json(row, source=complaint) for row in rows)

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Leaderboard:
        """Of trials in any order: by program, ablation, seed and method."""

        def order(trial: Trial) -> tuple[Any, ...]:
            method = NAMES.index(trial.method) if trial.method in NAMES else len(NAMES)
            at = PROGRAMS.index(trial.program), list(ABLATIONS).index(trial.ablation)
            return *at, trial.seed, method, trial.method

        return cls(tuple(sorted(trials, key=order)))

    @classmethod
    def load(cls, folder: str | Path) -> Leaderboard:
        """What a folder holds, also while it is being written. Raises `FormatError`."""
        path = Path(folder) / _JOURNAL
        if not path.exists():
            raise FormatError(f"{folder} is not the folder of a leaderboard: it has no {_JOURNAL}.")
        trials = _last_trials(read_journal(path, _TRIALS).records, path)
        return cls.of(_current(trials.values(), {}))

    def save(self, folder: str | Path) -> list[Path]:
        """Write leaderboard.json, leaderboard.csv and cells.csv. Raises `OutputError`."""
        document = self.to_json()
        lines = ",\n".join(json.dumps(row) for row in document.pop("cells"))
        head = json.dumps(document, indent=1).removesuffix("\n}")
        texts = {  # a line per trial: a tenth of the lines
            "leaderboard.json": f'{head},\n "cells": [\n{lines}\n]}}\n',
            "leaderboard.csv": csv_text([row.flat() for row in self.rows]),
            "cells.csv": csv_text([trial.to_json() for trial in self.trials]),
        }
        return [write_text(text, Path(folder) / name) for name, text in texts.items()]
