"""Greater-Than (Hanna et al. 2305.00586; spec 5.2).

"The war lasted from the year 1732 to 17" -> any two digits above 32. Ten tokens, the start year's
YY at index 7: a year is two tokens, its century " 17" (the span XX1; repeated at END) and "32".
"""

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Behaviour, Corruption, Filling, Pool, Words, pick
from edgewise.tasks.language.template import Template
from edgewise.tasks.language.words import EVENTS

_CENTURIES = tuple(str(century) for century in range(11, 18))
DIGITS = tuple(f"{number:02}" for number in range(100))

_EVENTS = Pool("events", EVENTS, least=1)
_DIGITS = Pool("two-digit numbers", DIGITS, 100, lambda digits: ((digits,),))
_YEARS = Pool(
    "years from 1102 to 1798",
    tuple((century, digits) for century in _CENTURIES for digits in DIGITS[2:99]),
    30,
    lambda year: ((f" {year[0]}", year[1]),),
)


def _valid_years(words: Words) -> tuple[tuple[str, str], ...]:
    """Years that are two tokens, without each century's first and last, as in the paper."""
    by_century = [[y for y in words[_YEARS] if y[0] == century] for century in _CENTURIES]
    return tuple(year for years in by_century for year in years[1:-1])


def _draw(rng: Random, words: Words, template: str) -> Filling:
    century, digits = rng.choice(_valid_years(words))
    known = words[_DIGITS]
    return Filling(
        {"noun": rng.choice(words[_EVENTS]), "XX1": century, "YY": digits, "END": century},
        answers=tuple(d for d in known if d > digits),
        wrong=tuple(d for d in known if d <= digits),
    )


def _random_year(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    century, digits = filling.slots["XX1"], filling.slots["YY"]
    others = tuple(y for c, y in _valid_years(words) if c == century)
    return {"YY": pick(rng, others, digits)}


GREATER_THAN = Behaviour(
    name="greater-than",
    summary="ends a period in a year after the one it began in",
    metric="prob-diff",
    templates={"paper": (Template("The {noun} lasted from the year {XX1}{YY} to {END}"),)},
    pools=(_EVENTS, _YEARS, _DIGITS),
    draw=_draw,
    corruptions={
        "01": Corruption(
            "YY becomes 01 (the paper's)", ("YY",), lambda rng, words, filling: {"YY": "01"}
        ),
        "random-year": Corruption("YY becomes another year's", ("YY",), _random_year),
        "random-noun": Corruption(
            "another noun: a control, the years stay",
            ("noun",),
            lambda rng, words, f: {"noun": pick(rng, words[_EVENTS], f.slots["noun"])},
        ),
    },
    fits="GPT-2 small (paper); tokenizers with two-digit tokens",
)
