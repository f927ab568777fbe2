"""The paper as a grid: which tasks and models, and for each which methods, metrics and values.

An experiment is what is computed and kept at a time: ACDC for some thresholds (they share work), SP
for one λ, HISP for its numbers of units, random circuits for their sizes. The paper's thresholds, λ
and seeds are in paper.toml, its results in published_areas.csv; offline and quick runs take fewer
values.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import product
from math import log10
from typing import NamedTuple

from edgewise.documents import Scalar, decoded

METHODS = ("acdc", "sp", "hisp")
TABLES = {"corrupted": "Table 2", "zero": "Table 3"}
Values = tuple[float | tuple[float, float, int], ...]  # a value, or a spread of them


@dataclass(frozen=True)
class Subject:
    """A task on a model: what the paper studied, or its like on a bundled model."""

    task: str
    model: str
    metrics: tuple[str, ...]
    ablations: tuple[str, ...] = ("corrupted", "zero")
    n: int | None = None
    seed: int = 0
    template: str | None = None
    data: str | None = None
    processing: str = "none"
    reset_seed: int | None = None
    head_orders: tuple[str, ...] = ("descending",)
    bundled: bool = True

    @property
    def name(self) -> str:
        return self.task if self.model == self.task else f"{self.task} on {self.model}"

    @property
    def is_program(self) -> bool:
        return self.metrics == ("l2",)

    @property
    def is_gate(self) -> bool:
        return self.task.endswith("-gate")

    @property
    def problems(self) -> list[PaperProblem]:
        """Every metric with every ablation."""
        return [PaperProblem(self, *how) for how in product(self.metrics, self.ablations)]


class PaperProblem(NamedTuple):
    """What methods are compared on."""

    subject: Subject
    metric: str
    ablation: str


@dataclass(frozen=True)
class Experiment:
    """One piece of work. `settings` go to the method; `values` are thresholds, λ, or shares."""

    subject: Subject
    metric: str
    ablation: str
    method: str
    values: tuple[float, ...] = ()
    settings: tuple[tuple[str, Scalar], ...] = ()
    reset: bool = False
    highlight: str = ""  # the place in the paper that a single circuit is for

    @property
    def problem(self) -> PaperProblem:
        return PaperProblem(self.subject, self.metric, self.ablation)

    @property
    def title(self) -> str:
        what = f"{self.method} on {self.subject.name}, {self.metric}, {self.ablation}"
        return f"{what}, reset network" if self.reset else what

    @property
    def effort(self) -> int:
        """About how long it takes beside others, to say how much time is left."""
        size = 1 if self.subject.is_program else 4 if self.subject.bundled else 4000
        steps = int(dict(self.settings).get("steps") or 0)
        return size * (max(1, steps // 10) if self.method == "sp" else 3)


# --- what the paper ran, and found


@dataclass(frozen=True)
class Highlight:
    """A single circuit that the paper speaks of: where, and in which words."""

    task: str
    metric: str
    ablation: str
    threshold: float
    place: str
    words: str


@dataclass(frozen=True)
class Scale:
    """How much is computed. None for a number of values is all of the paper's."""

    lowest: float  # threshold
    reset_thresholds: int
    sp_steps: int
    sp_rate: float
    random_draws: int
    together: int  # thresholds in an experiment
    n: int | None = None  # prompts of a language task; None is the paper's number
    thresholds: int | None = None
    penalties: int | None = None  # values of λ
    hisp_circuits: int | None = None
    programs: int | None = None  # thresholds and values of λ of a compiled program
    reset_sp: bool = False


@dataclass(frozen=True)
class Paper:
    """All that paper.toml holds."""

    random_shares: tuple[float, ...]
    reset_penalties: Values
    thresholds: dict[str, Values]  # of "task metric", "metric" or "default"
    penalties: dict[str, Values]
    scales: dict[str, Scale]
    subjects: tuple[Subject, ...]
    highlights: tuple[Highlight, ...]
    notes: dict[str, str]  # on tables
    made: dict[str, str]  # how everything was computed


@dataclass(frozen=True)
class PublishedArea:
    """One entry of Tables 2 and 3; `metric` is kl, loss (the task's own) or l2.

    The numbers are of the final paper (branch big-rerun of its repository, October 2023), not of
    the submission. `why_not`: why the number is not one to reach, from reading that repository and
    running it; empty if it is.
    """

    task: str
    metric: str
    ablation: str
    method: str
    edge_auc: float
    node_auc: float
    why_not: str


@cache
def paper() -> Paper:
    """What the paper ran."""
    return decoded(Paper, tomllib.loads(_text("paper.toml")), "paper.toml")


@cache
def published_areas() -> tuple[PublishedArea, ...]:
    """The 24 entries of each table, in the paper's order."""
    return tuple(
        PublishedArea(
            edge_auc=float(row.pop("edge_auc")), node_auc=float(row.pop("node_auc")), **row
        )
        for row in csv.DictReader(_text("published_areas.csv").splitlines())
    )


