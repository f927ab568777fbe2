"""The points of a sweep: what each is, which share work, and how one is computed.

1. `grid` multiplies problems with methods and their settings into points.
2. `plan` gives each point its key, a hash of all that decides what is found.
3. `jobs_of` puts points together that share work.
4. `Computer` finds the circuits of a job, and measures them on prompts not seen before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from edgewise.blame import explained
from edgewise.errors import OutputError, SettingError
from edgewise.evaluation import against_known, faithfulness
from edgewise.methods import OnProgress, Progress, ignore_progress, method_of
from edgewise.run import Run, discover
from edgewise.sweeps.folder import PointResult
from edgewise.sweeps.runs import runs_together
from edgewise.sweeps.table import Row, row_of_problem, row_of_run, row_of_settings
from edgewise.tasks import Task
from edgewise.work.grid import combinations, grouped
from edgewise.work.identity import Identity, hashed, of_problem, warn_if_untold

# Makes a task of the options of a problem, which are its keywords.
Load = Callable[..., Task]
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Point:
    """One circuit to find: the problem's options, the method, its settings as used.

    `given` names the settings that were given; the others have their defaults.
    """

    problem: Mapping[str, Any]
    method: str
    settings: Any
    given: tuple[str, ...]

    @property
    def label(self) -> str:
        """For progress: the method, what it works on, the settings that were given."""
        about = ", ".join(f"{k} {v}" for k, v in self.problem.items() if v is not None)
        how = ", ".join(f"{name} {getattr(self.settings, name)}" for name in self.given)
        return f"{self.method} on {about}" + (f" ({how})" if how else "")

    @property
    def what_is_not_shared(self) -> tuple[Any, ...]:
        """Equal for points whose circuits are found together, with the work they share done once.

        ACDC's points that differ in their threshold, an attribution's that differ in how the
        circuit is selected, HISP's that differ in how many activations they keep.
        """
        method = method_of(self.method)
        own = {k: v for k, v in asdict(self.settings).items() if not method.shares_work(k)}
        return tuple(self.problem.items()), self.method, tuple(own.items())


def grid(over: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Every problem with every method in every combination of its settings, in the order given.

    A value that is a list, tuple, range or array is several values; all else is one. Raises
    `SettingError` and `UnknownName` for settings that a method refuses, before anything is loaded.

    >>> points = grid({"task": "ioi", "seed": [0, 1]}, {"acdc": {"threshold": [0.01, 0.1]}})
    >>> [(p.problem["seed"], p.settings.threshold) for p in points]
    [(0, 0.01), (0, 0.1), (1, 0.01), (1, 0.1)]
    """
    if not isinstance(methods, Mapping) or not methods:
        raise SettingError(
            "a sweep needs methods with their settings: {'acdc': {'threshold': [0.01, 0.1]}}."
        )
    settings = [choice for name, given in methods.items() for choice in _settings(name, given)]
    problems = _plain_combinations(over, "the problem")
    return [Point(problem, *choice) for problem in problems for choice in settings]


