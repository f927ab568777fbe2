"""A sweep: every point of a grid, kept on disk one by one, and resumed after a stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from edgewise.circuit import Circuit
from edgewise.errors import OutputError, SettingError, quoted, unknown_name
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.model import Model, load_model
from edgewise.sweeps import overview
from edgewise.sweeps.folder import PointResult, SweepFolder, read_rows
from edgewise.sweeps.points import Computer, Job, Load, Planned, failure, grid, jobs_of, plan
from edgewise.sweeps.table import RESERVED, SETTING, Row, in_order
from edgewise.tables import Chart, Table, count
from edgewise.tasks import Task, default_model, load_task, task_spec
from edgewise.work.executors import in_processes, processes_that_fit
from edgewise.work.grid import Pace, duration

_WORTH_SECONDS = 30.0  # of work left, before starting processes, each of which loads torch, pays


@dataclass(frozen=True, eq=False)
class Sweep:
    """The points of a sweep's folder, as rows of plain values, sorted by what was asked.

    `keys` are the points of this call; the folder may hold others of earlier calls. Rows are
    mappings, as `pandas.DataFrame(sweep.rows)` takes them; `docs/sweeps.md` lists the columns.
    """

    folder: Path
    rows: tuple[Row, ...]
    keys: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Sweep({len(self.done)} points, {len(self.failed)} failed, in {self.folder})"

    @property
    def done(self) -> tuple[Row, ...]:
        """The rows of circuits that were found."""
        return tuple(row for row in self.rows if row["status"] == "done")

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of points that failed; their `error` says why."""
        return tuple(row for row in self.rows if row["status"] == "failed")

    @property
    def title(self) -> str:
        return f"A sweep of {count(len(self.rows), 'point')}"

    def sentences(self) -> tuple[str, ...]:
        """How many points there are, on what they were evaluated, and why some failed."""
        return overview.sentences(self.rows)

    def tables(self) -> tuple[Table, ...]:
        """The circuits that were found."""
        return (overview.circuits_table(self.done),) if self.done else ()

    def charts(self) -> tuple[Chart, ...]:
        """The effect that circuits of each size keep, a chart for each task."""
        return overview.faithfulness_charts(self.done)

    def circuit(self, row: Row) -> Circuit:
        """The circuit of a row. Raises `FormatError`, or `SettingError` if the point failed."""
        if row.get("status") != "done":
            raise SettingError(f"point {row.get('key')} has no circuit: {row.get('error')}")
        return Circuit.load(self.folder / row["circuit_file"])

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """Read a sweep's folder, also while it is being written. Raises `FormatError`."""
        rows = in_order(read_rows(Path(folder)))
        return cls(Path(folder), tuple(rows), tuple(row["key"] for row in rows))


def named_task(task: str, model: str | None = None, **options: Any) -> Task:
    """A task by name, as `load_task` gives it; models that follow each other are loaded once."""
    return load_task(task, _model(model or default_model(task_spec(task))), **options)


@lru_cache(maxsize=1)
def _model(source: str) -> Model:
    return load_model(source)


