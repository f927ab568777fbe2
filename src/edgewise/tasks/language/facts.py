"""Answers that are known or computed: capital cities, sports, sums; gender and number.

For pronouns and subject-verb agreement the answer is settled by one earlier word."""

from __future__ import annotations

from random import Random

from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError
from edgewise.tasks.language.behaviour import Filling, Pool, Words, behaviour, pick
from edgewise.tasks.language.words import (
    COUNTED,
    COUNTRIES,
    FEMALE_NAMES,
    MALE_NAMES,
    PLAYERS,
    PRAISED,
    PRAISES,
)

_COUNTRIES = Pool("countries", COUNTRIES, 4, lambda pair: tuple((f" {name}",) for name in pair))


def _draw_capital(rng: Random, words: Words, template: str) -> Filling:
    (country, capital), (other, wrong) = rng.sample(words[_COUNTRIES], 2)
    changes = {"other-country": {"country": other}}
    return Filling({"country": country}, (f" {capital}",), (f" {wrong}",), changes=changes)


def _unrelated_country(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    names = [country for country, _ in words[_COUNTRIES]]
    other = filling.changes["other-country"]["country"]
    return {"country": pick(rng, names, filling.slots["country"], other)}


CAPITALS = behaviour(
    "capitals",
    pools=(_COUNTRIES,),
    draw=_draw_capital,
    changes={"unrelated-country": _unrelated_country},
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
            changes = {"other-player": {"player": rng.choice(others)}}
            return Filling({"player": player}, (f" {sport}",), wrong, changes=changes)
        known = [entry for entry in known if entry[2] != length]
    raise SettingError("sports: the tokenizer knows no two players' names of equal length.")


SPORTS = behaviour("sports", pools=(_PLAYERS,), draw=_draw_player)

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
    new = [
        str(rng.choice(other) if other else part + 1)
        for part, other in zip((first, second), others, strict=True)
    ]
    both = dict(zip(("first", "second"), new, strict=True))
    changes = {"both": both, **{slot: {slot: number} for slot, number in both.items()}}
    wrong = dict.fromkeys(digits[:shown] for digits in known if digits[:shown] != answer)
    slots = {"first": str(first), "second": str(second)}
    return Filling(slots, (answer,), tuple(wrong), changes=changes)


def _others(part: int, partner: int, shown: int) -> list[int]:
    """Numbers that make a two-digit sum with the partner, whose first digits are others."""
    total = str(part + partner)[:shown]
    return [k for k in range(10, 100 - partner) if str(k + partner)[:shown] != total]


ADDITION = behaviour("addition", pools=(_NUMBER_POOL,), draw=_draw_sum)


_FEMALE = Pool("names of women", FEMALE_NAMES, least=2)
_MALE = Pool("names of men", MALE_NAMES, least=2)
_PRAISED = Pool("roles", PRAISED, least=1)
_PRAISES = Pool("adjectives", PRAISES, least=1)
_PRONOUNS = Pool("pronouns", ("he", "she"), least=2)
_NEUTRAL = Pool("names of nobody", ("someone",), least=1)


def _draw_pronoun(rng: Random, words: Words, template: str) -> Filling:
    is_woman = rng.random() < 0.5
    own, other = (_FEMALE, _MALE) if is_woman else (_MALE, _FEMALE)
    right, wrong = (" she", " he") if is_woman else (" he", " she")
    slots = {"name": rng.choice(words[own]), "role": rng.choice(words[_PRAISED])}
    slots["adjective"] = rng.choice(words[_PRAISES])
    return Filling(slots, (right,), (wrong,), spare={"own": own, "other": other})


PRONOUNS = behaviour(
    "pronouns",
    pools=(_FEMALE, _MALE, _PRAISED, _PRAISES, _PRONOUNS, _NEUTRAL),
    draw=_draw_pronoun,
    changes={
        "other-gender": lambda rng, words, f: {"name": rng.choice(words[f.spare["other"]])},
        "neutral": lambda rng, words, f: {"name": words[_NEUTRAL][0]},
        "same-gender": lambda rng, words, f: {
            "name": pick(rng, words[f.spare["own"]], f.slots["name"])
        },
    },
)


_COUNTED = Pool("nouns with a plural", COUNTED, 4, lambda pair: tuple((f" {n}",) for n in pair))
_VERBS = ((" is", " are"), (" was", " were"), (" has", " have"))
_VERB_POOL = Pool("verbs", _VERBS, 3, lambda pair: tuple((verb,) for verb in pair))


def _draw_agreement(rng: Random, words: Words, template: str) -> Filling:
    """Subject and attractor, each singular (0) or plural (1)."""
    subject, attractor = rng.sample(words[_COUNTED], 2)
    number, other = rng.randrange(2), rng.randrange(2)
    answers, wrong = (tuple(pair[k] for pair in words[_VERB_POOL]) for k in (number, 1 - number))
    slots = {"subject": subject[number], "attractor": attractor[other]}
    changes = {
        "number": {"subject": subject[1 - number]},
        "attractor": {"attractor": attractor[1 - other]},
    }
    spare = {"taken": (subject, attractor), "number": number}
    return Filling(slots, answers, wrong, spare=spare, changes=changes)


def _other_subject(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    noun = pick(rng, words[_COUNTED], *filling.spare["taken"])
    return {"subject": noun[filling.spare["number"]]}


AGREEMENT = behaviour(
    "agreement",
    pools=(_COUNTED, _VERB_POOL),
    draw=_draw_agreement,
    changes={"other-subject": _other_subject},
)
