"""Sweeps: one method or many, over all combinations of what varies.

`sweep` varies settings on a problem in memory, `discover_each` the problem, and `sweep_grid` both,
with the methods; it keeps every point in a folder. What several points share is done once.
"""

from __future__ import annotations

import re
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgewise.arguments import whole
from edgewise.errors import EdgewiseError, OutputError, SettingError, quoted, unknown_name
from edgewise.methods import AnyMethod, Method, OnProgress, Progress, ignore_progress, method_of
from edgewise.points import (
    Computer,
    Job,
    Load,
    Point,
    combinations,
    failure,
    grid,
    jobs_of,
    named_task,
    plan,
    unshared,
    values_of,
)
from edgewise.problem import Problem, check_is_problem
from edgewise.run import Run, check_output_folder, discover, discover_together
from edgewise.sweep_folder import (
    RESERVED,
    SETTING,
    PointResult,
    SweepFolder,
    in_order,
)
from edgewise.sweep_result import Sweep
from edgewise.tables import seconds
from edgewise.work.executors import grouped, in_processes, processes_that_fit
from edgewise.work.identity import difference, warn_if_untold
from edgewise.work.store import remove_unfinished

_WORTH_SECONDS = 30.0  # of work left, before starting processes, each of which loads torch, pays


# --- settings of a method on one problem