def _text(name: str) -> str:
    return (files("edgewise.recipes") / name).read_text(encoding="utf-8")


# --- the grid


def subjects(scale: Scale, *, hub: bool, models: Mapping[str, str] | None = None) -> list[Subject]:
    """Compiled programs, the language tasks on small-lm, and on the paper's models if `hub`.

    `models` says where the paper's model of a task is, such as a folder; those are there without a
    hub too.
    """
    folders, studied = models or {}, paper().subjects
    here = [s if s.is_program else replace(s, model="small-lm", n=scale.n) for s in studied]
    there = [
        replace(
            s,
            model=folders.get(s.task, s.model),
            n=scale.n or s.n,
            processing="transformer-lens",
            bundled=False,
        )
        for s in studied
        if not s.is_program and (hub or s.task in folders)
    ]
    return here + there


def experiments(scale: Scale, subject: Subject) -> Iterator[Experiment]:
    """All experiments on a subject."""
    # HISP as it was run: the code's reading, and a ranking even where the gradient is zero.
    circuits = None if subject.is_program else scale.hisp_circuits
    hisp = (("circuits", circuits), ("reading", "code"), ("allow_zero_gradient", True))
    sp = (("steps", scale.sp_steps), ("learning_rate", scale.sp_rate), ("seed", 0))
    orders = [(("head_order", order),) for order in subject.head_orders]
    for problem in subject.problems:
        taus = _thresholds(scale, problem)
        for order, i in product(orders, range(0, len(taus), scale.together)):
            yield Experiment(*problem, "acdc", taus[i : i + scale.together], order)
        yield Experiment(*problem, "hisp", (), hisp)
        for weight in _penalties(scale, problem):
            yield Experiment(*problem, "sp", (weight,), sp)
    first = [problem for problem in subject.problems if problem.metric == subject.metrics[0]]
    for problem in first:
        draws = (("draws", scale.random_draws),)
        yield Experiment(*problem, "random", paper().random_shares, draws)
    for problem in first if subject.reset_seed is not None else ():  # the control
        taus = thinned(_thresholds(scale, problem), scale.reset_thresholds)
        yield Experiment(*problem, "acdc", taus, orders[0], reset=True)
        yield Experiment(*problem, "hisp", (), hisp, reset=True)
        for weight in _expanded(paper().reset_penalties) if scale.reset_sp else ():
            yield Experiment(*problem, "sp", (round(weight, 3),), sp, reset=True)
    for told in paper().highlights:
        if told.task == subject.task and not subject.bundled:
            how = (told.metric, told.ablation, "acdc", (told.threshold,), orders[0])
            yield Experiment(subject, *how, highlight=told.place)


def _thresholds(scale: Scale, problem: PaperProblem) -> tuple[float, ...]:
    grid = _values(paper().thresholds, problem)
    if problem.subject.is_program:
        return thinned(grid, scale.programs)
    return thinned([tau for tau in grid if tau >= scale.lowest * (1 - 1e-9)], scale.thresholds)


def _penalties(scale: Scale, problem: PaperProblem) -> tuple[float, ...]:
    grid = _values(paper().penalties, problem)
    if problem.subject.is_program:
        grid = thinned(grid, scale.programs)
    elif scale.penalties is not None and len(grid) > scale.penalties:
        # About evenly spaced in the logarithm.
        targets = _spread(log10(grid[0]), log10(grid[-1]), scale.penalties)
        grid = tuple(min(grid, key=lambda v: abs(log10(v / target))) for target in targets)
    return tuple(sorted({round(weight, 3) for weight in grid}))  # as the paper rounds them


def _values(grids: Mapping[str, Values], problem: PaperProblem) -> tuple[float, ...]:
    """The paper's values for a task and metric."""
    task, metric = problem.subject.task, problem.metric
    return _expanded(grids.get(f"{task} {metric}") or grids.get(metric) or grids["default"])


def _expanded(grid: Values) -> tuple[float, ...]:
    parts = ((part,) if isinstance(part, float) else _spread(*part) for part in grid)
    return tuple(dict.fromkeys(value for part in parts for value in part))


def _spread(low: float, high: float, n: int) -> tuple[float, ...]:
    """10 to the power of n values, to six digits, so that every machine has the same numbers."""
    return tuple(float(f"{10 ** (low + (high - low) * i / (n - 1)):.6g}") for i in range(n))


def thinned(grid: Sequence[float], most: int | None) -> tuple[float, ...]:
    """At most so many values of a grid (two or more), evenly spaced in it, its ends among them.

    >>> thinned([1, 2, 3, 4, 5], 3)
    (1, 3, 5)
    """
    if most is None or len(grid) <= most:
        return tuple(grid)
    return tuple(grid[round(i * (len(grid) - 1) / (most - 1))] for i in range(most))
