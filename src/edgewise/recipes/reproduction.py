"""Work through the paper's grid, keep each experiment in a folder, and write page and data.

journal.jsonl    a line for each experiment that is done, only ever added to: a stopped run goes on
reproduce.html   the page; reproduce.json all of it, points.csv a line for each circuit
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from edgewise.arguments import check_choice
from edgewise.documents import check_output_file
from edgewise.errors import EdgewiseError, FormatError, ModelError, OutputError, SettingError
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.recipes.experiments import ExperimentRecord, perform, work_of
from edgewise.recipes.paper import METHODS, Experiment, experiments, paper, subjects
from edgewise.recipes.reproduced import DATA, POINTS, Reproduced
from edgewise.reporting import report
from edgewise.work.identity import Identity, difference
from edgewise.work.journal import Journal, JournalFormat

PAGE, JOURNAL = "reproduce.html", "journal.jsonl"
_EXPERIMENTS = JournalFormat("edgewise-reproduction", holds="a reproduction")
_Known = Mapping[Experiment, tuple[ExperimentRecord, Identity]]


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
    broken journal.
    """
    tasks = {subject.task: subject.is_program for subject in paper().subjects}
    language = [task for task, is_program in tasks.items() if not is_program]
    only, methods, models = list(only), list(methods), dict(models or {})
    for kind, names, known in (
        ("language task", models, language),
        ("method", methods, METHODS),
        ("task", only, tasks),
    ):
        for name in names:
            check_choice(f"{kind} of the paper", name, known)
    if minutes is not None and not minutes > 0:
        raise SettingError(f"minutes is {minutes}; it must be above 0.")
    scales = paper().scales
    small, large = scales["quick" if quick else "offline"], scales["quick" if quick else "paper"]
    # What is bundled, and the paper's own models, each with its own grid.
    studied = [(small, s) for s in subjects(small, hub=False)]
    studied += [
        (large, s) for s in subjects(large, hub=not offline, models=models) if not s.bundled
    ]
    grid = [
        experiment
        for scale, subject in studied
        if not only or subject.task in only
        for experiment in experiments(scale, subject)
        if not methods or experiment.method in (*methods, "random")
    ]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make {folder}: {reason.strerror}.") from reason
    for name in (PAGE, DATA, POINTS):
        check_output_file(Path(folder) / name)
    results = work_through(grid, Path(folder), minutes=minutes, on_progress=on_progress)
    results.write(folder)
    report(results, Path(folder) / PAGE)
    return results


def work_through(
    grid: Sequence[Experiment],
    folder: Path,
    *,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Reproduced:
    """Do the experiments that the folder lacks, and read the others. Raises as `reproduce` does."""
    start, done = monotonic(), 0
    records: list[ExperimentRecord] = []
    refused: dict[str, str] = {}
    left: list[str] = []
    with Journal(folder / JOURNAL, _EXPERIMENTS) as journal:
        kept = [ExperimentRecord.from_json(r, source=str(journal.path)) for r in journal.records]
        works = [record.get("work", {}) for record in journal.records]
        known = {r.cell: (r, work) for r, work in zip(kept, works, strict=True)}
        missing = {experiment for experiment in grid if experiment not in known}
        for number, experiment in enumerate(grid, start=1):
            if experiment.subject.name in refused:
                continue
            total = done + sum(e.effort for e in missing if e.subject.name not in refused)
            step = Progress(done, total, f"{number} of {len(grid)}: {experiment.title}")
            try:
                record = _same_work(experiment, known, folder)
                if record is None and minutes is not None and monotonic() - start > 60 * minutes:
                    left.append(experiment.title)
                    continue
                if record is None:
                    record = _performed(experiment, journal, step, on_progress)
                    done += experiment.effort
            except (FormatError, OutputError):
                raise
            except EdgewiseError as reason:
                if experiment.subject.bundled and not isinstance(reason, ModelError):
                    reason.add_note(f"This was {experiment.title}.")
                    raise
                # A model that cannot be had here, or that its task does not fit.
                refused[experiment.subject.name] = str(reason)
                continue
            records.append(record)
            missing.discard(experiment)
    on_progress(Progress(done, done, ""))
    return Reproduced(tuple(records), refused, tuple(left))


def _same_work(experiment: Experiment, known: _Known, folder: Path) -> ExperimentRecord | None:
    """The record of an experiment if there is one, and it is of this work.

    Raises `ModelError` where the model cannot be had that it would be of.
    """
    if experiment not in known:
        return None
    record, work = known[experiment]
    differs = difference(work, work_of(experiment))
    if not differs:
        return record
    words = f"{folder} has {experiment.title} of other work: {differs}. It is computed again."
    warnings.warn(words, stacklevel=4)
    return None


def _performed(
    experiment: Experiment, journal: Journal, outer: Progress, on_progress: OnProgress
) -> ExperimentRecord:
    """Do an experiment and keep it; its progress is a part of the whole."""

    def tell(step: Progress) -> None:
        share = min(1.0, step.done / step.total) if step.total else 0.0
        on_progress(replace(outer, done=outer.done + int(share * experiment.effort)))

    on_progress(outer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # masks left undecided, say: the results speak of them
        record = perform(experiment, tell)
        journal.add({**record.to_json(), "work": work_of(experiment)}, lasting=True)
    return record
