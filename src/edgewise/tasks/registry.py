"""The tasks that come with Edgewise, by name."""

from __future__ import annotations

from collections.abc import Collection

from edgewise.arguments import check_seed
from edgewise.errors import SettingError, quoted, unknown_name
from edgewise.metrics import Metric
from edgewise.model import BUNDLED, Model, load_model
from edgewise.model.bundled import PROGRAMS, bundled_program
from edgewise.patching import Ablation
from edgewise.tasks.compiled import (
    make_gate_task,
    make_program_task,
    make_reverse_task,
    make_xproportion_task,
)
from edgewise.tasks.custom import custom_names, custom_spec
from edgewise.tasks.language import BEHAVIOURS, examples
from edgewise.tasks.language.behaviour import choice
from edgewise.tasks.language.language_task import DEFAULT_MODEL, make_language_task
from edgewise.tasks.task import Task, TaskRequest, TaskSpec

_MAKERS = {
    "tracr-reverse": (make_reverse_task, ("legal", "paper")),
    "tracr-xproportion": (make_xproportion_task, ("legal", "paper")),
    "or-gate": (make_gate_task, ("legal",)),
    "and-gate": (make_gate_task, ("legal",)),
}


def _program_spec(name: str) -> TaskSpec:
    make, data = _MAKERS.get(name, (make_program_task, ("legal",)))
    return TaskSpec(
        name=name,
        summary=bundled_program(name).description,
        model=name,
        metric="l2",
        ablation="zero",
        data=data,
        make=make,
        sample=lambda: _program_sample(name),
        fits=name,
    )


def _program_sample(name: str) -> tuple[str, str]:
    task = load_task(name)
    pairs, tokenizer = task.problem.pairs, task.problem.model.tokenizer
    assert tokenizer is not None, "bundled programs have one"
    clean, corrupted = (
        "" if rows is None else tokenizer.decode(rows[0][pairs.real[0]].tolist())
        for rows in (pairs.clean, pairs.corrupted)
    )
    return clean, corrupted


def _language_sample(name: str) -> tuple[str, str]:
    (example,) = examples(name, 1)
    return example.clean, example.corrupted


def _language_spec(name: str) -> TaskSpec:
    behaviour = BEHAVIOURS[name]
    return TaskSpec(
        name=name,
        summary=behaviour.summary,
        model=DEFAULT_MODEL,
        metric=behaviour.metric,
        ablation="corrupted",
        data=(),
        make=make_language_task,
        sample=lambda: _language_sample(name),
        fits=behaviour.fits,
        templates=tuple(behaviour.templates),
        corruptions={key: value.summary for key, value in behaviour.corruptions.items()},
    )


TASKS: dict[str, TaskSpec] = {
    **{name: _language_spec(name) for name in BEHAVIOURS},
    **{name: _program_spec(name) for name in PROGRAMS},
}


def list_tasks() -> list[str]:
    """The names of all tasks, those that installed packages offer last."""
    return [*TASKS, *custom_names()]


def task_spec(name: str) -> TaskSpec:
    """The entry of a task: one of ours, of an installed package, or of a Python file.

    Raises `UnknownName`, with suggestions, or `FormatError`.
    """
    known = name.replace("_", "-").lower()
    if known in TASKS:
        return TASKS[known]
    own = custom_spec(name)
    if own is None:
        raise unknown_name("task", name, [*TASKS, *custom_names()])
    return own


def load_task(
    name: str,
    model: Model | str | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    data: str | None = None,
    template: str | None = None,
    corruption: str | None = None,
    bos: bool | None = None,
    chat: bool = False,
    metric: str | Metric | None = None,
    ablation: str | Ablation | None = None,
) -> Task:
    """A named behaviour on a model, ready for discovery.

    `model` defaults to the one the task is made for. `n` prompts are drawn with `seed`; `data`
    picks the kind of prompts where a task has several (compiled programs of the paper: "legal"
    token ids, or the "paper"'s own). Language tasks have a choice of sentences (`template`), of
    ways to corrupt them (`corruption`), and of BOS before each prompt (`bos`), and of the
    tokenizer's chat template around it (`chat`); what the paper and the tokenizer do is the
    default. `metric` and `ablation` default to the task's. Raises `UnknownName`,
    `SettingError`, `ProblemError`.

    >>> load_task("tracr-reverse").published.n_edges
    15
    """
    spec = task_spec(name)
    for what, value in (("n", n), ("seed", seed)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise SettingError(f"{what} is {quoted(value)}; it must be a whole number.")
    check_seed(seed)
    chosen = {
        "data": _choice(spec, "kind of data", data, spec.data),
        "template": _choice(spec, "template", template, spec.templates),
        "corruption": _choice(spec, "corruption", corruption, spec.corruptions),
    }
    if (bos is not None or chat) and spec.make is not make_language_task:
        setting = "chat" if chat else "bos"
        raise SettingError(f"{spec.name} has no choice of {setting}; its prompts are as they are.")
    request = TaskRequest(
        spec, n, seed, metric=metric, ablation=ablation, bos=bos, chat=chat, **chosen
    )
    if not isinstance(model, Model):
        model = load_model(model or default_model(spec))
    return spec.make(model, request)


def default_model(spec: TaskSpec) -> str:
    """The model a task is asked of when none is named. Raises `SettingError` if there is none."""
    if TASKS.get(spec.name) is spec and spec.model not in BUNDLED:
        raise SettingError(
            f"{spec.name} needs a model: give one, such as 'gpt2', a folder, or a model in memory "
            f"with a tokenizer. ({spec.model!r}, its own, is not bundled here.)"
        )
    return spec.model


def _choice(spec: TaskSpec, what: str, name: str | None, known: Collection[str]) -> str:
    """The name, or the first there is; "" where a task has no such choice."""
    if known:
        return choice(f"{what} of {spec.name}", name, known)
    if name is not None:
        raise SettingError(f"{spec.name} has no choice of {what}; you asked for {name!r}.")
    return ""
