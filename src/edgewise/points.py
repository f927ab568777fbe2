"""The points of a sweep: what each is, which share work, and how they are computed.

1. `grid` multiplies problems with methods and their settings into points.
2. `plan` gives each point its key, a hash of all that decides what is found.
3. `jobs_of` puts points together that share work.
4. `Computer` finds the circuits of a job, and measures them on prompts not seen before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from edgewise.errors import OutputError, SettingError
from edgewise.evaluation import against_known, faithfulness
from edgewise.methods import Method, OnProgress, Progress, ignore_progress, method_of
from edgewise.model import Model, load_model
from edgewise.plugins import explained
from edgewise.run import discover_together
from edgewise.sweep_folder import (
    PointResult,
    Row,
    row_of_problem,
    row_of_run,
    row_of_settings,
)
from edgewise.tasks import Task, default_model, load_task, task_spec
from edgewise.work.executors import grouped
from edgewise.work.identity import Identity, hashed, of_problem, warn_if_untold

Load = Callable[..., Task]  # makes a task of the options of a problem, which are its keywords
_PLAIN = (str, int, float, bool, type(None))


def named_task(task: str, model: str | None = None, **options: Any) -> Task:
    """A task by name, as `load_task` gives it; models that follow each other are loaded once."""
    return load_task(task, _model(model or default_model(task_spec(task))), **options)


@lru_cache(maxsize=1)
def _model(source: str) -> Model:
    return load_model(source)


@dataclass(frozen=True)
class Point:
    """One circuit to find: the problem's options, the method, its settings as used.

    `given` names the settings that were given; the others have their defaults. `plan` adds the
    `key`, and the columns that are known before the point is computed.
    """

    options: Mapping[str, Any]
    method: str
    settings: Any
    given: tuple[str, ...]
    key: str = ""
    row: Row = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """A name of its problem: that of no other."""
        return repr(sorted(self.options.items()))

    @property
    def label(self) -> str:
        """For progress: the method, what it works on, the settings that were given."""
        about = ", ".join(f"{k} {v}" for k, v in self.options.items() if v is not None)
        how = ", ".join(f"{name} {getattr(self.settings, name)}" for name in self.given)
        return f"{self.method} on {about}" + (f" ({how})" if how else "")


Job = tuple[Point, ...]  # one, or several that share work and are computed together


# --- what varies


def values_of(value: Any) -> list[Any] | None:
    """The values of a list, range or array, as plain numbers; None for what is one value."""
    # A tensor or array of no dimension is one number, though it has the method of an iterable.
    if not isinstance(value, Iterable) or isinstance(value, str) or getattr(value, "ndim", 1) == 0:
        return None
    return value.tolist() if hasattr(value, "tolist") else list(value)


def combinations(axes: Mapping[str, Any], whose: str) -> Iterator[dict[str, Any]]:
    """Every combination, in the order given; an axis that is no list, range or array is one value.

    Raises `SettingError` for an axis without values, which it says to be of `whose`.

    >>> [*combinations({"seed": [0, 1], "metric": "kl"}, "the problem")]
    [{'seed': 0, 'metric': 'kl'}, {'seed': 1, 'metric': 'kl'}]
    """
    values = {}
    for name, value in axes.items():
        several = values_of(value)
        values[name] = [value] if several is None else several
        if not values[name]:
            raise SettingError(f"{name} of {whose} is empty; a sweep needs at least one value.")
    for choice in product(*values.values()):
        yield dict(zip(values, choice, strict=True))


def unshared(method: Method, settings: Any) -> str:
    """The settings of which other values share no work: equal for what is computed together.

    All but ACDC's threshold, what selects an attribution's circuit, HISP's number of activations.
    """
    return repr([v for name, v in vars(settings).items() if not method.shares_work(name)])


def grid(over: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Every problem with every method in every combination of its settings, in the order given.

    A value that is a list, tuple, range or array is several values; all else is one. Raises
    `SettingError` and `UnknownName` for settings that a method refuses, before anything is loaded.

    >>> points = grid({"task": "ioi", "seed": [0, 1]}, {"acdc": {"threshold": [0.01, 0.1]}})
    >>> [(point.options["seed"], point.settings.threshold) for point in points]
    [(0, 0.01), (0, 0.1), (1, 0.01), (1, 0.1)]
    """
    if not isinstance(methods, Mapping) or not methods:
        raise SettingError(
            "a sweep needs methods with their settings: {'acdc': {'threshold': [0.01, 0.1]}}."
        )
    settings = [choice for name, given in methods.items() for choice in _settings(name, given)]
    problems = _plain_combinations(over, "the problem")
    return [Point(options, *choice) for options in problems for choice in settings]


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


