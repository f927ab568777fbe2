"""A named behaviour: a problem to discover on, one to test on, and the answer if one is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgewise.circuit import Circuit
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