def sweep_grid(
    methods: Mapping[str, Mapping[str, Any]],
    *,
    over: Mapping[str, Any],
    out: str | Path,
    load: Load = named_task,
    workers: int | None = 1,
    apart: bool = False,
    retry_failed: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Sweep:
    """Every method, in every combination of its settings, on every problem; kept in a folder.

    `methods` has the settings of each method, `over` the keywords of `load` (by default those of
    `load_task`: task, model, metric, ablation, seed, n, template, corruption, data). Lists, ranges
    and arrays are several values. A circuit is found on the discovery prompts and evaluated on
    held-out ones where the task has them; `evaluation_split` says which.

    A finished point is in `out` for good: whatever stops the call, the same call resumes, and a
    call with other values adds to the folder. Points that share work (ACDC's thresholds, the sizes
    of an attribution's circuits) are found, kept, and after a kill found again, together; `apart`
    finds each on its own, which takes longer, but loses at most the last decision. A point that
    fails is kept with its error, and tried again with `retry_failed`.

    `workers` processes share the points; None chooses, from the cores, the free memory and what the
    first points needed. With several, `load` is a function at the top of a module, and a script
    calls this under `if __name__ == "__main__":`.

    Raises `SettingError`, `UnknownName` before anything runs; `OutputError` if the folder cannot be
    written, is in use or holds something else, `FormatError` if what it holds is broken.

    >>> import tempfile
    >>> methods = {"acdc": {"threshold": [0.01, 0.1]}, "eap-ig": {"edges": 15}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = sweep_grid(methods, over={"task": "tracr-reverse"}, out=folder)
    >>> [(row["method"], row["n_edges"], row["published_edge_tpr"] > 0.9) for row in found.rows]
    [('acdc', 15, True), ('acdc', 15, True), ('eap-ig', 15, False)]
    """
    _check(over, workers)
    points = grid(over, methods)
    with SweepFolder(Path(out)) as folder:
        planned = plan(points, load, on_progress)
        to_do = (None, "failed") if retry_failed else (None,)
        waiting = [item for item in planned if folder.status(item.key) in to_do]
        jobs, done = jobs_of(waiting, apart=apart), len(planned) - len(waiting)
        _warn_of_changes(waiting, folder)
        try:
            with closing(_computed(jobs, load, folder, workers, done, on_progress)) as computed:
                for results in computed:
                    folder.add(results)
        except OutputError:
            raise  # the disk is full: tables would not fit either, and the old ones stay
        except BaseException:
            folder.write_tables()  # of what there is
            raise
        folder.write_tables()
        rows = tuple(in_order(folder.rows))
    return Sweep(Path(out), rows, tuple(item.key for item in planned))


def _warn_of_changes(waiting: Sequence[Planned], folder: SweepFolder) -> None:
    """Tell of points that were computed before in the same words, but are other work now."""
    columns = {name for item in waiting for name in item.row}
    names = sorted(name for name in columns - {"key"} if "sha256" not in name)
    before = {tuple(map(row.get, names)) for row in folder.rows if row["status"] == "done"}
    changed = sum(tuple(map(item.row.get, names)) in before for item in waiting)
    if changed:
        warnings.warn(
            f"{folder.path}: of {changed} points, the folder has others whose weights, prompts or "
            "functions were different, or an older Edgewise's; they stay beside the new ones.",
            stacklevel=3,
        )


def _check(over: Mapping[str, Any], workers: int | None) -> None:
    if not isinstance(over, Mapping) or not over:
        raise SettingError("say what to work on: over={'task': ['ioi', 'greater-than']}.")
    for name in over:
        if name in RESERVED - {"task", "model", "metric", "ablation", "processing", "dtype"}:
            raise SettingError(
                f"{quoted(name)} is a column of the results; call the option otherwise."
            )
        if name.startswith(SETTING):
            raise unknown_name("option of a problem", name, ())
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise SettingError(
            f"workers is {quoted(workers)}; it must be a whole number of at least 1."
        )


def _computed(
    jobs: Sequence[Job],
    load: Load,
    folder: SweepFolder,
    workers: int | None,
    n_done: int,
    on_progress: OnProgress,
) -> Generator[list[PointResult], None, None]:
    """The results of every job, here and then in processes; tells how far it is, and how long."""
    total, pace, peak = n_done + sum(len(job.points) for job in jobs), Pace(), 0
    computer = Computer(load, folder.unfinished)
    for i, job in enumerate(jobs):
        waiting = jobs[i:]
        n = _n_processes(workers, len(waiting), pace.seconds_left(_kinds(waiting)), peak)
        if n > 1:
            yield from _in_processes(waiting, load, folder, n, pace, n_done, on_progress)
            return
        left = _time_left(pace, waiting)
        on_progress(Progress(n_done, total, f"{left}{job.label}"))
        start = time.monotonic()
        results = computer.results(job, _inside(job, n_done, total, left, on_progress))
        pace.add(job.kind, len(job.points), time.monotonic() - start)
        peak = max([peak, *map(_memory, results)])
        n_done += len(job.points)
        yield results
    on_progress(Progress(total, total, ""))


def _in_processes(
    jobs: Sequence[Job],
    load: Load,
    folder: SweepFolder,
    n: int,
    pace: Pace,
    n_done: int,
    on_progress: OnProgress,
) -> Generator[list[PointResult], None, None]:
    total, waiting = n_done + sum(len(job.points) for job in jobs), list(jobs)
    on_progress(Progress(n_done, total, f"{_time_left(pace, waiting, n)}{n} processes"))
    start, spent = time.monotonic(), 0.0
    make = partial(_computing, load, folder.unfinished)
    for job, results in in_processes(jobs, make, n=n, died=_died):
        waiting.remove(job)
        elapsed = time.monotonic() - start
        pace.add(job.kind, len(job.points), n * (elapsed - spent))  # n were at work meanwhile
        spent, n_done = elapsed, n_done + len(job.points)
        yield results
        on_progress(Progress(n_done, total, f"{_time_left(pace, waiting, n)}{n} processes"))


def _computing(load: Load, unfinished: Path) -> Callable[[Job], list[PointResult]]:
    return Computer(load, unfinished).results


def _died(job: Job, how: str) -> list[PointResult]:
    why = (
        f"the process that computed it ended {how}. If memory ran out, ask again for failed points "
        "with fewer workers, or with a batch size."
    )
    return [failure(point, "WorkerDied", why) for point in job.points]


def _kinds(jobs: Sequence[Job]) -> list[tuple[Hashable, int]]:
    return [(job.kind, len(job.points)) for job in jobs]


def _time_left(pace: Pace, jobs: Sequence[Job], n_processes: int = 1) -> str:
    """`about 3 min left; `, or nothing while that is not known."""
    seconds = pace.seconds_left(_kinds(jobs), n_processes)
    return "" if seconds is None else f"about {duration(seconds)} left; "


def _inside(job: Job, n_done: int, total: int, left: str, on_progress: OnProgress) -> OnProgress:
    """Progress inside a job, told as progress of the sweep."""

    def tell(step: Progress) -> None:
        inside = f"{step.done:,}/{step.total:,} " if step.total else ""
        on_progress(Progress(n_done, total, f"{left}{job.label}: {inside}"))

    return tell


def _memory(result: PointResult) -> int:
    """What its process held at most; more than fits for a device, which processes would share."""
    if str(result.row.get("device", "cpu")) != "cpu":
        return 2**62
    return int(result.row.get("peak_memory_bytes") or 0)


def _n_processes(workers: int | None, n_jobs: int, left: float | None, peak: int) -> int:
    """How many processes to go on with. Asked for none: not before one has shown what it needs."""
    if workers is not None:
        return min(workers, n_jobs)
    if left is None or left < _WORTH_SECONDS or not peak:
        return 1
    return processes_that_fit(peak, n_jobs)