def plan(
    points: Sequence[Point], load: Load, on_progress: OnProgress = ignore_progress
) -> list[Point]:
    """The points with their keys, each once. Loads every problem, and runs no model.

    A problem that cannot be loaded is a point as well: it will fail, and say why.
    """
    problems = {point.problem: point.options for point in points}
    loaded: dict[str, tuple[Identity, Row]] = {}
    for n_done, (name, options) in enumerate(problems.items()):
        on_progress(Progress(n_done, len(problems), "loading"))
        try:
            task = load(**options)
        except OutputError:
            raise
        except Exception:
            about = str(options.get("task") or options.get("pairs") or "")
            loaded[name] = {"asked": dict(options)}, row_of_problem(about, options, None)
        else:
            loaded[name] = content_of(task), row_of_problem(task.name, options, task)
            warn_if_untold(loaded[name][0])
    planned: dict[str, Point] = {}
    for point in points:
        content, row = loaded[point.problem]
        settings = method_of(point.method).with_settings(point.settings)
        key = hashed({"problem": content, **settings})
        row = {"key": key, **row, **row_of_settings(point.method, point.settings)}
        planned.setdefault(key, replace(point, key=key, row=row))
    return list(planned.values())


def content_of(task: Task) -> Identity:
    """All of a task that decides what a method finds on it, and how that is measured."""
    circuits = {"published": task.published, "truth": task.truth}
    return {
        "task": task.name,
        "discovery": of_problem(task.problem),
        "evaluation": None if task.test is task.problem else of_problem(task.test),
        **{name: circuit and circuit.id for name, circuit in circuits.items()},
    }


def jobs_of(points: Iterable[Point], *, apart: bool) -> list[Job]:
    """The points as jobs: those that share work together, unless `apart`."""

    def shared(point: Point) -> tuple[str, ...]:
        method = method_of(point.method)
        return point.problem, point.method, unshared(method, point.settings)

    return [(point,) for point in points] if apart else grouped(points, shared)


# --- computing


class Computer:
    """Computes jobs one after the other, and keeps the task of the last.

    `unfinished` is the folder for the work in progress of points: a point that is computed alone
    resumes, after a kill, from its last decision or state.
    """

    def __init__(
        self, load: Load, unfinished: Path, on_progress: OnProgress = ignore_progress
    ) -> None:
        self._load, self._unfinished, self._on_progress = load, unfinished, on_progress
        self._last: tuple[str, Task] | None = None

    def __call__(self, job: Job) -> list[PointResult]:
        """The result of every point; one that fails says why. Raises `OutputError` only.

        If points fail together, each is computed alone, so that only those fail that must.
        """
        try:
            return self._computed(job)
        except OutputError:
            raise
        except Exception as reason:
            self._forget()
            if len(job) > 1:
                return [result for point in job for result in self((point,))]
            return [failure(job[0], type(reason).__name__, explained(reason))]

    def _computed(self, job: Job) -> list[PointResult]:
        first, task = job[0], self._task(job[0])
        problem = task.problem.with_()  # the activations that it keeps end with it
        runs = discover_together(
            problem,
            method_of(first.method),
            [point.settings for point in job],
            given=first.given,
            on_progress=self._on_progress,
            journal=None if len(job) > 1 else self._unfinished / first.key,
        )
        test = problem if task.test is task.problem else task.test
        results = []
        for point, run in zip(job, runs, strict=True):
            known = against_known(run, task.published, task.truth)
            row = row_of_run(run, faithfulness(test, run.circuit), known)
            row |= {"points_sharing_cost": len(job)}
            results.append(PointResult({**point.row, **row}, run.circuit.to_json()))
        return results

    def _task(self, point: Point) -> Task:
        if self._last is None or self._last[0] != point.problem:
            self._forget()
            self._last = point.problem, self._load(**point.options)
        return self._last[1]

    def _forget(self) -> None:
        """Give memory back, which may be what a point lacked."""
        self._last = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def failure(point: Point, kind: str, why: str) -> PointResult:
    """The result of a point of which no circuit was found."""
    return PointResult({**point.row, "status": "failed", "error_kind": kind, "error": why})
