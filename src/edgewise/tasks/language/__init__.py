"""Language tasks. The text comes first and needs no tokenizer, model or torch:

    from edgewise.tasks.language import examples, vocabulary

    examples("ioi", 3, seed=0, split="train")    # records: .clean .corrupted .answers .wrong .spans
    vocabulary()                                 # every word that any task can emit

Words keep their leading space, so a text is its words joined; a tokenizer that always takes the
longest word of `vocabulary()` cuts every text into exactly the words of its record.
"""

from __future__ import annotations

from edgewise.errors import unknown_name
from edgewise.tasks.language.behaviour import (
    SPLITS,
    Behaviour,
    Corruption,
    Example,
    Fits,
    Words,
    draw_examples,
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
    fits: Fits | None = None,
) -> tuple[Example, ...]:
    """`n` different prompts of a task with their corrupted prompts, as text.

    The splits `train`, `validation` and `test` are disjoint for all seeds. `template` and
    `corruption` default to the paper's; one seed gives the same clean prompts under every
    corruption. `fits((" Mary",))` may refuse words: a run of words that must stand in the prompt as
    one token each. Raises `UnknownName`, `SettingError`.

    >>> examples("greater-than", 1, seed=0)[0].clean_words[:3]
    ('The', ...)
    """
    words = Words(fits, reader="the filter given")
    return draw_examples(
        behaviour_named(task_name),
        words,
        n,
        seed=seed,
        split=split,
        template=template,
        corruption=corruption,
    )


def vocabulary(*task_names: str) -> tuple[str, ...]:
    """Every word that the tasks (default: all) can emit in prompts and answers, sorted."""
    names = task_names or tuple(BEHAVIOURS)
    return tuple(sorted({w for name in names for w in behaviour_named(name).vocabulary()}))
