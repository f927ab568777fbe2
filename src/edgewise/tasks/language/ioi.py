"""Indirect object identification (Wang et al. 2211.00593; spec 5.1).

"Then, Mary and John went to the park. John gave a book to" -> " Mary". The name said once (IO) is
the answer, the one said twice (S1, S2) is not. `paper` is the one sentence of the ACDC paper's
code, 15 tokens; the family has fifteen sentences of several lengths. IO comes first in ABBA
prompts and second in BABA.
"""

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Change, Filling, Pool, Words, behaviour, pick
from edgewise.tasks.language.words import NAMES, OBJECTS, PLACES

_NAMES = Pool("names", NAMES, least=6)
_PLACES = Pool("places", PLACES, least=1)
_OBJECTS = Pool("objects", OBJECTS, least=1)


def _draw(rng: Random, words: Words, template: str) -> Filling:
    io, subject = rng.sample(words[_NAMES], 2)
    slots = {"IO": io, "S1": subject, "S2": subject}
    slots |= {"place": rng.choice(words[_PLACES]), "object": rng.choice(words[_OBJECTS])}
    return Filling(slots, (f" {io}",), (f" {subject}",))


def _new_names(*slots: str) -> Change:
    """A name for each of `slots`: different from each other and from the prompt's two."""

    def change(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
        taken = [filling.slots["IO"], filling.slots["S1"]]
        for _ in slots:
            taken.append(pick(rng, words[_NAMES], *taken))
        return dict(zip(slots, taken[2:], strict=True))

    return change


IOI = behaviour(
    "ioi",
    pools=(_NAMES, _PLACES, _OBJECTS),
    draw=_draw,
    changes={
        "abc": _new_names("IO", "S1", "S2"),
        "swap": lambda rng, words, filling: {"S2": filling.slots["IO"]},
        "order": lambda rng, words, f: {"IO": f.slots["S1"], "S1": f.slots["IO"]},
        "s2": _new_names("S2"),
        "s1": _new_names("S1"),
        "io": _new_names("IO"),
    },
)
