'''Docstring (Heimersheim and Janiak 2023; spec 5.3): the next argument that a docstring documents.

    def port(self, load, size, files, last, tag, node):
        """oil column piece

        :param files: crime
        …
        :param                                                    -> " tag" or whichever comes next

A function of six arguments; A, B and C are the third to fifth. A and B are documented, C is next.
With BOS 41 tokens, of tokenizers that read a line break and its indent as one (as GPT-NeoX does).
'''

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Change, Filling, Pool, Words, behaviour
from edgewise.tasks.language.words import NOUNS, VARIABLES

_VARIABLES = Pool("argument names", VARIABLES, least=15)
_NOUNS = Pool("nouns", NOUNS, least=4)
# The first word of a docstring has no space before it.
_FIRST = Pool("first words", NOUNS, 1, lambda noun: ((noun,),))


def _draw(rng: Random, words: Words, template: str) -> Filling:
    """Fifteen names in the paper's order of roles: eight for the prompt, seven to spare."""
    names = rng.sample(words[_VARIABLES], 15)
    method, new_answer, *rest = names
    new_def, new_doc, other_doc = rest[:3], rest[3:5], rest[5:7]
    a, b, c = rest[7:10]
    before, before2, behind = rest[10:]
    slots = {"method": method, "P_def": before, "Q_def": before2, "S_def": behind}
    slots |= {"A_def": a, "B_def": b, "C_def": c, "A_doc": a, "B_doc": b}
    slots["word1"] = rng.choice(words[_FIRST])
    slots |= {f"word{i}": word for i, word in enumerate(rng.sample(words[_NOUNS], 2), start=2)}
    for i in (4, 6):
        slots[f"word{i}"], slots[f"word{i + 1}"] = rng.sample(words[_NOUNS], 2)
    wrong = tuple(f" {name}" for name in names if name not in (c, method))
    spare = {"answer": new_answer, "def": new_def, "doc": new_doc, "other_doc": other_doc}
    return Filling(slots, (f" {c}",), wrong, spare=spare)


_DEF, _DOC = ("A_def", "B_def", "C_def"), ("A_doc", "B_doc")


def _spare(*kinds: tuple[str, tuple[str, ...]]) -> Change:
    def change(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
        new: dict[str, str] = {}
        for kind, slots in kinds:
            new |= dict(zip(slots, filling.spare[kind], strict=True))
        return new

    return change


def _shifted(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    """B and C are documented instead of A and B, so nothing is left to be next."""
    return {"A_doc": filling.slots["B_def"], "B_doc": filling.slots["C_def"]}


DOCSTRING = behaviour(
    "docstring",
    pools=(_VARIABLES, _NOUNS, _FIRST),
    draw=_draw,
    changes={
        "random-random": _spare(("def", _DEF), ("doc", _DOC)),
        "random-def": _spare(("def", _DEF)),
        "random-doc": _spare(("other_doc", _DOC)),
        "random-answer": lambda rng, words, filling: {"C_def": filling.spare["answer"]},
        "next": _shifted,
    },
)
