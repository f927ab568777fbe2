'''Copying: the answer is a word of the prompt, and another word there is not.

IOI, indirect object identification (Wang et al. 2211.00593; spec 5.1): "Then, Mary and John went to
the park. John gave a book to" -> " Mary". The name said once (IO) is the answer, the one said twice
(S1, S2) is not. `paper` is the one sentence of the ACDC paper's code, 15 tokens; the family has
fifteen sentences of several lengths. IO comes first in ABBA prompts and second in BABA.

Colours of objects (after Merullo et al. 2310.08744): "On the table there is a red pen, a blue cup
and a green book. The cup is" -> " blue". Like IOI, but three colours may be copied, and each of
them has been said once.

Docstring (Heimersheim and Janiak 2023; spec 5.3), the next argument that a docstring documents:

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

from edgewise.tasks.language.behaviour import Change, Filling, Pool, Words, behaviour, pick, picks
from edgewise.tasks.language.words import (
    COLOURED,
    COLOURS,
    NAMES,
    NOUNS,
    OBJECTS,
    PLACES,
    VARIABLES,
)

_NAMES = Pool("names", NAMES, least=6)
_PLACES = Pool("places", PLACES, least=1)
_OBJECTS = Pool("objects", OBJECTS, least=1)


def _draw_names(rng: Random, words: Words, template: str) -> Filling:
    io, subject = rng.sample(words[_NAMES], 2)
    slots = {"IO": io, "S1": subject, "S2": subject}
    slots |= {"place": rng.choice(words[_PLACES]), "object": rng.choice(words[_OBJECTS])}
    changes = {"swap": {"S2": io}, "order": {"IO": subject, "S1": io}}
    return Filling(slots, (f" {io}",), (f" {subject}",), changes=changes)


def _new_names(*slots: str) -> Change:
    """A name for each of `slots`: different from each other and from the prompt's two."""

    def change(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
        taken = filling.slots["IO"], filling.slots["S1"]
        return dict(zip(slots, picks(rng, words[_NAMES], len(slots), *taken), strict=True))

    return change


IOI = behaviour(
    "ioi",
    pools=(_NAMES, _PLACES, _OBJECTS),
    draw=_draw_names,
    changes={
        "abc": _new_names("IO", "S1", "S2"),
        "s2": _new_names("S2"),
        "s1": _new_names("S1"),
        "io": _new_names("IO"),
    },
)


_COLOURS = Pool("colours", COLOURS, least=6)
_COLOURED = Pool("objects to colour", COLOURED, least=4)
_COLOUR_SLOTS = ("colour1", "colour2", "colour3")


def _draw_colours(rng: Random, words: Words, template: str) -> Filling:
    colours, objects = rng.sample(words[_COLOURS], 3), rng.sample(words[_COLOURED], 3)
    nth = rng.randrange(3)
    slots = dict(zip(_COLOUR_SLOTS, colours, strict=True))
    slots |= {f"object{i}": word for i, word in enumerate(objects, start=1)}
    slots["asked"] = objects[nth]
    wrong = tuple(f" {colour}" for i, colour in enumerate(colours) if i != nth)
    spare = {"colours": colours, "objects": objects}
    return Filling(slots, (f" {colours[nth]}",), wrong, spare=spare)


def _other_object(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    return {"asked": pick(rng, filling.spare["objects"], filling.slots["asked"])}


def _absent_object(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    return {"asked": pick(rng, words[_COLOURED], *filling.spare["objects"])}


def _other_colours(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    new = picks(rng, words[_COLOURS], len(_COLOUR_SLOTS), *filling.spare["colours"])
    return dict(zip(_COLOUR_SLOTS, new, strict=True))


COLOURED_OBJECTS = behaviour(
    "colours",
    pools=(_COLOURS, _COLOURED),
    draw=_draw_colours,
    changes={
        "other-object": _other_object,
        "absent-object": _absent_object,
        "other-colours": _other_colours,
    },
)


_VARIABLES = Pool("argument names", VARIABLES, least=15)
_NOUNS = Pool("nouns", NOUNS, least=4)
# The first word of a docstring has no space before it.
_FIRST = Pool("first words", NOUNS, 1, lambda noun: ((noun,),))


def _draw_arguments(rng: Random, words: Words, template: str) -> Filling:
    """Fifteen names in the paper's order of roles: eight for the prompt, seven to spare.

    Where B and C are documented instead of A and B, nothing is left to be next.
    """
    names = rng.sample(words[_VARIABLES], 15)
    method, new_answer, *new = names[:9]
    a, b, c, before, before2, behind = names[9:]
    slots = {"method": method, "P_def": before, "Q_def": before2, "S_def": behind}
    slots |= {"A_def": a, "B_def": b, "C_def": c, "A_doc": a, "B_doc": b}
    slots["word1"] = rng.choice(words[_FIRST])
    slots |= {f"word{i}": word for i, word in enumerate(rng.sample(words[_NOUNS], 2), start=2)}
    for i in (4, 6):
        slots[f"word{i}"], slots[f"word{i + 1}"] = rng.sample(words[_NOUNS], 2)
    wrong = tuple(f" {name}" for name in names if name not in (c, method))
    new_def = dict(zip(("A_def", "B_def", "C_def"), new[:3], strict=True))
    new_doc, other_doc = ({"A_doc": new[i], "B_doc": new[i + 1]} for i in (3, 5))
    changes = {
        "random-random": new_def | new_doc,
        "random-def": new_def,
        "random-doc": other_doc,
        "random-answer": {"C_def": new_answer},
        "next": {"A_doc": b, "B_doc": c},
    }
    return Filling(slots, (f" {c}",), wrong, changes=changes)


DOCSTRING = behaviour("docstring", pools=(_VARIABLES, _NOUNS, _FIRST), draw=_draw_arguments)
