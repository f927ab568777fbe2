"""Tasks of a user's own: a Python file, or an entry point of another package.

A file defines `TASK`, a `TaskSpec`; `own_task` makes one from a function that returns prompt pairs.
A package offers the same object as an entry point of the group "edgewise.tasks".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import FormatError, ProblemError, SettingError
from edgewise.model import Model, load_model
from edgewise.plugins import TASKS, entry_point, offered, run_file
from edgewise.tasks.task import Task, TaskRequest, TaskSpec, task_of

_KIND = "pairs"  # the one kind of data that such a task has


def own_task(
    pairs: Callable[[Model, int, int], PromptPairs],
    *,
    name: str,
    model: str,
    metric: str = "logit-diff",
    ablation: str = "corrupted",
    n: int = 50,
    summary: str = "",
    fits: str = "",
) -> TaskSpec:
    """A task from a function of (model, how many, seed) that returns prompt pairs.

    The function is asked for twice as many pairs as the task has: the first half is for discovery,
    the second is held out. If it has fewer, they are halved; a single pair is both. `model`,
    `metric`, `ablation` and `n` are what is used unless something else is asked for; `fits` says
    which other models it can be asked of.
    """
    if not callable(pairs):
        raise SettingError(
            f"pairs is {pairs!r:.60}; it must be a function (model, n, seed) -> PromptPairs."
        )

    def make(loaded: Model, request: TaskRequest) -> Task:
        size = n if request.n is None else request.n
        if size < 1:
            raise SettingError(f"n is {size}; it must be at least 1.")
        splits = _halves(name, pairs(loaded, 2 * size, request.seed), size)
        return task_of(loaded, request, splits, origin={"n": size})

    def sample() -> tuple[str, str]:
        loaded = load_model(model)
        return _as_text(loaded, pairs(loaded, 2, 0))

    return TaskSpec(
        name=name,
        summary=summary,
        model=model,
        metric=metric,
        ablation=ablation,
        data=(_KIND,),
        make=make,
        sample=sample,
        fits=fits or model,
    )


def _halves(name: str, drawn: object, n: int) -> list[PromptPairs]:
    """The first `n` prompts and as many others; a single pair alone."""
    if not isinstance(drawn, PromptPairs):
        raise SettingError(
            f"the pairs of {name} are a {type(drawn).__name__}; its function must return "
            "PromptPairs."
        )
    half = min(n, max(1, len(drawn) // 2))
    splits = [drawn.subset(0, half)]
    if len(drawn) > half:
        splits.append(drawn.subset(half, min(2 * half, len(drawn))))
        _check_disjoint(name, *splits)
    return splits


def _as_text(model: Model, pairs: PromptPairs) -> tuple[str, str]:
    """The first pair as text; as ids where the model has no tokenizer."""

    def text(row: Tensor) -> str:
        ids = row[pairs.real[0]].tolist()
        return str(ids) if model.tokenizer is None else model.tokenizer.decode(ids)

    return text(pairs.clean[0]), "" if pairs.corrupted is None else text(pairs.corrupted[0])


def _check_disjoint(name: str, discovery: PromptPairs, test: PromptPairs) -> None:
    def prompts(pairs: PromptPairs) -> list[tuple[int, ...]]:
        rows = zip(pairs.clean, pairs.real, strict=True)
        return [tuple(row[real].tolist()) for row, real in rows]

    seen = {row: i for i, row in reversed(list(enumerate(prompts(discovery))))}
    faults = [
        f"pair {len(discovery) + i} has the clean prompt of pair {seen[row]}; the second half is "
        "held out, and must be new."
        for i, row in enumerate(prompts(test))
        if row in seen
    ]
    if faults:
        raise ProblemError(f"task {name}", faults)


def is_task_file(name: object) -> bool:
    """Whether a task's name is a Python file, which is run to load the task."""
    return isinstance(name, str) and name.endswith(".py")


def custom_spec(name: str) -> TaskSpec | None:
    """The task of a Python file or of an entry point; None if `name` is neither.

    Raises `FormatError` for a file that does not give a task, `SettingError` for such a package.
    """
    if is_task_file(name):
        path = Path(name).resolve()
        module = run_file(path)
        if not hasattr(module, "TASK"):
            raise FormatError(
                f"{path}: it defines no TASK. Make one: TASK = edgewise.tasks.own_task(pairs, …), "
                "with a function pairs(model, n, seed)."
            )
        return _recorded(_checked(module.TASK, str(path)), str(path))
    offer = entry_point(TASKS, name)
    return None if offer is None else _recorded(_checked(*offer), name)


def custom_names() -> list[str]:
    """The names of the tasks that installed packages offer."""
    return offered(TASKS)


def _checked(task: Any, where: str) -> TaskSpec:
    if not isinstance(task, TaskSpec):
        raise FormatError(
            f"{where}: TASK is a {type(task).__name__}; it must be a TaskSpec, such as "
            "edgewise.tasks.own_task makes."
        )
    return task


def _recorded(spec: TaskSpec, source: str) -> TaskSpec:
    """A task whose problems say where it comes from, so that a record can make them again."""

    def make(model: Model, request: TaskRequest) -> Task:
        made = spec.make(model, request)
        if not isinstance(made, Task):
            raise FormatError(f"{source}: its make returned a {type(made).__name__}, not a Task.")
        common = {"model": model.name, "seed": request.seed, **made.problem.origin}
        problem = made.problem.with_(origin={**common, "task": source})
        test = problem if made.test is made.problem else made.test
        return replace(made, problem=problem, test=test)

    return replace(spec, make=make)
