"""One behaviour set up in several ways: other corruptions, sentences, metrics, models …"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from typing import Any

from edgewise.arguments import check_choice
from edgewise.errors import ProblemError, SettingError
from edgewise.model import Model, load_model
from edgewise.patching import ABLATION_KINDS
from edgewise.problem import Problem
from edgewise.tasks.registry import default_model, load_task, task_spec
from edgewise.tasks.task import Task, TaskSpec

AXES = ("corruption", "template", "data", "metric", "ablation", "seed", "model")
MOST = 24  # more settings than this are seldom meant
_SEEDS = (0, 1, 2)
_LISTS = {"corruption": "corruptions", "template": "templates", "data": "data"}  # of a `TaskSpec`

Over = Sequence[str] | Mapping[str, Sequence[Any] | None]


def load_variants(
    name: str, model: Model | str | None = None, *, over: Over, most: int = MOST, **choices: Any
) -> dict[str, Task]:
    """A task in every combination of what `over` varies, by name, ready to be compared.

    `over` names what varies (`AXES`): `["corruption"]` takes all of the task's corruptions,
    `{"metric": ["kl", "logit-diff"], "ablation": None}` these metrics and every ablation. Without
    values, metrics are the task's own, kl and logit-diff, and seeds 0, 1, 2; models must be named.
    `choices` is what `load_task` takes, the same for all. Models are loaded once. Raises as
    `load_task` does, and `SettingError` for more than `most` combinations.

    >>> list(load_variants("tracr-reverse", over={"ablation": ["zero", "mean"], "data": None}))
    ['zero, legal', 'zero, paper', 'mean, legal', 'mean, paper']
    """
    spec, loaded = task_spec(name), cache(load_model)

    def load(**choice: Any) -> Task:
        source = choice.pop("model", model) or default_model(spec)
        known = loaded(source) if isinstance(source, str) else source
        return load_task(name, known, **{**choices, **choice})

    fixed = [axis for axis, value in {"model": model, **choices}.items() if value is not None]
    return load_combinations(load, over, spec=spec, fixed=fixed, most=most)


def load_combinations(
    load: Callable[..., Task],
    over: Over,
    *,
    spec: TaskSpec | None,
    fixed: Sequence[str],
    most: int | None = MOST,
    advice: str = "pass fewer values, or a higher most=",
) -> dict[str, Task]:
    """What `load` makes of every combination, by a name made of the values that differ.

    `spec` is None for prompts that come from a file; `fixed` names what has one value. Raises
    `UnknownName` for an axis or a value that there is not, `SettingError` for what cannot vary or
    is too much: before anything is loaded, where that can be told.
    """
    axes = dict(over) if isinstance(over, Mapping) else dict.fromkeys(over)
    if not axes:
        raise SettingError(f"say what varies: one or more of {', '.join(AXES)}.")
    for axis, chosen in axes.items():
        check_choice("setting to compare over", axis, AXES)
        if axis in fixed:
            raise SettingError(f"{axis} is what varies, so it cannot be chosen one value as well.")
        if isinstance(chosen, str):
            raise SettingError(f"the values of {axis} are {chosen!r}; pass a list.")
        if spec is not None and axis in _LISTS:
            for value in chosen or ():
                check_choice(f"{axis} of {spec.name}", value, getattr(spec, _LISTS[axis]))
    models = axes.get("model", ())
    if models is None:
        raise SettingError("models have no list to go through; name those to compare.")
    first = load(**({"model": models[0]} if models else {})).problem
    values = {axis: _values(axis, chosen, spec, first) for axis, chosen in axes.items()}
    n = prod(map(len, values.values()))
    sizes = " x ".join(f"{len(v)} of {axis}" for axis, v in values.items())
    if n < 2:
        raise SettingError(f"there is nothing to compare: {sizes} is one setting only.")
    if most is not None and n > most:
        raise SettingError(f"{sizes} are {n:,} settings, more than {most:,}: {advice}.")
    choices = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    several = [axis for axis, of_axis in values.items() if len(of_axis) > 1]
    return {", ".join(_label(a, choice[a]) for a in several): load(**choice) for choice in choices}


def _values(
    axis: str, chosen: Sequence[Any] | None, spec: TaskSpec | None, problem: Problem
) -> tuple[Any, ...]:
    """The values an axis goes through: those chosen, or the usual ones of this task and problem."""
    if chosen is not None:
        values = tuple(chosen)
    elif axis == "seed":
        values = _SEEDS
    elif axis == "metric":
        usual = dict.fromkeys((problem.metric.name, "kl", "logit-diff"))
        values = tuple(name for name in usual if _fits(problem, metric=name))
    elif axis == "ablation":
        values = tuple(kind for kind in ABLATION_KINDS if _fits(problem, ablation=kind))
    else:
        values = () if spec is None else tuple(getattr(spec, _LISTS[axis]))
    if not values:
        what = problem.pairs.source if spec is None else spec.name
        raise SettingError(f"{what} has no choice of {axis} to compare over.")
    labels = [_label(axis, value) for value in values]
    if len(set(labels)) < len(labels):
        raise SettingError(f"a value of {axis} comes twice: {', '.join(labels)}.")
    return values


def _fits(problem: Problem, **changes: Any) -> bool:
    try:
        problem.with_(**changes)
    except ProblemError:
        return False
    return True


def _label(axis: str, value: Any) -> str:
    return f"seed {value}" if axis == "seed" else str(getattr(value, "name", value))
