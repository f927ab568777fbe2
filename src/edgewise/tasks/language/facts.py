"""Capital cities, players of sports, two-digit addition: answers that are known or computed."""

from __future__ import annotations

from random import Random

from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError
from edgewise.tasks.language.behaviour import Behaviour, Corruption, Filling, Pool, Words, pick
from edgewise.tasks.language.template import Template
from edgewise.tasks.language.words import COUNTRIES, PLAYERS

_COUNTRIES = Pool("countries", COUNTRIES, 4, lambda pair: tuple((f" {name}",) for name in pair))


def _draw_capital(rng: Random, words: Words, template: str) -> Filling:
    (country, capital), (other, wrong) = rng.sample(words[_COUNTRIES], 2)
    return Filling({"country": country}, (f" {capital}",), (f" {wrong}",), spare={"other": other})


def _unrelated_country(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    names = tuple(country for country, _ in words[_COUNTRIES])
    return {"country": pick(rng, names, filling.slots["country"], filling.spare["other"])}


CAPITALS = Behaviour(
    name="capitals",
    summary="names a country's capital",
    metric="logit-diff",
    templates={
        "family": (
            Template("The capital of {country} is"),
            Template("The capital city of {country} is called"),
            Template("Everyone knows that the capital of {country} is"),
            Template("We flew to {country} and stayed in its capital,"),
            Template("The government of {country} sits in"),
            Template("In {country}, the largest museums are in"),
            Template("The embassy in {country} is in the city of"),
            Template("The president of {country} gave a speech in the capital,"),
        ),
        "plain": (Template("The capital of {country} is"),),
    },
    pools=(_COUNTRIES,),
    draw=_draw_capital,
    corruptions={
        "other-country": Corruption(
            "another country, whose capital is the wrong answer",
            ("country",),
            lambda rng, words, filling: {"country": filling.spare["other"]},
        ),
        "unrelated-country": Corruption(
            "a third country, whose capital is neither answer", ("country",), _unrelated_country
        ),
    },
    n=20,
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


SPORTS = Behaviour(
    name="sports",
    summary="names the sport that a player plays",
    metric="logit-diff",
    templates={
        "fact": (Template("Fact: {player} plays the sport of"),),
        "family": (
            Template("Fact: {player} plays the sport of"),
            Template("Everyone knows that {player} is a star of"),
            Template("The name {player} stands for the sport of"),
            Template("We saw {player} on a poster about"),
        ),
    },
    pools=(_PLAYERS,),
    draw=_draw_player,
    corruptions={
        "other-player": Corruption(
            "a player of another sport, whose name has as many tokens",
            ("player",),
            lambda rng, words, filling: {"player": filling.spare["other"]},
        ),
    },
    n=10,
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


def _new(*slots: str) -> Corruption:
    summary = " and ".join(slots) + " become" + ("s" if len(slots) == 1 else "")
    return Corruption(
        f"{summary} another number" if len(slots) == 1 else f"{summary} other numbers",
        slots,
        lambda rng, words, filling: {slot: filling.spare[slot] for slot in slots},
    )


ADDITION = Behaviour(
    name="addition",
    summary="adds two numbers of two digits",
    metric="logit-diff",
    templates={
        "plain": (Template("{first}+{second}="),),
        "shown": (Template("11+12=23,{first}+{second}="),),
    },
    pools=(_NUMBER_POOL,),
    draw=_draw_sum,
    corruptions={
        "second": _new("second"),
        "first": _new("first"),
        "both": _new("first", "second"),
    },
    fits="tokenizers that read numbers by two digits, or by one",
)
