"""Sentences beside the tasks: contexts in which every name and noun is met, whatever is held out.

They say a name's gender ("her", "his") without he or she, and a noun's number ("two", "every")
without a verb that agrees, so that a name held out from the pronoun task, or a noun from agreement,
is a known word in a question never asked.
"""

from __future__ import annotations

from random import Random

from edgewise.tasks.language import words as lists

_ONE, _SEVERAL = ("this", "every", "one"), ("two", "many", "these", "several")
_NAMED = (
    "{name} lost {her} {object}.",
    "{name} found {her} {object} in the {place}.",
    "At the {place}, {name} met {her} {role}.",
    "{name} went to the {place} with {her} {role}.",
    "Yesterday {name} sold {her} {object}.",
)
_COUNTED = (
    "In the {place} we saw {count} {noun}.",
    "We liked {count} {noun}.",
    "Last week {count} {noun} came.",
    "Everyone talked about {count} {noun}.",
    "{other} {noun2} and {count} {noun}.",
)
_DATED = (
    "The {event} began in the year {century}{digits}.",
    "The {event} of {century}{digits} was a success.",
    "In {century}{digits}, the {event} began.",
)
_COLOURED = "The {thing} is {colour}."


def sentence(rng: Random) -> str:
    """A random sentence."""
    kind = rng.randrange(10)
    place, event = rng.choice(lists.PLACES), rng.choice(lists.EVENTS)
    if kind < 4:
        return named(rng)
    if kind < 8:
        (count, noun), (other, noun2) = _counted(rng), _counted(rng)
        text = rng.choice(_COUNTED).format(
            place=place, count=count, noun=noun, other=other, noun2=noun2
        )
        return text[0].upper() + text[1:]
    if kind < 9:
        century, digits = rng.randrange(11, 18), f"{rng.randrange(100):02}"
        return rng.choice(_DATED).format(event=event, century=century, digits=digits)
    return _COLOURED.format(thing=rng.choice(lists.COLOURED), colour=rng.choice(lists.COLOURS))


def named(rng: Random) -> str:
    """A sentence about one person."""
    name = rng.choice(lists.NAMES)
    return rng.choice(_NAMED).format(
        name=name,
        her="her" if name in lists.FEMALE_NAMES else "his",
        object=rng.choice(lists.OBJECTS),
        place=rng.choice(lists.PLACES),
        role=rng.choice(lists.PRAISED),
    )


def _counted(rng: Random) -> tuple[str, str]:
    number = rng.randrange(2)
    return rng.choice((_ONE, _SEVERAL)[number]), rng.choice(lists.COUNTED)[number]
