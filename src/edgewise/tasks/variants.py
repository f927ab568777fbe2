"""One behaviour set up in several ways: other corruptions, sentences, metrics, models …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from edgewise.errors import ProblemError, SettingError, unknown_name
from edgewise.model import Model
from edgewise.patching import ABLATION_KINDS
from edgewise.problem import Problem
from edgewise.tasks.registry import load_task, task_spec
from edgewise.tasks.task import Task, TaskSpec

AXES = ("corruption", "template", "data", "metric", "ablation", "seed", "model")
MOST = 24  # more settings than this are seldom meant
_SEEDS = (0, 1, 2)

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
    spec = task_spec(name)
    axes: dict[str, Sequence[Any] | None] = (
        dict(over) if isinstance(over, Mapping) else dict.fromkeys(over)
    )
    check_axes(axes, fixed=[axis for axis, value in choices.items() if value is not None])
    if "model" in axes and model is not None:
        raise SettingError("the models are what varies; name one or the other, not both.")
    check_values(axes, spec)
    models = {str(getattr(m, "name", m)): m for m in axes.get("model") or ()}
    first = load_task(name, next(iter(models.values()), model), **choices)
    values = {
        axis: tuple(models)
        if axis == "model"
        else axis_values(axis, chosen, spec=spec, problem=first.problem)
        for axis, chosen in axes.items()
    }
    loaded: dict[str, Any] = {next(iter(models), ""): first.problem.model}
    variants = {}
    for label, choice in combinations(values, most=most).items():
        which = choice.pop("model", "")
        source = loaded.get(which, models.get(which))
        variants[label] = load_task(name, source, **{**choices, **choice})
        loaded[which] = variants[label].problem.model
    return variants


def check_axes(over: Mapping[str, Any], *, fixed: Sequence[str] = ()) -> None:
    """Raise `UnknownName` for an axis we do not have, `SettingError` for one that is held fixed."""
    if not over:
        raise SettingError(f"say what varies: one or more of {', '.join(AXES)}.")
    for axis, values in over.items():
        if axis not in AXES:
            raise unknown_name("setting to compare over", axis, AXES)
        if axis in fixed:
            raise SettingError(f"{axis} is what varies, so it cannot be chosen one value as well.")
        if isinstance(values, str):
            raise SettingError(f"the values of {axis} are {values!r}; pass a list.")
    if over.get("model", ()) is None:
        raise SettingError("models have no list to go through; name those to compare.")


def check_values(over: Mapping[str, Sequence[Any] | None], spec: TaskSpec) -> None:
    """Refuse, before anything is loaded, values that the task does not have."""
    choices = {"corruption": spec.corruptions, "template": spec.templates, "data": spec.data}
    for axis, known in choices.items():
        for value in over.get(axis) or ():
            if value not in known:
                raise unknown_name(f"{axis} of {spec.name}", str(value), known)


def axis_values(
    axis: str, chosen: Sequence[Any] | None, *, spec: TaskSpec | None, problem: Problem
) -> tuple[Any, ...]:
    """The values an axis goes through: those chosen, or the usual ones of this task and problem.

    `spec` is None for prompts that come from a file. Raises `SettingError` where there are none.
    """
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
        known = {"corruption": "corruptions", "template": "templates", "data": "data"}
        values = () if spec is None else tuple(getattr(spec, known[axis]))
    if not values:
        what = problem.pairs.source if spec is None else spec.name
        raise SettingError(f"{what} has no choice of {axis} to compare over.")
    if len(set(values)) < len(values):
        raise SettingError(f"a value of {axis} comes twice: {', '.join(map(str, values))}.")
    return values


def _fits(problem: Problem, **changes: Any) -> bool:
    try:
        problem.with_(**changes)
    except ProblemError:
        return False
    return True


def combinations(
    values: Mapping[str, Sequence[Any]],
    *,
    most: int | None = MOST,
    how: str = "pass fewer values, or a higher most=",
) -> dict[str, dict[str, Any]]:
    """Every combination, by a name made of the values that differ. Raises `SettingError`.

    >>> combinations({"seed": [0, 1], "metric": ["kl"]})
    {'seed 0': {'seed': 0, 'metric': 'kl'}, 'seed 1': {'seed': 1, 'metric': 'kl'}}
    """
    n = prod(map(len, values.values()))
    sizes = " x ".join(f"{len(v)} of {axis}" for axis, v in values.items())
    if n < 2:
        raise SettingError(f"there is nothing to compare: {sizes} is one setting only.")
    if most is not None and n > most:
        raise SettingError(f"{sizes} are {n:,} settings, more than {most:,}: {how}.")
    chosen = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    several = [axis for axis, of_axis in values.items() if len(of_axis) > 1]
    return {", ".join(_label(a, choice[a]) for a in several): choice for choice in chosen}


def _label(axis: str, value: Any) -> str:
    return f"seed {value}" if axis == "seed" else str(getattr(value, "name", value))
