"""The leaderboard: every method on every problem, kept on disk cell by cell, and what came of it.

A method is handed the problem and nothing else: the truth stays here.
"""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgewise.blame import explained
from edgewise.documents import Scalar, decoded, imported, write_text
from edgewise.errors import EdgewiseError, FormatError, OutputError, SettingError
from edgewise.leaderboards.cell import AREAS, COLUMNS, Cell
from edgewise.leaderboards.entrants import NAMES, Entrant, Given, entrants
from edgewise.leaderboards.folder import BoardFolder, current, read_cells
from edgewise.leaderboards.judging import Areas, judged, tied
from edgewise.leaderboards.problems import (
    ABLATIONS,
    Posed,
    check_ablations,
    check_programs,
    check_seeds,
    posed,
)
from edgewise.leaderboards.standings import Standing, standings
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.model import PROGRAMS
from edgewise.work.identity import warn_if_untold

FORMAT, VERSION = "edgewise-leaderboard", 2


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Methods against the structural truth of compiled programs: cells, and standings of them.

    `edgewise.report(board, "leaderboard.html")` shows it.
    """

    cells: tuple[Cell, ...]

    def __repr__(self) -> str:
        return f"Leaderboard({len(self.standings)} methods on {self.n_problems} problems)"

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """A row for each method, the best first."""
        return standings(self.cells)

    @property
    def answered(self) -> tuple[Cell, ...]:
        """The cells of methods."""
        return tuple(cell for cell in self.cells if cell.method)

    @property
    def left_out(self) -> tuple[Cell, ...]:
        """Problems that are not there, or on which nothing has an effect."""
        return tuple(cell for cell in self.cells if not cell.method)

    @property
    def n_problems(self) -> int:
        """How many different problems methods have run on."""
        return len({cell.problem_id for cell in self.answered})

    def common(self) -> Leaderboard:
        """The same on those problems only that every method has run on."""
        each = [{c.problem for c in self.answered if c.method == m} for m in self.asked("method")]
        shared = set.intersection(*each) if each else set()
        return Leaderboard(tuple(cell for cell in self.answered if cell.problem in shared))

    def asked(self, name: str) -> list[Any]:
        """The values of a column among the cells of methods, such as "program" or "seed"."""
        return list(dict.fromkeys(getattr(cell, name) for cell in self.answered))

    def table(self) -> str:
        """The standings in Markdown; every number with its 95 % interval over programs."""
        ablations = self.asked("ablation")
        heads = ["rank", "method", "average precision", "pessimistic AUC", *ablations, "n"]
        lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for row in self.standings:
            shown = [row.areas[area].in_words(3) for area in AREAS[:2]]
            each = [row.by_ablation.get(name) for name in ablations]
            shown += ["–" if e is None else f"{e.mean:.3f} ({e.n_programs})" for e in each]
            n = f"{row.n_programs} programs, {row.n_problems} problems"
            cells = [row.rank_in_words, f"`{row.method}`", *shown, n]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Standings and every cell; the cells as rows, whose columns are named once."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "edgewise": version("edgewise"),
            "standings": [row.to_json() for row in self.standings],
            "columns": list(COLUMNS),
            "cells": [list(cell.to_json().values()) for cell in self.cells],
        }

    @classmethod
    def from_json(cls, document: Any, *, source: str = "leaderboard") -> Leaderboard:
        """The leaderboard of `to_json`. Raises `FormatError`."""
        document = imported(document, source, FORMAT, VERSION)
        complaint = f"{source}: a broken cell"
        found = decoded(_Document, document, complaint)
        if any(len(row) != len(found.columns) for row in found.cells):
            raise FormatError(f"{complaint}: it has not {len(found.columns)} columns.")
        rows = (dict(zip(found.columns, row, strict=True)) for row in found.cells)
        return cls(_in_order(Cell.from_json(row, complaint) for row in rows))

    def save(self, folder: str | Path) -> list[Path]:
        """Write leaderboard.json, leaderboard.csv and cells.csv. Raises `OutputError`."""
        place = Path(folder)
        document = self.to_json()
        rows = ",\n".join(json.dumps(row) for row in document.pop("cells"))
        head = json.dumps(document, indent=1).removesuffix("\n}")
        text = f'{head},\n "cells": [\n{rows}\n]}}\n'  # a line per cell: a tenth of the lines
        return [
            write_text(text, place / "leaderboard.json"),
            write_text(_csv([row.row() for row in self.standings]), place / "leaderboard.csv"),
            write_text(_csv([cell.to_json() for cell in self.cells]), place / "cells.csv"),
        ]

    @classmethod
    def load(cls, folder: str | Path) -> Leaderboard:
        """What a folder holds, also while it is being written. Raises `FormatError`."""
        return cls(_in_order(current(read_cells(Path(folder)))))


@dataclass(frozen=True)
class _Document:
    """What leaderboard.json holds; standings follow from the cells."""

    columns: list[str]
    cells: list[list[Scalar]]


def leaderboard(
    methods: Given | Iterable[Given] | Mapping[str, Given] | None = None,
    *,
    programs: Sequence[str] | None = None,
    ablations: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Leaderboard:
    """Methods on every bundled program, ablation and seed, judged against the structural truth.

    A method is one of ours by name, or one of yours: a function that takes a `Problem` and returns
    `EdgeScores` (larger matters more), a `Circuit`, or a list of them, as it is, by the name of an
    entry point (group "edgewise.methods") or as "module:function"; a mapping gives names. Baselines
    `random` and `magnitude` always take part. Seeds draw other prompts, and are the seed of methods
    that have one. By default all methods that need no training, all programs and ablations.

    Your methods are asked about one problem first; what raises or returns something else is refused
    before anything else runs. Later such a cell counts as an order in which all edges tie.

    With `out`, a finished cell is in that folder for good: the same call goes on where it stopped,
    a call with other values adds, and what is returned is all the folder holds. Cells of a method
    whose source has changed are computed again.

    Raises `UnknownName`, `SettingError`; `OutputError` if the folder cannot be written, is in use
    or holds something else, `FormatError` if its journal is broken.

    >>> board = leaderboard(["exact"], programs=["tracr-reverse"], ablations=["zero"], seeds=1)
    >>> [row.method for row in board.standings]
    ['exact', 'magnitude', 'random']
    """
    chosen = entrants(methods)
    problems = [
        (program, ablation, seed)
        for program in check_programs(programs)
        for seed in check_seeds(seeds)
        for ablation in check_ablations(ablations)
    ]
    if out is not None:
        warn_if_untold({f"method {e.name}": e.identity for e in chosen})
    now = {entrant.name: entrant.identity for entrant in chosen}
    with nullcontext() if out is None else BoardFolder(Path(out)) as folder:
        known: dict[Any, Cell] = {} if folder is None else dict(folder.cells)
        _warn_of_changed(known.values(), now, out)
        fresh = _tried(problems, chosen, known)
        total, done = len(problems) * len(chosen), 0
        for program, ablation, seed in problems:
            found = posed(program, ablation, seed)
            for cell in _cells(found, chosen, {**known, **fresh}, done, total, on_progress):
                if folder is not None and known.get(cell.place) != cell:
                    folder.add(cell)
                known[cell.place] = cell
            done += len(chosen)
        on_progress(Progress(total, total, ""))
        board = Leaderboard(_in_order(current(known.values(), now)))
        if out is not None:
            board.save(out)
    return board


def _warn_of_changed(cells: Iterable[Cell], now: Mapping[str, str], out: object) -> None:
    changed = {c.method for c in cells if c.method in now and c.method_id != now[c.method]}
    if changed:
        warnings.warn(
            f"{out} has cells of {', '.join(sorted(changed))} from before they changed, or of an "
            "older Edgewise; those asked for are computed again.",
            stacklevel=3,
        )


def _tried(
    problems: Sequence[tuple[str, str, int]],
    chosen: Sequence[Entrant],
    known: Mapping[Any, Cell],
) -> dict[Any, Cell]:
    """Ask users' methods about the first problem there is. Raises `SettingError` if one fails."""
    own = [entrant for entrant in chosen if entrant.own]
    if not own:
        return {}
    first = next((p for p in (posed(*each) for each in problems) if isinstance(p, Posed)), None)
    if first is None:
        raise SettingError("none of these problems has an effect to find; name other programs.")
    cells = {}
    for entrant in own:
        place = (first.program, first.ablation, first.seed, entrant.name)
        if _is_of(known.get(place), entrant, first):
            continue
        cell, reason = _asked(entrant, first)
        if reason is not None:
            raise SettingError(
                f"method {entrant.name}, asked about {first.program} ({first.ablation} "
                f"ablation): {cell.why}"
            ) from reason
        cells[place] = cell
    return cells


