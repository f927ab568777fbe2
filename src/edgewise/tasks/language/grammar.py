"""Gendered pronouns and subject-verb agreement: the answer is settled by one earlier word."""

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Filling, Pool, Words, behaviour, pick
from edgewise.tasks.language.words import COUNTED, FEMALE_NAMES, MALE_NAMES, PRAISED, PRAISES

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
    spare = {"subject": subject, "attractor": attractor, "numbers": (number, other)}
    return Filling(slots, answers, wrong, spare=spare)


def _flip(slot: str, filling: Filling) -> dict[str, str]:
    number = filling.spare["numbers"][slot == "attractor"]
    return {slot: filling.spare[slot][1 - number]}


def _other_subject(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
    taken = filling.spare["subject"], filling.spare["attractor"]
    return {"subject": pick(rng, words[_COUNTED], *taken)[filling.spare["numbers"][0]]}


AGREEMENT = behaviour(
    "agreement",
    pools=(_COUNTED, _VERB_POOL),
    draw=_draw_agreement,
    changes={
        "number": lambda rng, words, filling: _flip("subject", filling),
        "attractor": lambda rng, words, filling: _flip("attractor", filling),
        "other-subject": _other_subject,
    },
)
