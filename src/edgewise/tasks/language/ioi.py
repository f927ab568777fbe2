"""Indirect object identification (Wang et al. 2211.00593; spec 5.1).

"Then, Mary and John went to the park. John gave a book to" -> " Mary". The name said once (IO) is
the answer, the one said twice (S1, S2) is not. `paper` is the one sentence of the ACDC paper's
code, 15 tokens; the family has fifteen sentences of several lengths. IO comes first in ABBA
prompts and second in BABA.
"""

from __future__ import annotations

from random import Random

from edgewise.tasks.language.behaviour import Behaviour, Corruption, Filling, Pool, Words, pick
from edgewise.tasks.language.template import Template
from edgewise.tasks.language.words import NAMES, OBJECTS, PLACES

_NAMES = Pool("names", NAMES, least=6)
_PLACES = Pool("places", PLACES, least=1)
_OBJECTS = Pool("objects", OBJECTS, least=1)

_PAPER = "Then, {IO} and {S1} went to the {place}. {S2} gave a {object} to"
_FAMILY = (
    "When {IO} and {S1} came to the {place}, {S2} gave a {object} to",
    "After {IO} and {S1} left the {place}, {S2} handed a {object} to",
    "While {IO} and {S1} were at the {place}, {S2} showed a {object} to",
    "Yesterday {IO} and {S1} met at the {place}, and {S2} sold a {object} to",
    "Then, {IO} and {S1} had lunch near the {place}. Later, {S2} passed a {object} to",
    "Once, {IO} and {S1} found a {object} in the {place}. {S2} offered it to",
    "Because {IO} and {S1} liked the {place}, {S2} brought a {object} to",
    "As {IO} and {S1} walked to the {place}, {S2} lent a {object} to",
    "Last week {IO} and {S1} worked at the {place}. {S2} wanted to give a {object} to",
    "Everyone knows that {IO} and {S1} are friends. At the {place}, {S2} gave a {object} to",
    "Before {IO} and {S1} entered the {place}, {S2} took a {object} and gave it to",
    "Today {IO} and {S1} talked about the {place}, and then {S2} sent a {object} to",
    "Since {IO} and {S1} shared a room in the {place}, {S2} returned a {object} to",
    "In the {place}, {IO} and {S1} waited for an hour. Finally {S2} threw a {object} to",
    "On Monday {IO} and {S1} visited the {place} again, so {S2} carried a {object} to",
)


def _baba(text: str) -> str:
    return text.replace("{IO}", "{?}").replace("{S1}", "{IO}").replace("{?}", "{S1}")


def _templates(*texts: str) -> tuple[Template, ...]:
    return tuple(Template(text, after=("S1",)) for text in texts)


def _draw(rng: Random, words: Words, template: str) -> Filling:
    io, subject = rng.sample(words[_NAMES], 2)
    slots = {"IO": io, "S1": subject, "S2": subject}
    slots |= {"place": rng.choice(words[_PLACES]), "object": rng.choice(words[_OBJECTS])}
    return Filling(slots, (f" {io}",), (f" {subject}",))


def _new_names(rng: Random, words: Words, filling: Filling, *slots: str) -> dict[str, str]:
    """A name for each of `slots`: different from each other and from the prompt's two."""
    taken = [filling.slots["IO"], filling.slots["S1"]]
    for _ in slots:
        taken.append(pick(rng, words[_NAMES], *taken))
    return dict(zip(slots, taken[2:], strict=True))


def _others(*slots: str) -> Corruption:
    known = {
        ("IO", "S1", "S2"): "three other names, all different (the paper's)",
        ("S2",): "S2 becomes another name: nobody is said twice",
        ("S1",): "S1 becomes another name: nobody is said twice",
        ("IO",): "IO becomes another name: the answer is another one",
    }
    return Corruption(known[slots], slots, lambda rng, w, f: _new_names(rng, w, f, *slots))


IOI = Behaviour(
    name="ioi",
    summary="names the one of two people who is not named twice",
    metric="kl",
    templates={
        "paper": _templates(_PAPER),
        "paper-baba": _templates(_baba(_PAPER)),
        "family": _templates(*_FAMILY, *(_baba(text) for text in _FAMILY)),
        "family-abba": _templates(*_FAMILY),
        "family-baba": _templates(*(_baba(text) for text in _FAMILY)),
    },
    pools=(_NAMES, _PLACES, _OBJECTS),
    draw=_draw,
    corruptions={
        "abc": _others("IO", "S1", "S2"),
        "swap": Corruption(
            "S2 becomes the other name, which turns the answer round",
            ("S2",),
            lambda rng, words, filling: {"S2": filling.slots["IO"]},
        ),
        "order": Corruption(
            "IO and S1 change places (ABBA becomes BABA), and the answer stays",
            ("IO", "S1"),
            lambda rng, words, f: {"IO": f.slots["S1"], "S1": f.slots["IO"]},
        ),
        "s2": _others("S2"),
        "s1": _others("S1"),
        "io": _others("IO"),
    },
    fits="GPT-2 small (paper); models with a tokenizer",
)