def _cells(
    found: Posed | Cell,
    chosen: Sequence[Entrant],
    known: Mapping[Any, Cell],
    done: int,
    total: int,
    on_progress: OnProgress,
) -> Iterable[Cell]:
    """The cells of one problem, known ones as they are."""
    if isinstance(found, Cell):
        yield found
        return
    for i, entrant in enumerate(chosen):
        old = known.get((found.program, found.ablation, found.seed, entrant.name))
        if old is not None and _is_of(old, entrant, found):
            yield old
            continue
        about = f"{entrant.name} on {found.program}, {found.ablation}, seed {found.seed}"
        on_progress(Progress(done + i, total, about))
        yield _asked(entrant, found)[0]


def _is_of(cell: Cell | None, entrant: Entrant, found: Posed) -> bool:
    if cell is None:
        return False
    return (cell.method_id, cell.problem_id) == (entrant.identity, found.problem_id)


def _asked(entrant: Entrant, found: Posed) -> tuple[Cell, Exception | None]:
    """The cell of a method's answer, and what was wrong with it."""
    problem, truth = found.with_fresh_work(), found.truth
    before, start = problem.passes(), time.perf_counter()
    wrong: Exception | None = None
    removals, areas = 0, tied(truth)
    try:
        answer = entrant.ask(problem, found.seed)
        removals = answer.removals
    except OutputError:
        raise
    except Exception as reason:
        wrong = reason
    seconds = time.perf_counter() - start
    forward, backward = (b - a for a, b in zip(before, problem.passes(), strict=True))
    if wrong is None:
        try:
            areas = judged(answer.value, truth, by=entrant.by)
        except EdgewiseError as reason:
            wrong = SettingError(str(reason))
            wrong.__cause__ = reason
    refused = isinstance(wrong, EdgewiseError) and not entrant.own
    cell = Cell(
        program=found.program,
        ablation=found.ablation,
        seed=found.seed,
        status="done" if wrong is None else "refused" if refused else "failed",
        method=entrant.name,
        how=entrant.how,
        why="" if wrong is None else explained(wrong),
        problem_id=found.problem_id,
        method_id=entrant.identity,
        n_prompts=len(problem.pairs),
        n_edges=truth.graph.n_edges,
        n_true=truth.n_edges,
        forward_passes=forward,
        backward_passes=backward,
        removals=removals,
        seconds=seconds,
    )
    return _with_areas(cell, areas), wrong


def _with_areas(cell: Cell, areas: Areas) -> Cell:
    return replace(cell, n_circuits=areas.n_circuits, **{n: getattr(areas, n) for n in AREAS})


def _in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """By program, ablation, seed and method, whatever the order they were computed in."""

    def place(cell: Cell) -> tuple[Any, ...]:
        known = NAMES.index(cell.method) if cell.method in NAMES else len(NAMES)
        where = PROGRAMS.index(cell.program), list(ABLATIONS).index(cell.ablation)
        return (*where, cell.seed, known, cell.method)

    return tuple(sorted(cells, key=place))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
