"""Capital cities, players of sports, two-digit addition: answers that are known or computed."""

from __future__ import annotations

from random import Random

from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError
from edgewise.tasks.language.behaviour import Change, Filling, Pool, Words, behaviour, pick
from edgewise.tasks.language.words import COUNTRIES, PLAYERS

_COUNTRIES = Pool("countries", COUNTRIES, 4, lambda pair: tuple((f" {name}",) for name in pair))


def _draw_capital(rng: Random, words: Words, template: str) -> Filling:
    (country, capital), (other, wrong) = rng.sample(words[_COUNTRIES], 2)
    return Filling({"country": country}, (f" {capital}",), (f" {wrong}",), spare={"other": other})


def _unrelated_country(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    names = tuple(country for country, _ in words[_COUNTRIES])
    return {"country": pick(rng, names, filling.slots["country"], filling.spare["other"])}


CAPITALS = behaviour(
    "capitals",
    pools=(_COUNTRIES,),
    draw=_draw_capital,
    changes={
        "other-country": lambda rng, words, filling: {"country": filling.spare["other"]},
        "unrelated-country": _unrelated_country,
    },
)

_PLAYERS = Pool(
    "players",
    PLAYERS,
    10,
    lambda pair: ((f" {pair[1]}",),),
    loose=lambda pair: spaced_words(f" {pair[0]}"),
)


def _draw_player(rng: Random, words: Words, template: str) -> Filling:
    """A player, and one of another sport whose name has as many tokens."""
    known = [(p, sport, words.length(f" {p}")) for p, sport in words[_PLAYERS]]
    known = [entry for entry in known if entry[2]]  # no tokens: words that the tokenizer lacks
    while known:
        player, sport, length = rng.choice(known)
        others = [p for p, s, n in known if n == length and s != sport]
        if others:
            sports = dict.fromkeys(s for _, s, _ in known)
            wrong = tuple(f" {s}" for s in sports if s != sport)
            return Filling(
                {"player": player}, (f" {sport}",), wrong, spare={"other": rng.choice(others)}
            )
        known = [entry for entry in known if entry[2] != length]
    raise SettingError("sports: the tokenizer knows no two players' names of equal length.")


SPORTS = behaviour(
    "sports",
    pools=(_PLAYERS,),
    draw=_draw_player,
    changes={"other-player": lambda rng, words, filling: {"player": filling.spare["other"]}},
)

_NUMBERS = tuple(str(number) for number in range(10, 100))
_NUMBER_POOL = Pool("two-digit numbers", _NUMBERS, 90, lambda digits: ((digits,),))
_DIGIT_POOL = Pool("pairs of digits", _NUMBERS, 90, lambda digits: (tuple(digits),))


def _draw_sum(rng: Random, words: Words, template: str) -> Filling:
    """Two numbers whose sum has two digits, and two other such numbers beside each of them.

    Where a tokenizer reads digit by digit, the next token is the sum's tens digit: that is asked.
    """
    by_digit = bool(words.usable(_DIGIT_POOL)) and not words.usable(_NUMBER_POOL)
    shown = 1 if by_digit else 2
    known = words[_DIGIT_POOL if by_digit else _NUMBER_POOL]
    while True:
        first = rng.randint(10, 89)
        second = rng.randint(10, 99 - first)
        others = (_others(first, second, shown), _others(second, first, shown))
        if all(others) or not by_digit:
            break
    answer = str(first + second)[:shown]
    slots = {"first": first, "second": second}
    spare = {
        slot: str(rng.choice(other) if other else slots[slot] + 1)
        for slot, other in zip(slots, others, strict=True)
    }
    wrong = dict.fromkeys(digits[:shown] for digits in known if digits[:shown] != answer)
    return Filling({k: str(v) for k, v in slots.items()}, (answer,), tuple(wrong), spare=spare)


def _others(part: int, partner: int, shown: int) -> list[int]:
    """Numbers that make a two-digit sum with the partner, whose first digits are others."""
    total = str(part + partner)[:shown]
    return [k for k in range(10, 100 - partner) if str(k + partner)[:shown] != total]


def _new(*slots: str) -> Change:
    return lambda rng, words, filling: {slot: filling.spare[slot] for slot in slots}


ADDITION = behaviour(
    "addition",
    pools=(_NUMBER_POOL,),
    draw=_draw_sum,
    changes={"second": _new("second"), "first": _new("first"), "both": _new("first", "second")},
)
