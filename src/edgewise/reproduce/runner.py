"""Work through the grid, keep each cell in a folder, and write the page and the data.

A cell's file is written whole when the cell is done, under a name made of all that decides what is
in it; so a stopped run goes on where it was, and another grid or version never reads the wrong one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from edgewise.errors import (
    EdgewiseError,
    FormatError,
    ModelError,
    OutputError,
    SettingError,
    unknown_name,
)
from edgewise.identity import difference
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.reproduce.compute import FORMAT, FORMAT_VERSION, compute, quietly, work_of
from edgewise.reproduce.grid import LANGUAGE, SCALES, Cell, Scale, Subject, cells, subjects
from edgewise.reproduce.page import page
from edgewise.reproduce.published import METHODS
from edgewise.reproduce.results import Results
from edgewise.storage import check_output_file, imported, read_json, write_json, write_text

PAGE, DATA, POINTS, CELLS = "reproduce.html", "reproduce.json", "points.csv", "cells"


@dataclass(frozen=True)
class Reproduced:
    """What was computed, and the files that hold it."""

    results: Results
    page: Path
    data: Path
    points: Path


def reproduce(
    folder: str | Path,
    *,
    offline: bool = False,
    only: Iterable[str] = (),
    methods: Iterable[str] = (),
    models: Mapping[str, str] | None = None,
    quick: bool = False,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Reproduced:
    """Compute what `folder` does not hold yet, then write its page, JSON and CSV.

    `offline` leaves out the paper's language models and takes fewer thresholds, prompts and
    training steps; `quick` still fewer, to see that all works. `only` names tasks, `methods` some
    of acdc, hisp and sp, `models` where the paper's model of a language task is, such as
    {"ioi": "folder/of/gpt2"}; it is taken offline too. After `minutes` no further cell is begun;
    the page says what is missing. A task whose model cannot be had is left out, with the reason.
    Raises `UnknownName`, `SettingError`, `OutputError` before anything runs, `FormatError` for a
    broken cell.
    """
    scale = SCALES["quick" if quick else "offline"]
    places = dict(models or {})
    grids = _subjects(scale, SCALES["quick" if quick else "paper"], not offline, places)
    every = _asked(grids, only=list(only), methods=list(methods))
    if minutes is not None and not minutes > 0:
        raise SettingError(f"minutes is {minutes}; it must be above 0.")
    folder = _made(Path(folder))
    results = work_through(every, folder / CELLS, minutes, on_progress)
    return written(results, folder)


def _subjects(
    small: Scale, large: Scale, hub: bool, models: Mapping[str, str]
) -> list[tuple[Scale, list[Subject]]]:
    """What is bundled, and the paper's own models, each with its own grid. `UnknownName`."""
    for task in models:
        if task not in LANGUAGE:
            raise unknown_name("language task of the paper", task, LANGUAGE)
    own = [s for s in subjects(large, hub=hub, models=models) if not s.bundled]
    return [(small, subjects(small, hub=False)), (large, own)]


def _asked(
    grids: Sequence[tuple[Scale, list[Subject]]], *, only: Sequence[str], methods: Sequence[str]
) -> list[Cell]:
    """The cells to compute. Raises `UnknownName`."""
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method of the paper", method, METHODS)
    every = [cell for scale, some in grids for cell in cells(scale, some)]
    known = dict.fromkeys(cell.subject.task for cell in every)
    for name in only:
        if name not in known:
            raise unknown_name("task of the paper", name, known)
    return [
        cell
        for cell in every
        if (not only or cell.subject.task in only)
        and (not methods or cell.method in (*methods, "random"))
    ]


def _made(folder: Path) -> Path:
    try:
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make {folder}: {reason.strerror}.") from reason
    for name in (PAGE, DATA, POINTS):
        check_output_file(folder / name)
    check_output_file(folder / CELLS / "cell.json")
    return folder


def work_through(
    every: Sequence[Cell],
    folder: Path,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Results:
    """Compute the cells that the folder lacks, and read the others. Raises as `reproduce` does."""
    start = monotonic()
    documents: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    left: list[Cell] = []
    missing = [cell for cell in every if not _path(folder, cell).exists()]
    total, done = sum(cell.work for cell in missing), 0
    for place, cell in enumerate(every, start=1):
        path = _path(folder, cell)
        if cell.subject.name in refused:
            continue
        try:
            known = _known(path, cell)
        except ModelError as reason:
            refused[cell.subject.name] = str(reason)
            continue
        if known is not None:
            documents.append(known)
            continue
        if minutes is not None and monotonic() - start > 60 * minutes:
            left.append(cell)
            continue
        title = f"{place} of {len(every)}: {cell.title}"
        on_progress(Progress(done, total, title))
        inner = _within(on_progress, done, total, cell.work, title)
        try:
            document = quietly(lambda cell=cell, inner=inner: compute(cell, inner))  # type: ignore[misc]
        except EdgewiseError as reason:
            if cell.subject.bundled and not isinstance(reason, ModelError):
                reason.add_note(f"This was {cell.title}.")
                raise
            # A model that cannot be had here, or that its task does not fit.
            refused[cell.subject.name] = str(reason)
            ahead = (c for c in every[place:] if not _path(folder, c).exists())
            total = done + sum(c.work for c in ahead if c.subject.name not in refused)
            continue
        # Read back, so that this run and one that goes on make the same page.
        documents.append(read_cell(write_json(document, path), cell.key))
        done += cell.work
    on_progress(Progress(total, total, ""))
    return Results(documents, refused, [cell.title for cell in left])


def _known(path: Path, cell: Cell) -> dict[str, Any] | None:
    """A cell's document if the folder has it, and it is of this work.

    Raises `FormatError`, and `ModelError` where the model cannot be had that it would be of.
    """
    if not path.exists():
        return None
    document = read_cell(path, cell.key)
    differs = difference(document.get("work"), work_of(cell))
    if not differs:
        return document
    warnings.warn(f"{path} is of other work: {differs}. It is computed again.", stacklevel=2)
    return None


def _path(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.key}.json"


def read_cell(path: Path, key: str) -> dict[str, Any]:
    """A cell's document. Raises `FormatError`."""
    document = read_json(path, "cell")
    document = imported(document, str(path), FORMAT, FORMAT_VERSION)
    if document.get("key") != key:
        raise FormatError(f"{path}: holds another cell, {document.get('key')!r}. Remove it.")
    return document


def _within(on_progress: OnProgress, done: int, total: int, work: int, title: str) -> OnProgress:
    """Progress inside a cell, as a part of the whole."""

    def tell(step: Progress) -> None:
        share = min(1.0, step.done / step.total) if step.total else 0.0
        on_progress(Progress(done + int(share * work), total, title))

    return tell


def written(results: Results, folder: Path) -> Reproduced:
    """The page, the JSON and the CSV of results. Raises `OutputError`."""
    data = write_text(json.dumps(results.to_json(), separators=(",", ":")) + "\n", folder / DATA)
    points = write_text(results.to_csv(), folder / POINTS)
    return Reproduced(results, write_text(page(results), folder / PAGE), data, points)
