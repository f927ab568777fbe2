"""Colours of objects (after Merullo et al. 2310.08744): which colour was the object asked for?

"On the table there is a red pen, a blue cup and a green book. The cup is" -> " blue". A copying
task like IOI, but three colours may be copied, and each of them has been said once.
"""

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Filling, Pool, Words, behaviour, pick
from edgewise.tasks.language.words import COLOURED, COLOURS

_COLOURS = Pool("colours", COLOURS, least=6)
_OBJECTS = Pool("objects to colour", COLOURED, least=4)
_COLOUR_SLOTS = ("colour1", "colour2", "colour3")


def _draw(rng: Random, words: Words, template: str) -> Filling:
    colours, objects = rng.sample(words[_COLOURS], 3), rng.sample(words[_OBJECTS], 3)
    nth = rng.randrange(3)
    slots = dict(zip(_COLOUR_SLOTS, colours, strict=True))
    slots |= {f"object{i}": word for i, word in enumerate(objects, start=1)}
    slots["asked"] = objects[nth]
    wrong = tuple(f" {colour}" for i, colour in enumerate(colours) if i != nth)
    spare = {"colours": colours, "objects": objects}
    return Filling(slots, (f" {colours[nth]}",), wrong, spare=spare)


def _other_object(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    return {"asked": pick(rng, tuple(filling.spare["objects"]), filling.slots["asked"])}


def _absent_object(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    return {"asked": pick(rng, words[_OBJECTS], *filling.spare["objects"])}


def _other_colours(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    taken = list(filling.spare["colours"])
    for _ in _COLOUR_SLOTS:
        taken.append(pick(rng, words[_COLOURS], *taken))
    return dict(zip(_COLOUR_SLOTS, taken[3:], strict=True))


COLOURED_OBJECTS = behaviour(
    "colours",
    pools=(_COLOURS, _OBJECTS),
    draw=_draw,
    changes={
        "other-object": _other_object,
        "absent-object": _absent_object,
        "other-colours": _other_colours,
    },
)