def sweep(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> list[Run]:
    """A run for each combination of the settings' values; a list, range or array is several values.

    Any method and any settings; the runs come in the order of the values, and each is what
    `discover` gives with its own. What can be shared is done once: ACDC's search over thresholds,
    the scores from which several circuits are selected (`edges`, `share`, `above`, `nodes`,
    `select`, `by`), HISP's gradients (`activations`, `activation_share`). Work is then counted for
    all of them together: each run's `cost` says what all that share it took. Training shares
    nothing, so a run for another `regularisation` or `seed` has a cost of its own. Raises as
    `discover` does; all values are checked before anything runs.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> [run.circuit.n_edges for run in sweep(problem, "eap-ig", edges=[5, 10, 20])]
    [5, 10, 20]
    """
    check_is_problem(problem, "sweep")
    chosen = method_of(method)
    varied = [name for name, value in settings.items() if values_of(value) is not None]
    resolved = [chosen.resolve(choice) for choice in combinations(settings, chosen.name)]
    runs: dict[Any, Run] = {}
    for choices in grouped(dict.fromkeys(resolved), partial(unshared, chosen)):
        apart = [f"{n} {getattr(choices[0], n)}" for n in varied if not chosen.shares_work(n)]
        told = _prefixed(on_progress, f"{', '.join(apart)}: " if apart else "")
        together = discover_together(
            problem, chosen, choices, given=list(settings), on_progress=told
        )
        runs |= zip(choices, together, strict=True)
    return [runs[choice] for choice in resolved]


def _prefixed(on_progress: OnProgress, prefix: str) -> OnProgress:
    """Progress whose messages begin with what it is about."""

    def tell(step: Progress) -> None:
        on_progress(replace(step, message=f"{prefix}{step.message}"))

    return tell


# --- one method on several problems


def discover_each(
    problems: Mapping[str, Problem],
    method: AnyMethod = "acdc",
    *,
    out: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> dict[str, Run]:
    """A run for each problem, by its name, all with one method and its settings.

    With `out`, each run is saved into a folder of its name there, and work in progress is kept
    beside it: if the call is stopped, the same call resumes, and takes runs that are
    finished as they are. Settings, and all that `out` holds, are checked before anything runs.
    Raises as `discover` does.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> each = {kind: problem.with_(ablation=kind) for kind in ("zero", "corrupted")}
    >>> {name: run.circuit.n_edges for name, run in discover_each(each, threshold=0.01).items()}
    {'zero': 15, 'corrupted': 3}
    """
    if not isinstance(problems, Mapping) or not problems:
        raise SettingError("discover_each takes problems by name: {'zero': problem, …}.")
    for problem in problems.values():
        check_is_problem(problem, "discover_each")
    chosen = method_of(method)
    resolved = chosen.resolve(settings)
    folders = {} if out is None else run_folders(problems, Path(out))
    finished = {
        name: _finished_run(folder, problems[name], chosen, resolved)
        for name, folder in folders.items()
        if (folder / "run.json").exists()
    }
    runs = {}
    for number, (name, problem) in enumerate(problems.items(), start=1):
        if name in finished:
            runs[name] = finished[name]
            continue
        folder = folders.get(name)
        journal = folder and folder.with_name(f"{folder.name}.unfinished")
        told = _prefixed(on_progress, f"({number} of {len(problems)}, {name}) ")
        try:
            # A problem of its own: the activations it keeps end with it.
            runs[name] = discover(
                problem.with_(), method, on_progress=told, journal=journal, **settings
            )
        except EdgewiseError as reason:
            reason.add_note(f"(In the run {name!r}.)")
            raise
        if folder is not None and journal is not None:
            runs[name].save(folder)
            remove_unfinished(journal)
    return runs


def run_folders(problems: Mapping[str, Problem], out: Path) -> dict[str, Path]:
    """The folder of each problem's run. Raises `OutputError`."""
    if (out / "run.json").exists():
        raise OutputError(f"{out} holds a run. Choose a folder for several runs.")
    folders = {name: out / _folder_name(name) for name in problems}
    if len({str(folder).lower() for folder in folders.values()}) < len(folders):
        raise OutputError(f"the names {', '.join(problems)} do not all give different folders.")
    for folder in folders.values():
        if not (folder / "run.json").exists():
            check_output_folder(folder)
    return folders


def _folder_name(name: str) -> str:
    """The name with what a file system may not take as dashes; hashed where little is left."""
    dashed = re.sub(r"[^\w.=-]+", "-", name).strip("-.")
    if 0 < len(dashed.encode()) <= 120:
        return dashed
    return f"{dashed[:30]}-{sha256(name.encode()).hexdigest()[:12]}".strip("-")


def _finished_run(folder: Path, problem: Problem, method: Method, settings: Any) -> Run:
    """The run that a folder holds. Raises `OutputError` if it is of other work."""
    run, work = Run.load(folder), method.identity(problem, settings)
    warn_if_untold(work)
    differs = difference(run.work, work)
    if differs:
        raise OutputError(
            f"{folder} holds a run of other work: {differs}. "
            "Ask for the same again, or choose another folder."
        )
    return run


# --- methods, settings and problems, into a folder


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
        waiting = [p for p in planned if folder.rows.get(p.key, {}).get("status") in to_do]
        _warn_of_changes(waiting, folder)
        schedule = Schedule(
            jobs_of(waiting, apart=apart), len(planned) - len(waiting), workers, on_progress
        )
        try:
            _compute(schedule, load, folder)
        except OutputError:
            raise  # the disk is full: tables would not fit either, and the old ones stay
        except BaseException:
            folder.write_tables()  # of what there is
            raise
        folder.write_tables()
        rows = tuple(in_order(folder.rows.values()))
    return Sweep(Path(out), rows, tuple(point.key for point in planned))


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
    if workers is not None:
        whole("workers", workers, 1)


def _warn_of_changes(waiting: Sequence[Point], folder: SweepFolder) -> None:
    """Tell of points that were computed before in the same words, but are other work now."""
    columns = {name for point in waiting for name in point.row}
    names = sorted(name for name in columns - {"key"} if "sha256" not in name)
    rows = folder.rows.values()
    before = {tuple(map(row.get, names)) for row in rows if row["status"] == "done"}
    changed = sum(tuple(map(point.row.get, names)) in before for point in waiting)
    if changed:
        warnings.warn(
            f"{folder.path}: of {changed} points, the folder has others whose weights, prompts or "
            "functions were different, or an older Edgewise's; they stay beside the new ones.",
            stacklevel=3,
        )


class Schedule:
    """The jobs that wait, how far the sweep is, and how long the rest will take.

    Jobs of one method and task take about as long per point; of what none has finished yet, as
    long as the others together.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        n_done: int = 0,
        workers: int | None = 1,
        on_progress: OnProgress = ignore_progress,
    ) -> None:
        self.waiting, self._on_progress, self._workers = list(jobs), on_progress, workers
        self._n_done, self._total = n_done, n_done + sum(map(len, jobs))
        self._seconds, self._points = defaultdict[Any, float](float), defaultdict[Any, int](int)
        self._peak_bytes = 0

    def seconds_left(self, n_processes: int = 1) -> float | None:
        """What the jobs that wait will take; None before the first has finished."""
        if not self._points:
            return None
        overall = sum(self._seconds.values()) / sum(self._points.values())
        total = 0.0
        for job in self.waiting:
            n = self._points[_kind(job)]
            total += len(job) * (self._seconds[_kind(job)] / n if n else overall)
        return total / n_processes

    def n_processes(self) -> int:
        """How many to go on with. Where that is open, one until it has shown what it needs."""
        if self._workers is not None:
            return min(self._workers, len(self.waiting))
        if (self.seconds_left() or 0) < _WORTH_SECONDS or not self._peak_bytes:
            return 1
        return processes_that_fit(self._peak_bytes, len(self.waiting))

    def finished(self, job: Job, results: Sequence[PointResult], spent: float) -> None:
        """A job was computed in `spent` seconds of one process."""
        self.waiting.remove(job)
        self._n_done += len(job)
        self._seconds[_kind(job)] += spent
        self._points[_kind(job)] += len(job)
        for row, _ in results:
            peak = row.get("peak_memory_bytes") or 0
            # More than fits for a device, which processes would share.
            peak = peak if row.get("device") in (None, "cpu") else 2**62
            self._peak_bytes = max(self._peak_bytes, peak)

    def tell(self, about: str, n_processes: int = 1) -> None:
        """Say how far the sweep is, and at what."""
        left = self.seconds_left(n_processes)
        soon = f"about {seconds(left)} left; " if left else ""
        self._on_progress(Progress(self._n_done, self._total, f"{soon}{about}"))

    def inside(self, step: Progress) -> None:
        """Progress inside the first job that waits, as progress of the sweep."""
        how_far = f"{step.done:,}/{step.total:,} " if step.total else ""
        self.tell(f"{_label(self.waiting[0])}: {how_far}")


def _kind(job: Job) -> tuple[str, str]:
    return job[0].method, str(job[0].row["task"])


def _label(job: Job) -> str:
    more = len(job) - 1
    return job[0].label + (f" and {more} that share its work" if more else "")


def _compute(schedule: Schedule, load: Load, folder: SweepFolder) -> None:
    """Compute the jobs, here and then in processes, and keep what each gives."""
    here = Computer(load, folder.unfinished, schedule.inside)
    make = partial(Computer, load, folder.unfinished)
    last = time.monotonic()
    while schedule.waiting:
        n, jobs = schedule.n_processes(), list(schedule.waiting)
        schedule.tell(_label(jobs[0]) if n == 1 else f"{n} processes", n)
        alone = ((job, here(job)) for job in jobs[:1])
        with closing(alone if n == 1 else in_processes(jobs, make, n=n, died=_died)) as computed:
            for job, results in computed:
                now = time.monotonic()
                schedule.finished(job, results, n * (now - last))  # n were at work meanwhile
                last = now
                folder.add(results)
                if n > 1:
                    schedule.tell(f"{n} processes", n)
    schedule.tell("")


def _died(job: Job, how: str) -> list[PointResult]:
    why = (
        f"the process that computed it ended {how}. If memory ran out, ask again for failed points "
        "with fewer workers, or with a batch size."
    )
    return [failure(point, "WorkerDied", why) for point in job]
