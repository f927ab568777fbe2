"""Prompts of a task to look at: clean and corrupted tokens beside each other, with their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from edgewise.data import NO_ANSWER, PromptPairs, Tokenizer
from edgewise.errors import SettingError
from edgewise.model import Model, load_model
from edgewise.tasks.language import BEHAVIOURS, Example, examples
from edgewise.tasks.registry import load_task, task_spec
from edgewise.tasks.task import Task


@dataclass(frozen=True)
class Sample:
    """One prompt as tokens; `spans` has a name or "" for each, `corrupted` may be empty."""

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    spans: tuple[str, ...]
    answer_at: tuple[int, ...]
    answers: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def changed(self) -> tuple[int, ...]:
        """Where the corrupted prompt differs."""
        pairs = zip(self.clean, self.corrupted, strict=False)
        return tuple(i for i, (clean, corrupted) in enumerate(pairs) if clean != corrupted)

    def to_json(self) -> dict[str, Any]:
        """The fields, and where the prompts differ."""
        return {**asdict(self), "changed": self.changed}


def samples(
    name: str,
    n: int,
    *,
    seed: int = 0,
    model: Model | str | None = None,
    data: str | None = None,
    **choices: Any,
) -> tuple[Sample, ...]:
    """`n` prompts of a task as tokens of `model`; language tasks need none, and then give words.

    `choices` are a template and a corruption. Fewer for a compiled program that has fewer. Raises
    `UnknownName`, `SettingError`, `ProblemError`, `ModelError`.

    >>> samples("ioi", 1)[0].changed
    (2, 4, 10)
    """
    behaviour = BEHAVIOURS.get(task_spec(name).name)
    if behaviour is not None and model is None and data is None:
        drawn = examples(behaviour.name, n, seed, **choices)
        return tuple(_of_example(example) for example in drawn)
    size = None if behaviour is None else n
    return samples_of(load_task(name, model, n=size, seed=seed, data=data, **choices))[:n]


def usual_task(name: str, n: int, model: Model | str | None, **choices: Any) -> Task:
    """A task with as many prompts as it usually has, or at least `n`: enough to judge a model by.

    Raises as `load_task` does.
    """
    behaviour = BEHAVIOURS.get(task_spec(name).name)
    loaded = load_model(model) if isinstance(model, str) else model
    if behaviour is None:
        return load_task(name, loaded, **choices)
    try:
        return load_task(name, loaded, n=max(n, behaviour.n), **choices)
    except SettingError:  # some templates have fewer prompts
        return load_task(name, loaded, n=n, **choices)


def samples_of(task: Task) -> tuple[Sample, ...]:
    """Every prompt of a task's problem, as tokens of its model."""
    pairs, tokenizer = task.problem.pairs, task.problem.model.tokenizer
    return tuple(_of_pair(pairs, i, tokenizer) for i in range(len(pairs)))


def _of_example(example: Example) -> Sample:
    names = {place: name for name, places in example.spans.items() for place in places}
    return Sample(
        clean=example.clean_words,
        corrupted=example.corrupted_words,
        spans=tuple(names.get(i, "") for i in range(len(example.clean_words))),
        answer_at=example.answer_at,
        answers=example.answers,
        wrong=example.wrong,
    )


def _of_pair(pairs: PromptPairs, i: int, tokenizer: Tokenizer | None) -> Sample:
    def texts(ids: Tensor | Sequence[int]) -> tuple[str, ...]:
        numbers = [int(k) for k in ids]
        return tuple(str(k) if tokenizer is None else tokenizer.decode([k]) for k in numbers)

    def positions(mask: Tensor) -> tuple[int, ...]:
        return tuple(mask[i][real].nonzero().flatten().tolist())

    real = pairs.real[i]
    names = {at: name for name, mask in (pairs.spans or {}).items() for at in positions(mask)}
    answers, wrong = (
        () if ids is None else texts(ids[i][ids[i] != NO_ANSWER])
        for ids in (pairs.answers, pairs.wrong)
    )
    return Sample(
        clean=texts(pairs.clean[i][real]),
        corrupted=() if pairs.corrupted is None else texts(pairs.corrupted[i][real]),
        spans=tuple(names.get(at, "") for at in range(int(real.sum()))),
        answer_at=positions(pairs.answer_at),
        answers=answers,
        wrong=wrong,
    )