def _settings(name: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    method = method_of(name)
    if not isinstance(given, Mapping):
        raise SettingError(
            f"the settings of {name} are {given!r:.60}; pass names with one or several values."
        )
    for choice in _plain_combinations(given, name):
        try:
            yield method.name, method.resolve(choice), tuple(choice)
        except SettingError as reason:
            reason.add_note(
                f"(In the point {choice}. Values that do not go together are two sweeps into one "
                "folder.)"
            )
            raise


def _plain_combinations(axes: Mapping[str, Any], whose: str) -> Iterator[dict[str, Any]]:
    """Combinations of values that a folder can keep. Raises `SettingError`."""
    for choice in combinations(axes, whose):
        for name, value in choice.items():
            if not isinstance(value, _PLAIN):
                raise SettingError(
                    f"{name} of {whose} is {value!r:.60}; a sweep keeps text, numbers, true and "
                    "false on disk. For models and prompts in memory use edgewise.sweep, or a "
                    "`load` function that takes their names."
                )
        yield choice


def setting_names(methods: Iterable[str]) -> list[str]:
    """The settings of any of these methods, in their order. Raises `UnknownName`."""
    names = [f.name for name in methods for f in fields(method_of(name).settings)]
    return list(dict.fromkeys(names))


# --- keys


@dataclass(frozen=True)
class Planned:
    """A point with its key, and the columns that are known before it is computed."""

    key: str
    point: Point
    row: Row


def plan(
    points: Sequence[Point], load: Load, on_progress: OnProgress = ignore_progress
) -> list[Planned]:
    """The points with their keys, each once. Loads every problem, and runs no model.

    A problem that cannot be loaded is a point as well: it will fail, and say why.
    """
    problems = {_name(point.problem): point.problem for point in points}
    known: dict[str, tuple[Identity, Row]] = {}
    for n_done, (name, options) in enumerate(problems.items()):
        on_progress(Progress(n_done, len(problems), "loading"))
        try:
            task = load(**options)
        except OutputError:
            raise
        except Exception:
            about = str(options.get("task") or options.get("pairs") or "")
            known[name] = {"asked": dict(options)}, row_of_problem(about, options, None)
        else:
            known[name] = content_of(task), row_of_problem(task.name, options, task)
            warn_if_untold(known[name][0])
    planned: dict[str, Planned] = {}
    for point in points:
        content, row = known[_name(point.problem)]
        settings = method_of(point.method).with_settings(point.settings)
        key = hashed({"problem": content, **settings})
        row = {"key": key, **row, **row_of_settings(point.method, point.settings)}
        planned.setdefault(key, Planned(key, point, row))
    return list(planned.values())


def content_of(task: Task) -> Identity:
    """All of a task that decides what a method finds on it, and how that is measured."""
    known = {"published": task.published, "truth": task.truth}
    return {
        "task": task.name,
        "discovery": of_problem(task.problem),
        "evaluation": None if task.test is task.problem else of_problem(task.test),
        **{name: circuit and circuit.id for name, circuit in known.items()},
    }


def _name(options: Mapping[str, Any]) -> str:
    return repr(sorted(options.items()))


# --- computing


@dataclass(frozen=True)
class Job:
    """Points that are computed together: one, or several that share work."""

    points: tuple[Planned, ...]

    @property
    def label(self) -> str:
        first = self.points[0].point.label
        more = len(self.points) - 1
        return f"{first} and {more} that share its work" if more else first

    @property
    def kind(self) -> tuple[str, str]:
        """Jobs of one kind take about as long per point."""
        return self.points[0].point.method, str(self.points[0].row["task"])


def jobs_of(planned: Sequence[Planned], *, apart: bool) -> list[Job]:
    """The points as jobs: those that share work together, unless `apart`."""
    groups = grouped(planned, lambda item: item.key if apart else item.point.what_is_not_shared)
    return [Job(tuple(group)) for group in groups]


class Computer:
    """Computes jobs one after the other, and keeps the task of the last.

    `unfinished` is the folder for the work in progress of points: a point that is computed alone
    goes on, after a kill, from its last decision or state.
    """

    def __init__(self, load: Load, unfinished: Path) -> None:
        self._load, self._unfinished = load, unfinished
        self._last: tuple[str, Task] | None = None

    def results(self, job: Job, on_progress: OnProgress = ignore_progress) -> list[PointResult]:
        """The result of every point; one that fails says why. Raises `OutputError` only.

        If points fail together, each is computed alone, so that only those fail that must.
        """
        try:
            return self._computed(job.points, on_progress)
        except OutputError:
            raise
        except Exception as reason:
            self._forget()
            if len(job.points) > 1:
                alone = [Job((point,)) for point in job.points]
                return [result for job in alone for result in self.results(job, on_progress)]
            return [failure(job.points[0], type(reason).__name__, explained(reason))]

    def _task(self, options: Mapping[str, Any]) -> Task:
        name = _name(options)
        if self._last is None or self._last[0] != name:
            self._forget()
            self._last = name, self._load(**options)
        return self._last[1]

    def _forget(self) -> None:
        """Give memory back, which may be what a point lacked."""
        self._last = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _computed(self, planned: Sequence[Planned], on_progress: OnProgress) -> list[PointResult]:
        first = planned[0].point
        task = self._task(first.problem)
        problem = task.problem.with_()  # the activations that it keeps are gone with it
        if len(planned) > 1:
            settings = [item.point.settings for item in planned]
            method = method_of(first.method)
            runs = runs_together(
                problem, method, settings, given=first.given, on_progress=on_progress
            )
        else:
            given = {name: getattr(first.settings, name) for name in first.given}
            journal = self._unfinished / planned[0].key
            runs = [
                discover(problem, first.method, on_progress=on_progress, journal=journal, **given)
            ]
        test = problem if task.test is task.problem else task.test
        rows = [_row(task, run, test, n_sharing=len(runs)) for run in runs]
        return [
            PointResult({**item.row, **row}, run.circuit.to_json())
            for item, row, run in zip(planned, rows, runs, strict=True)
        ]


def _row(task: Task, run: Run, test: Any, *, n_sharing: int) -> Row:
    known = against_known(run, task.published, task.truth)
    return row_of_run(run, faithfulness(test, run.circuit), known, sharing=n_sharing)


def failure(planned: Planned, kind: str, why: str) -> PointResult:
    """The result of a point of which no circuit was found."""
    return PointResult({**planned.row, "status": "failed", "error_kind": kind, "error": why})
