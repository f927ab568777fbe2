"""Induction (Olsson et al. 2209.11895; spec 5.4): … A B … A -> B, for any vocabulary.

Random words of which runs come again. The answer is read only where the next word completes a
repeated bigram: after an A that came before, with the same B behind it. The paper masks such places
in natural text; here all words are random, so nothing else helps.

`repeated` says a random sequence twice; `remixed` repeats runs of it in another order, with new
words between; `single` ends at the A of its one repeated bigram and has an answer and wrong ones,
for metrics that need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from edgewise.tasks.language.behaviour import Change, Filling, Pool, Words, behaviour, picks
from edgewise.tasks.language.words import COLOURED, NOUNS, OBJECTS, PLACES

HALF = 12  # words before the first of them comes again
_T = TypeVar("_T")

_WORDS = Pool("words", tuple(dict.fromkeys(NOUNS + OBJECTS + PLACES + COLOURED)), least=4 * HALF)


def draw_sequence(
    rng: Random, symbols: Sequence[_T], template: str, *, half: int = HALF
) -> list[_T]:
    """A random sequence of any symbols (words, token ids), its last answer included.

    No symbol stands in it more than twice. Needs twice `half` symbols to choose from.
    """
    drawn = rng.sample(symbols, 2 * half)
    once, new = drawn[:half], iter(drawn[half:])
    if template == "repeated":
        return once + once
    if template == "single":
        at = rng.randrange(half - 2)
        return [*once, once[at], once[at + 1]]
    runs, start = [], 0
    while start < half:
        stop = start + rng.randint(2, 4)
        runs.append(once[start:stop])
        start = stop
    rng.shuffle(runs)
    sequence = list(once)
    for run in runs:
        sequence += [next(new), *run] if rng.random() < 0.5 else run
    return sequence[: 2 * half]


def completions(sequence: Sequence[object]) -> tuple[int, ...]:
    """Indices after which the sequence goes on as it did where the same symbol stood before."""
    first: dict[object, int] = {}
    places = []
    for i, symbol in enumerate(sequence[:-1]):
        before = first.setdefault(symbol, i)
        if before < i and sequence[before + 1] == sequence[i + 1]:
            places.append(i)
    return tuple(places)


def corrupted_sequence(
    rng: Random, symbols: Sequence[_T], sequence: Sequence[_T], *, corruption: str
) -> list[_T]:
    """The corrupted one: `other` symbols everywhere, or new ones at first As or at first Bs."""
    corrupted = list(sequence)
    places = list(range(len(corrupted)))
    if corruption != "other":
        behind = 1 if corruption == "first-b" else 0
        places = [sequence.index(sequence[i]) + behind for i in completions(sequence)]
    for place, new in zip(places, picks(rng, symbols, len(places), *sequence), strict=True):
        corrupted[place] = new
    return corrupted


def roles(sequence: Sequence[object], template: str) -> dict[str, tuple[int, ...]]:
    """The named places of a sequence without its last answer."""
    last = len(sequence) - 2
    if template == "single":
        first = sequence.index(sequence[last])
        return {"A1": (first,), "B1": (first + 1,), "END": (last,)}
    half = len(sequence) // 2
    return {"first": tuple(range(half)), "second": tuple(range(half, last + 1))}


def _draw(rng: Random, words: Words, template: str) -> Filling:
    sequence = draw_sequence(rng, words[_WORDS], template)
    places = completions(sequence)
    answers = tuple(f" {sequence[i + 1]}" for i in places)
    others = dict.fromkeys(f" {word}" for word in sequence)
    return Filling(
        slots={f"w{i}": word for i, word in enumerate(sequence[:-1])},
        answers=answers,
        wrong=tuple(w for w in others if w not in answers) if template == "single" else (),
        answer_at=places,
        spans=roles(sequence, template),
        spare={"sequence": sequence},
    )


def _change(corruption: str) -> Change:
    def change(rng: Random, words: Words, filling: Filling) -> dict[str, str]:
        corrupted = corrupted_sequence(
            rng, words[_WORDS], filling.spare["sequence"], corruption=corruption
        )
        return {slot: corrupted[i] for i, slot in enumerate(filling.slots)}

    return change


INDUCTION = behaviour(
    "induction",
    pools=(_WORDS,),
    draw=_draw,
    changes={name: _change(name) for name in ("other", "first-b", "first-a")},
)
