"""Work through the paper's grid, keep each experiment in a folder, and write page and data.

An experiment's file is written whole when it is done, under a name made of all that decides what is
in it; so a stopped run goes on where it was, and another grid or version never reads the wrong one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from edgewise.documents import check_output_file, imported, read_json, write_json
from edgewise.errors import (
    EdgewiseError,
    FormatError,
    ModelError,
    OutputError,
    SettingError,
    unknown_name,
)
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.recipes.experiments import ExperimentRecord, perform, work_of
from edgewise.recipes.paper import (
    METHODS,
    Experiment,
    Scale,
    experiments,
    language_tasks,
    paper,
    subjects,
)
from edgewise.recipes.reproduced import DATA, POINTS, Reproduced
from edgewise.reporting import report
from edgewise.work.identity import difference, hashed

FORMAT, VERSION = "edgewise-reproduced-cell", 2
PAGE, _CELLS = "reproduce.html", "cells"


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
    {"ioi": "folder/of/gpt2"}; it is taken offline too. After `minutes` no further experiment is
    begun, and the results say which are missing. A task whose model cannot be had is left out, with
    the reason.

    Raises `UnknownName`, `SettingError`, `OutputError` before anything runs, `FormatError` for a
    broken file of an experiment.
    """
    scales = paper().scales
    small, large = scales["quick" if quick else "offline"], scales["quick" if quick else "paper"]
    grid = list(_grid(small, large, hub=not offline, models=dict(models or {})))
    chosen = _chosen(grid, list(only), list(methods))
    if minutes is not None and not minutes > 0:
        raise SettingError(f"minutes is {minutes}; it must be above 0.")
    _prepare(Path(folder))
    results = work_through(chosen, Path(folder), minutes=minutes, on_progress=on_progress)
    results.write(folder)
    report(results, Path(folder) / PAGE)
    return results


def _grid(
    small: Scale, large: Scale, *, hub: bool, models: Mapping[str, str]
) -> Iterator[Experiment]:
    """What is bundled, and the paper's own models, each with its own grid. Raises `UnknownName`."""
    for task in models:
        if task not in language_tasks():
            raise unknown_name("language task of the paper", task, language_tasks())
    for subject in subjects(small, hub=False):
        yield from experiments(small, subject)
    for subject in subjects(large, hub=hub, models=models):
        if not subject.bundled:
            yield from experiments(large, subject)


def _chosen(
    grid: Sequence[Experiment], only: Sequence[str], methods: Sequence[str]
) -> list[Experiment]:
    """The experiments to do. Raises `UnknownName`."""
    tasks = dict.fromkeys(experiment.subject.task for experiment in grid)
    for kind, names, known in (("method", methods, METHODS), ("task", only, tasks)):
        for name in names:
            if name not in known:
                raise unknown_name(f"{kind} of the paper", name, known)
    return [
        experiment
        for experiment in grid
        if (not only or experiment.subject.task in only)
        and (not methods or experiment.method in (*methods, "random"))
    ]


def _prepare(folder: Path) -> None:
    try:
        (folder / _CELLS).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make {folder}: {reason.strerror}.") from reason
    for name in (PAGE, DATA, POINTS, f"{_CELLS}/cell.json"):
        check_output_file(folder / name)


def work_through(
    grid: Sequence[Experiment],
    folder: Path,
    *,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Reproduced:
    """Do the experiments that the folder lacks, and read the others. Raises as `reproduce` does."""
    start = monotonic()
    records: list[ExperimentRecord] = []
    refused: dict[str, str] = {}
    left: list[str] = []
    done, total = 0, sum(e.effort for e in grid if not _path(folder, e).exists())
    for place, experiment in enumerate(grid, start=1):
        subject, title = experiment.subject, f"{place} of {len(grid)}: {experiment.title}"
        if subject.name in refused:
            continue
        try:
            record = _known(folder, experiment)
            is_known = record is not None
            if record is None:
                if minutes is not None and monotonic() - start > 60 * minutes:
                    left.append(experiment.title)
                    continue
                on_progress(Progress(done, total, title))
                inner = _within(on_progress, Progress(done, total, title), experiment.effort)
                record = _kept(folder, experiment, inner)
        except EdgewiseError as reason:
            if isinstance(reason, FormatError | OutputError):
                raise
            if subject.bundled and not isinstance(reason, ModelError):
                reason.add_note(f"This was {experiment.title}.")
                raise
            refused[subject.name] = str(reason)  # a model that cannot be had, or does not fit
            ahead = (e for e in grid[place:] if not _path(folder, e).exists())
            total = done + sum(e.effort for e in ahead if e.subject.name not in refused)
            continue
        records.append(record)
        done += 0 if is_known else experiment.effort
    on_progress(Progress(total, total, ""))
    return Reproduced(tuple(records), refused, tuple(left))


def _known(folder: Path, experiment: Experiment) -> ExperimentRecord | None:
    """The record of an experiment if the folder has it, and it is of this work.

    Raises `FormatError`, and `ModelError` where the model cannot be had that it would be of.
    """
    path = _path(folder, experiment)
    if not path.exists():
        return None
    document = imported(read_json(path, "cell"), str(path), FORMAT, VERSION)
    if document.get("key") != _key(experiment):
        raise FormatError(f"{path}: holds another cell, {document.get('key')!r}. Remove it.")
    differs = difference(document.get("work"), work_of(experiment))
    if not differs:
        return ExperimentRecord.from_json(document, source=str(path))
    warnings.warn(f"{path} is of other work: {differs}. It is computed again.", stacklevel=4)
    return None


def _kept(folder: Path, experiment: Experiment, on_progress: OnProgress) -> ExperimentRecord:
    """Do an experiment and keep it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # masks left undecided, say: the results speak of them
        record = perform(experiment, on_progress)
        work = work_of(experiment)
    about = {"format": FORMAT, "version": VERSION, "key": _key(experiment), "work": work}
    write_json({**about, **record.to_json()}, _path(folder, experiment))
    return record


def _key(experiment: Experiment) -> str:
    return hashed({**asdict(experiment), "format": VERSION})


def _path(folder: Path, experiment: Experiment) -> Path:
    return folder / _CELLS / f"{_key(experiment)}.json"


def _within(on_progress: OnProgress, outer: Progress, effort: int) -> OnProgress:
    """Progress inside an experiment, as a part of the whole."""

    def tell(step: Progress) -> None:
        share = min(1.0, step.done / step.total) if step.total else 0.0
        on_progress(Progress(outer.done + int(share * effort), outer.total, outer.message))

    return tell
