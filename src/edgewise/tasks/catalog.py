"""The tasks that come with Edgewise, by name."""

from __future__ import annotations

from edgewise.errors import SettingError, unknown_name
from edgewise.metrics import Metric
from edgewise.model import BUNDLED, Model, load_model
from edgewise.model.bundled import bundled_program
from edgewise.patching import Reference
from edgewise.tasks.programs import (
    make_gate_task,
    make_program_task,
    make_reverse_task,
    make_xproportion_task,
)
from edgewise.tasks.task import Task, TaskRequest, TaskSpec

_MAKERS = {
    "tracr-reverse": (make_reverse_task, ("legal", "paper")),
    "tracr-xproportion": (make_xproportion_task, ("legal", "paper")),
    "or-gate": (make_gate_task, ("legal",)),
    "and-gate": (make_gate_task, ("legal",)),
}


def _spec(name: str) -> TaskSpec:
    make, data = _MAKERS.get(name, (make_program_task, ("legal",)))
    return TaskSpec(
        name=name,
        summary=bundled_program(name).description,
        model=name,
        metric="l2",
        reference="zero",
        data=data,
        make=make,
    )


TASKS: dict[str, TaskSpec] = {name: _spec(name) for name in BUNDLED}


def task_spec(name: str) -> TaskSpec:
    """The entry of a task. Raises `UnknownName`, with suggestions."""
    known = name.replace("_", "-").lower()
    if known not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[known]


def load_task(
    name: str,
    model: Model | str | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    data: str | None = None,
    metric: str | Metric | None = None,
    reference: str | Reference | None = None,
) -> Task:
    """A named behaviour on a model, ready for discovery.

    `model` defaults to the one the task is made for. `n` prompts are drawn with `seed`; `data`
    picks the kind of prompts where a task has several (compiled programs of the paper: "legal"
    token ids, or the "paper"'s own). `metric` and `reference` default to the task's. Raises
    `UnknownName`, `SettingError`, `ProblemError`.

    >>> load_task("tracr-reverse").published.n_edges
    15
    """
    spec = task_spec(name)
    for what, value in (("n", n), ("seed", seed)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise SettingError(f"{what} is {value!r}; it must be a whole number.")
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed is {seed}; it must be between 0 and 2**63 - 1.")
    if data is not None and data not in spec.data:
        raise unknown_name(f"kind of data of {spec.name}", data, spec.data)
    request = TaskRequest(spec, n, seed, data or spec.data[0], metric, reference)
    if not isinstance(model, Model):
        model = load_model(model or spec.model)
    return spec.make(model, request)
