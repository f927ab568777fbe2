"""Greater-Than (Hanna et al. 2305.00586; spec 5.2).

"The war lasted from the year 1732 to 17" -> any two digits above 32. Ten tokens, the start year's
YY at index 7: a year is two tokens, its century " 17" (the span XX1; repeated at END) and "32".

Where a tokenizer cuts years in another way, the token that holds the tens digit is asked for. Digit
by digit, after "… to 17": right are digits above the tens digit, "4" to "9", wrong those below. In
groups of three, after "… to ": "174" to "179" are right, "170" to "172" wrong. The start year's own
token decides nothing there and is neither.
"""

from __future__ import annotations

from random import Random

from edgewise.errors import SettingError
from edgewise.tasks.language.behaviour import Filling, Pool, Words, behaviour, pick
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
_TENS = 3  # where " 1732" has its tens digit


def _cut(year: tuple[str, str], at: tuple[int, ...]) -> tuple[str, ...]:
    text = " " + "".join(year)
    return tuple(text[i:j] for i, j in zip((0, *at), (*at, len(text)), strict=True))


def _cut_years(at: tuple[int, ...]) -> Pool:
    """Years cut at these places; some tens digit is above theirs, and some below."""
    years = tuple((century, digits) for century in _CENTURIES for digits in DIGITS[10:90])
    return Pool(f"years cut at {at}", years, _YEARS.least, lambda year: (_cut(year, at),))


# Where " 1732" is cut, by preference: in two, by digits (the space apart or not), by threes.
_CUTS = {
    at: _YEARS if at == (3,) else _cut_years(at) for at in ((3,), (1, 2, 3, 4), (2, 3, 4), (1, 4))
}


def _readable_years(words: Words) -> tuple[tuple[int, ...], tuple[tuple[str, str], ...]]:
    """Where the tokenizer cuts years, and the years it so cuts. Raises `SettingError`."""
    for at, pool in _CUTS.items():
        usable = words.usable(pool)
        if len(usable) >= pool.least:
            if pool is _YEARS:  # without each century's first and last, as in the paper
                words[_DIGITS]
                by_century = [[y for y in usable if y[0] == century] for century in _CENTURIES]
                usable = tuple(year for years in by_century for year in years[1:-1])
            return at, usable
    ways = ", ".join(
        f"{'+'.join(map(repr, _cut(('17', '32'), at)))}: {len(words.usable(pool))}"
        for at, pool in _CUTS.items()
        if pool is not _YEARS
    )
    too_few = words.too_few(_YEARS)
    raise SettingError(f"{too_few} Years cut otherwise would do, but it has of {ways}.")


def _draw(rng: Random, words: Words, template: str) -> Filling:
    at, years = _readable_years(words)
    century, digits = rng.choice(years)
    start = max(k for k in at if k <= _TENS)
    stop = min(k for k in (*at, 5) if k > _TENS)
    tokens = dict.fromkeys(f" {century}{end}"[start:stop] for end in DIGITS)
    own = f" {century}{digits}"[start:stop]
    whole = stop == 5  # the start year itself is not later
    return Filling(
        {
            "noun": rng.choice(words[_EVENTS]),
            "XX1": century,
            "YY": digits,
            "END": f" {century}"[1:start],
        },
        answers=tuple(token for token in tokens if token > own),
        wrong=tuple(token for token in tokens if token < own or (whole and token == own)),
        # A token of three digits is in both of the words " 17" and "32".
        spans={"noun": (1,), "year": (6, 7), "END": (9,)} if start == 1 else None,
    )


def _random_year(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    """Another year of the century, with other answers."""
    at, years = _readable_years(words)
    century, digits = filling.slots["XX1"], filling.slots["YY"]
    others = tuple(y for c, y in years if c == century)
    shown = 2 if at == (3,) else 1
    return {"YY": pick(rng, others, *(y for y in others if y[:shown] == digits[:shown]))}


GREATER_THAN = behaviour(
    "greater-than",
    pools=(_EVENTS, _YEARS, _DIGITS),
    draw=_draw,
    changes={
        "01": lambda rng, words, filling: {"YY": "01"},
        "random-year": _random_year,
        "random-noun": lambda rng, words, f: {"noun": pick(rng, words[_EVENTS], f.slots["noun"])},
    },
)
