"""Every task by its name: those that come with Edgewise, a Python file's, an installed package's.

A file defines `TASK`, a `TaskSpec`; `own_task` makes one from a function that returns prompt pairs.
A package offers the same object as an entry point of the group "edgewise.tasks".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from edgewise import plugins
from edgewise.arguments import check_seed
from edgewise.data import PromptPairs
from edgewise.errors import FormatError, ProblemError, SettingError, quoted, unknown_name
from edgewise.metrics import Metric
from edgewise.model import BUNDLED, Model, load_model
from edgewise.model.bundled import PROGRAMS, bundled_program
from edgewise.patching import Ablation
from edgewise.tasks.language import BEHAVIOURS, examples
from edgewise.tasks.language.behaviour import choice
from edgewise.tasks.language.language_task import DEFAULT_MODEL, make_language_task
from edgewise.tasks.programs import make_program_task
from edgewise.tasks.task import Task, TaskRequest, TaskSpec, task_of

_OF_PAPER = ("tracr-reverse", "tracr-xproportion")  # whose prompts the paper has as well


def _program_spec(name: str) -> TaskSpec:
    def sample() -> tuple[str, str]:
        problem = load_task(name).problem
        return _first_pair(problem.model, problem.pairs)

    return TaskSpec(
        name=name,
        summary=bundled_program(name).description,
        model=name,
        metric="l2",
        ablation="zero",
        data=("legal", "paper") if name in _OF_PAPER else ("legal",),
        make=make_program_task,
        sample=sample,
        fits=name,
    )


def _language_spec(name: str) -> TaskSpec:
    def sample() -> tuple[str, str]:
        (example,) = examples(name, 1)
        return example.clean, example.corrupted

    behaviour = BEHAVIOURS[name]
    return TaskSpec(
        name=name,
        summary=behaviour.summary,
        model=DEFAULT_MODEL,
        metric=behaviour.metric,
        ablation="corrupted",
        data=(),
        make=make_language_task,
        sample=sample,
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


def custom_names() -> list[str]:
    """The names of the tasks that installed packages offer."""
    return plugins.offered(plugins.TASKS)


def is_task_file(name: object) -> bool:
    """Whether a task's name is a Python file, which is run to load the task."""
    return isinstance(name, str) and name.endswith(".py")


def task_spec(name: str) -> TaskSpec:
    """The entry of a task: one of ours, of an installed package, or of a Python file.

    Raises `UnknownName`, with suggestions, `FormatError` for a file that does not give a task,
    `SettingError` for such a package.
    """
    known = name.replace("_", "-").lower()
    if known in TASKS:
        return TASKS[known]
    if is_task_file(name):
        name = str(Path(name).resolve())
        module = plugins.run_file(Path(name))
        if not hasattr(module, "TASK"):
            raise FormatError(
                f"{name}: it defines no TASK. Make one: TASK = edgewise.tasks.own_task(pairs, …), "
                "with a function pairs(model, n, seed)."
            )
        offer: tuple[Any, str] | None = (module.TASK, name)
    else:
        offer = plugins.entry_point(plugins.TASKS, name)
    if offer is None:
        raise unknown_name("task", name, list_tasks())
    spec, where = offer
    if not isinstance(spec, TaskSpec):
        raise FormatError(
            f"{where}: TASK is a {type(spec).__name__}; it must be a TaskSpec, such as "
            "edgewise.tasks.own_task makes."
        )
    return _recorded(spec, name)


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
    if (bos is not None or chat) and spec.make is not make_language_task:
        setting = "chat" if chat else "bos"
        raise SettingError(f"{spec.name} has no choice of {setting}; its prompts are as they are.")
    request = TaskRequest(
        spec,
        n,
        seed,
        data=_choice(spec, "kind of data", data, spec.data),
        template=_choice(spec, "template", template, spec.templates),
        corruption=_choice(spec, "corruption", corruption, spec.corruptions),
        metric=metric,
        ablation=ablation,
        bos=bos,
        chat=chat,
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


# --- tasks of a user's own


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
        return _first_pair(loaded, pairs(loaded, 2, 0))

    return TaskSpec(
        name=name,
        summary=summary,
        model=model,
        metric=metric,
        ablation=ablation,
        data=("pairs",),  # the one kind that such a task has
        make=make,
        sample=sample,
        fits=fits or model,
    )


def _halves(name: str, drawn: object, n: int) -> list[PromptPairs]:
    """The first `n` prompts and as many others, which must be new; a single pair alone."""
    if not isinstance(drawn, PromptPairs):
        raise SettingError(
            f"the pairs of {name} are a {type(drawn).__name__}; its function must return "
            "PromptPairs."
        )
    half = min(n, max(1, len(drawn) // 2))
    rows = zip(drawn.clean, drawn.real, strict=True)
    prompts = [tuple(row[real].tolist()) for row, real in rows][: 2 * half]
    faults = [
        f"pair {half + i} has the clean prompt of pair {prompts.index(prompt)}; the second half is "
        "held out, and must be new."
        for i, prompt in enumerate(prompts[half:])
        if prompt in prompts[:half]
    ]
    if faults:
        raise ProblemError(f"task {name}", faults)
    return [drawn.subset(start, start + half) for start in (0, half) if start < len(drawn)]


def _first_pair(model: Model, pairs: PromptPairs) -> tuple[str, str]:
    """The first pair as text; as ids where the model has no tokenizer."""

    def text(row: Tensor) -> str:
        ids = row[pairs.real[0]].tolist()
        return str(ids) if model.tokenizer is None else model.tokenizer.decode(ids)

    return text(pairs.clean[0]), "" if pairs.corrupted is None else text(pairs.corrupted[0])
