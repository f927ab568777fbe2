"""Language tasks. The text comes first and needs no tokenizer, model or torch:

    from edgewise.tasks.language import examples, vocabulary

    examples("ioi", 3, seed=0, split="train")    # records: .clean .corrupted .answers .wrong .spans
    vocabulary()                                 # every word that any task can emit

Words keep their leading space, so a text is its words joined; a tokenizer that always takes the
longest word of `vocabulary()` cuts every text into exactly the words of its record.
"""

from __future__ import annotations

from random import Random

from edgewise.arguments import check_choice
from edgewise.errors import SettingError, unknown_name
from edgewise.tasks.language.behaviour import (
    SPLITS,
    Behaviour,
    Corruption,
    Example,
    Words,
    choice,
    split_of,
)
from edgewise.tasks.language.copying import COLOURED_OBJECTS, DOCSTRING, IOI
from edgewise.tasks.language.facts import ADDITION, AGREEMENT, CAPITALS, PRONOUNS, SPORTS
from edgewise.tasks.language.greater_than import GREATER_THAN
from edgewise.tasks.language.induction import INDUCTION

__all__ = [
    "BEHAVIOURS",
    "SPLITS",
    "Behaviour",
    "Corruption",
    "Example",
    "Words",
    "behaviour_named",
    "examples",
    "split_of",
    "vocabulary",
]

BEHAVIOURS: dict[str, Behaviour] = {
    behaviour.name: behaviour
    for behaviour in (
        IOI,
        GREATER_THAN,
        DOCSTRING,
        INDUCTION,
        PRONOUNS,
        AGREEMENT,
        CAPITALS,
        ADDITION,
        COLOURED_OBJECTS,
        SPORTS,
    )
}


def behaviour_named(name: str) -> Behaviour:
    """A language task as text. Raises `UnknownName`."""
    known = name.replace("_", "-").lower()
    if known not in BEHAVIOURS:
        raise unknown_name("language task", name, BEHAVIOURS)
    return BEHAVIOURS[known]


def examples(
    task_name: str,
    n: int,
    seed: int = 0,
    *,
    split: str = "validation",
    template: str | None = None,
    corruption: str | None = None,
    words: Words | None = None,
) -> tuple[Example, ...]:
    """`n` different prompts of a task with their corrupted prompts, as text.

    The splits `train`, `validation` and `test` are disjoint for all seeds. `template` and
    `corruption` default to the paper's; one seed gives the same clean prompts under every
    corruption. `words` may refuse some, for a tokenizer. Raises `UnknownName`, `SettingError`.

    >>> examples("greater-than", 1, seed=0)[0].clean_words[:3]
    ('The', ...)
    """
    behaviour, words = behaviour_named(task_name), words or Words()
    check_choice("split", split, SPLITS)
    if n < 1:
        raise SettingError(f"asked for {n} prompts; a task needs at least 1.")
    template = choice(f"template of {behaviour.name}", template, behaviour.templates)
    corruption = choice(f"corruption of {behaviour.name}", corruption, behaviour.corruptions)
    # Two streams: the same seed gives the same clean prompts under every corruption.
    rng, noise = Random(seed), Random(f"{seed} {corruption}")
    drawn: dict[str, Example] = {}
    tries = 0
    while len(drawn) < n and tries < 200 + 40 * n:
        tries += 1
        example = behaviour.example(words, rng, noise, template=template, corruption=corruption)
        if split_of(example.clean) == split:
            drawn.setdefault(example.clean, example)
    if len(drawn) < n:
        raise SettingError(
            f"asked for {n} prompts of {behaviour.name}; its {split} split gave {len(drawn)} "
            f"different ones in {tries} draws. Ask for at most {len(drawn)}."
        )
    return tuple(drawn.values())


def vocabulary(*task_names: str) -> tuple[str, ...]:
    """Every word that the tasks (default: all) can emit in prompts and answers, sorted."""
    names = task_names or tuple(BEHAVIOURS)
    return tuple(sorted({w for name in names for w in behaviour_named(name).vocabulary()}))
