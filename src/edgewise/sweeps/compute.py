"""MethodResult the circuits of points, and judging them on prompts that discovery has not seen."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgewise.blame import explained
from edgewise.errors import OutputError
from edgewise.evaluation import against_known, faithfulness
from edgewise.methods import OnProgress, Progress, ignore_progress, method_of
from edgewise.problem import Problem
from edgewise.run import Run, discover
from edgewise.sweeps.columns import Row, asked, described, found
from edgewise.sweeps.folder import Outcome
from edgewise.sweeps.grid import Point
from edgewise.sweeps.together import runs_together
from edgewise.tasks import Task
from edgewise.work.identity import Identity, hashed, of_problem, warn_if_untold

# Makes a task of the options of a problem, which are its keywords.
Load = Callable[..., Task]


@dataclass(frozen=True)
class Planned:
    """A point with its key, and the columns that are known before it is computed."""

    key: str
    point: Point
    row: Row


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


def plan(
    points: Sequence[Point], load: Load, on_progress: OnProgress = ignore_progress
) -> list[Planned]:
    """The points with their keys, each once. Loads every problem, and runs no model.

    A problem that cannot be loaded is a point as well: it will fail, and say why.
    """
    problems = {_name(point.problem): point.problem for point in points}
    known: dict[str, tuple[dict[str, Any], Row]] = {}
    for done, (name, options) in enumerate(problems.items()):
        on_progress(Progress(done, len(problems), "loading"))
        try:
            task = load(**options)
        except OutputError:
            raise
        except Exception:
            row = described(str(options.get("task") or options.get("pairs") or ""), options, None)
            known[name] = {"asked": dict(options)}, row
        else:
            content = content_of(task)
            warn_if_untold(content)
            row = described(task.name, options, task)
            known[name] = content, row
    planned: dict[str, Planned] = {}
    for point in points:
        content, row = known[_name(point.problem)]
        settings = method_of(point.method).with_settings(point.settings)
        key = hashed({"problem": content, **settings})
        planned.setdefault(key, Planned(key, point, {"key": key, **row, **asked(point)}))
    return list(planned.values())


def content_of(task: Task) -> Identity:
    """All of a task that decides what a method finds on it, and how it is judged."""
    known = {"published": task.published, "truth": task.truth}
    return {
        "task": task.name,
        "discovery": of_problem(task.problem),
        "evaluation": None if task.test is task.problem else of_problem(task.test),
        **{name: circuit and circuit.id for name, circuit in known.items()},
    }


def jobs_of(planned: Sequence[Planned], *, apart: bool) -> list[Job]:
    """The points as jobs: those that share work together, unless `apart`."""
    if apart:
        return [Job((one,)) for one in planned]
    together: dict[tuple[Any, ...], list[Planned]] = {}
    for one in planned:
        together.setdefault(one.point.apart_from_shared, []).append(one)
    return [Job(tuple(points)) for points in together.values()]


class Computer:
    """Computes jobs one after the other, and keeps the task of the last.

    `unfinished` is the folder for the journals of points at work: a point that is computed alone
    goes on, after a kill, from its last decision or state.
    """

    def __init__(self, load: Load, unfinished: Path) -> None:
        self._load, self._unfinished = load, unfinished
        self._last: tuple[str, Task] | None = None

    def outcomes(self, job: Job, on_progress: OnProgress = ignore_progress) -> list[Outcome]:
        """The outcome of every point; one that fails says why. Raises `OutputError` only.

        If points fail together, each is computed alone, so that only those fail that must.
        """
        try:
            task = self._task(job.points[0].point.problem)
            return self._found(task, job.points, on_progress)
        except OutputError:
            raise
        except Exception as reason:
            self._forget()
            if len(job.points) > 1:
                alone = [Job((one,)) for one in job.points]
                return [outcome for one in alone for outcome in self.outcomes(one, on_progress)]
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

    def _found(
        self, task: Task, points: Sequence[Planned], on_progress: OnProgress
    ) -> list[Outcome]:
        problem = task.problem.with_()  # the activations that it keeps are gone with it
        method, given = points[0].point.method, points[0].point.given
        if len(points) > 1:
            every = [one.point.settings for one in points]
            runs = runs_together(problem, method_of(method), every, given, on_progress)
        else:
            settings = {name: getattr(points[0].point.settings, name) for name in given}
            journal = self._unfinished / points[0].key
            runs = [discover(problem, method, on_progress=on_progress, journal=journal, **settings)]
        return [
            Outcome({**one.row, **_judged(task, problem, run, len(runs))}, run.circuit.to_json())
            for one, run in zip(points, runs, strict=True)
        ]


def _judged(task: Task, problem: Problem, run: Run, sharing: int) -> Row:
    test = problem if task.test is task.problem else task.test
    evaluated = faithfulness(test, run.circuit)
    known = against_known(run, task.published, task.truth)
    return found(run, evaluated, known, sharing=sharing)


def failure(planned: Planned, kind: str, why: str) -> Outcome:
    """The outcome of a point that was not found."""
    return Outcome({**planned.row, "status": "failed", "error_kind": kind, "error": why})


def _name(options: Mapping[str, Any]) -> str:
    return repr(sorted(options.items()))


def about(job: Job, done: int, total: int, left: str, on_progress: OnProgress) -> OnProgress:
    """Progress inside a job, told as progress of the sweep."""

    def tell(step: Progress) -> None:
        inside = f"{step.done:,}/{step.total:,} " if step.total else ""
        on_progress(replace(step, done=done, total=total, message=f"{left}{job.label}: {inside}"))

    return tell
