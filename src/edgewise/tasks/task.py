"""A named behaviour: a problem to discover on, one to test on, and the answer if one is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.graph import Graph
from edgewise.metrics import Metric
from edgewise.model import Model
from edgewise.patching import Ablation
from edgewise.problem import Problem


@dataclass(frozen=True, eq=False)
class Task:
    """A behaviour ready to work on.

    `problem` is for discovery, `test` holds prompts that discovery has not seen; where `problem`
    has every possible prompt, `test` is `problem` itself. `published` is the circuit in the
    literature, `truth` the one derived from a compiled model's weights; both are on
    `problem.graph`, and None if unknown.
    """

    name: str
    problem: Problem
    test: Problem
    published: Circuit | None = None
    truth: Circuit | None = None

    @property
    def sentence(self) -> str:
        """What is measured: the behaviour, the model, prompts, metric and ablation."""
        problem, other = self.problem, self.test is not self.problem
        held_out = f" and {len(self.test.pairs):,} held out" if other else ""
        return (
            f"{self.name} on {problem.model.name}: {problem.metric.name} on "
            f"{len(problem.pairs):,} prompts{held_out}, {problem.ablation.kind} ablation."
        )


@dataclass(frozen=True)
class TaskSpec:
    """An entry of the task list: what a task is, before anything is loaded.

    `data` names the kinds of prompts it can make, `templates` its sentences and `corruptions` the
    ways to corrupt them, with what each does; the first of each is the default. `sample` gives an
    example, clean and corrupted, as text.
    """

    name: str
    summary: str
    model: str  # the model it is made for, used when none is given
    metric: str
    ablation: str
    data: tuple[str, ...]
    make: Callable[[Model, TaskRequest], Task]
    sample: Callable[[], tuple[str, str]]
    fits: str  # the models it can be asked of
    templates: tuple[str, ...] = ()
    corruptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRequest:
    """What `load_task` was asked for; None leaves the choice to the task."""

    spec: TaskSpec
    n: int | None
    seed: int
    data: str
    metric: str | Metric | None
    ablation: str | Ablation | None
    template: str
    corruption: str
    bos: bool | None
    chat: bool = False


def task_of(
    model: Model,
    request: TaskRequest,
    splits: Sequence[PromptPairs],
    *,
    origin: Mapping[str, Any],
    graph: Graph | None = None,
    ablation: Ablation | None = None,
    published: Circuit | None = None,
    truth: Circuit | None = None,
) -> Task:
    """The task of prompts for discovery and of those held out, as was requested.

    `origin` is what a record needs beside task, model and seed to make the problems again.
    """
    spec = request.spec
    problems = [
        Problem(
            model,
            pairs,
            request.metric or spec.metric,
            ablation or request.ablation or spec.ablation,
            graph=graph,
            origin={"task": spec.name, "model": model.name, "seed": request.seed, **origin},
        )
        for pairs in splits
    ]
    return Task(spec.name, problems[0], problems[-1], published, truth)
