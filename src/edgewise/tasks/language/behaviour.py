"""What a language task is before any model or tokenizer: sentences, words, answers, corruptions.

1. `draw` picks the words of one prompt and what may follow it.
2. A template turns them into the clean text; the same words, some of them changed by the chosen
   corruption, into the corrupted text. Only the slots that the corruption names differ.
3. A prompt belongs to the split that the hash of its clean text says, so that the splits are
   disjoint whatever seeds they are drawn with.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from random import Random
from typing import Any

from edgewise.arguments import check_choice
from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError

SPLITS = ("train", "validation", "test")
_SPLIT_OF_HASH = ("train", "train", "validation", "test")

Fits = Callable[[tuple[str, ...]], bool]
Length = Callable[[str], int]
_DATA = json.loads((files("edgewise.tasks.language") / "behaviours.json").read_text("utf-8"))
_SLOT = re.compile(r"( ?)\{([^{}]+)\}")


@dataclass(frozen=True)
class Slot:
    """A gap to be filled; `space` is what stands before its word."""

    name: str
    space: str


@dataclass(frozen=True)
class Template:
    """A sentence such as `"Then, {IO} and {S1} went"`: a slot's leading space is part of its word.

    `after` names slots whose following word is a place of its own (`S1+1`).
    """

    text: str
    after: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> tuple[str | Slot, ...]:
        """Fixed words and slots, in order."""
        parts: list[str | Slot] = []
        at = 0
        for match in _SLOT.finditer(self.text):
            parts += spaced_words(self.text[at : match.start()])
            parts.append(Slot(match[2], match[1]))
            at = match.end()
        return (*parts, *spaced_words(self.text[at:]))

    def fill(self, values: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
        """The words with every slot filled, and the places of each slot, in order.

        `END` is the last word, whichever slot it fills.
        """
        words: list[str] = []
        spans: dict[str, tuple[int, ...]] = {}
        for part in self.parts:
            start = len(words)
            if isinstance(part, Slot):
                words += spaced_words(part.space + values[part.name])
                spans[part.name] = tuple(range(start, len(words)))
                if part.name in self.after:
                    spans[f"{part.name}+1"] = (len(words),)
            else:
                words.append(part)
        last = len(words) - 1
        return tuple(words), {k: at for k, at in spans.items() if last not in at} | {"END": (last,)}


@dataclass(frozen=True)
class Pool:
    """A list to draw from. `forms` gives, for an item, the runs of words it puts into prompts.

    An item is usable with a tokenizer that reads each run as one token a word. `loose` gives words
    that may be several tokens.
    """

    what: str
    items: tuple[Any, ...]
    least: int  # below this, the task makes no sense
    forms: Callable[[Any], Iterable[tuple[str, ...]]] = lambda item: ((f" {item}",),)
    loose: Callable[[Any], Iterable[str]] = lambda item: ()


class Words:
    """The usable items of every pool, for one tokenizer (default: any; every word is a token)."""

    def __init__(
        self, fits: Fits | None = None, length: Length | None = None, reader: str = "the tokenizer"
    ) -> None:
        self._fits: Fits = fits or (lambda run: True)
        self.length: Length = length or (lambda text: len(spaced_words(text)))
        self._reader = reader
        self._usable: dict[tuple[str, int], tuple[Any, ...]] = {}

    def __getitem__(self, pool: Pool) -> tuple[Any, ...]:
        """The usable items, in the pool's order. Raises `SettingError` if they are too few."""
        usable = self.usable(pool)
        if len(usable) < pool.least:
            raise SettingError(self.too_few(pool))
        return usable

    def usable(self, pool: Pool) -> tuple[Any, ...]:
        """The usable items, however few."""
        key = (pool.what, len(pool.items))
        if key not in self._usable:
            self._usable[key] = tuple(
                item for item in pool.items if all(self._fits(run) for run in pool.forms(item))
            )
        return self._usable[key]

    def too_few(self, pool: Pool) -> str:
        """How many items of a pool are usable, and which are not, for an error."""
        usable = self.usable(pool)
        runs = [tuple(pool.forms(item)) for item in pool.items if item not in usable]
        shown = ["+".join(map(repr, run)) for forms in runs[:8] for run in forms][:8]
        more = " …" if len(runs) > 8 else ""
        length = len(runs[0][0])
        tokens = "single tokens" if length == 1 else f"{length} tokens"
        return (
            f"{len(usable)} of {len(pool.items)} {pool.what} are {tokens} of {self._reader}; the "
            f"task needs at least {pool.least}. Not so: {', '.join(shown)}{more}. "
            "Use a model whose tokenizer has them."
        )


@dataclass(frozen=True)
class Filling:
    """One prompt's slots, and what may follow it.

    `answers` and `wrong` are words with their leading space. `answer_at` (default: after the last
    word) and `spans` (default: the slots) are indices of words. `changes` has the slots that become
    others under the corruptions that follow from the prompt alone; `spare` keeps what the other
    corruptions need and the clean prompt does not show.
    """

    slots: Mapping[str, str]
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    answer_at: tuple[int, ...] | None = None
    spans: Mapping[str, tuple[int, ...]] | None = None
    spare: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Change = Callable[[Random, Words, Filling], Mapping[str, str]]  # the slots that become others


@dataclass(frozen=True)
class Corruption:
    """A way to corrupt: which slots it changes, and no others.

    `change` draws what they become; None where the prompt's `Filling` has it already.
    """

    summary: str
    changes: tuple[str, ...]
    change: Change | None


@dataclass(frozen=True)
class Example:
    """A prompt, clean and corrupted, and what should follow, as text.

    `spans` names places: indices into `clean_words` (and `corrupted_words`, which has as many); no
    place has two names. The answer is read after each word of `answer_at`; with several of them,
    `answers` has one entry for each, in order, else every right answer.
    """

    task: str
    template: str
    corruption: str
    clean_words: tuple[str, ...]
    corrupted_words: tuple[str, ...]
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    spans: Mapping[str, tuple[int, ...]]
    answer_at: tuple[int, ...]

    @property
    def clean(self) -> str:
        """The clean text."""
        return "".join(self.clean_words)

    @property
    def corrupted(self) -> str:
        """The corrupted text."""
        return "".join(self.corrupted_words)


@dataclass(frozen=True)
class Behaviour:
    """A language task as text. The first template and the first corruption are the defaults."""

    name: str
    templates: Mapping[str, tuple[Template, ...]]
    pools: tuple[Pool, ...]
    draw: Callable[[Random, Words, str], Filling]
    corruptions: Mapping[str, Corruption]
    summary: str
    metric: str
    bos: bool  # whether the paper puts BOS before the prompt
    n: int  # prompts of a split, unless said
    fits: str

    def example(
        self, words: Words, rng: Random, noise: Random, *, template: str, corruption: str
    ) -> Example:
        """One example. `rng` draws the clean prompt, `noise` the corruption."""
        filling = self.draw(rng, words, template)
        chosen = rng.choice(self.templates[template])
        rule = self.corruptions[corruption]
        if rule.change is None:
            changed = filling.changes[corruption]
        else:
            changed = rule.change(noise, words, filling)
        assert set(changed) <= set(rule.changes), f"{self.name}: {corruption} changes {changed}"
        clean, spans = chosen.fill(filling.slots)
        corrupted, _ = chosen.fill({**filling.slots, **changed})
        return Example(
            task=self.name,
            template=template,
            corruption=corruption,
            clean_words=clean,
            corrupted_words=corrupted,
            answers=filling.answers,
            wrong=filling.wrong,
            spans=spans if filling.spans is None else filling.spans,
            answer_at=filling.answer_at or (len(clean) - 1,),
        )

    def vocabulary(self) -> tuple[str, ...]:
        """Every word that the task's prompts and answers can have, sorted."""
        fixed = [
            part
            for family in self.templates.values()
            for template in family
            for part in template.parts
            if isinstance(part, str)
        ]
        drawn = [
            word
            for pool in self.pools
            for item in pool.items
            for run in (*pool.forms(item), pool.loose(item))
            for word in run
        ]
        return tuple(sorted({*fixed, *drawn}))


def behaviour(
    name: str,
    *,
    pools: tuple[Pool, ...],
    draw: Callable[[Random, Words, str], Filling],
    changes: Mapping[str, Change] | None = None,
) -> Behaviour:
    """The language task of this name: its texts from `behaviours.json`, and how it draws words.

    A family of templates there has sentences, or names other families that it joins.
    """
    data = dict(_DATA[name])
    families: dict[str, list[str]] = data.pop("templates")
    after = tuple(data.pop("after", "").split())
    templates = {
        family: tuple(Template(text, after) for key in parts for text in families.get(key, [key]))
        for family, parts in families.items()
    }
    drawn, corruptions = changes or {}, {}
    for key, row in data.pop("corruptions").items():
        corruptions[key] = Corruption(row["summary"], tuple(row["changes"].split()), drawn.get(key))
    return Behaviour(name, templates, pools, draw, corruptions, **data)


def split_of(text: str) -> str:
    """The split that a clean text belongs to: half are train, a quarter each of the others."""
    return _SPLIT_OF_HASH[hashlib.sha256(text.encode()).digest()[0] % 4]


def choice(what: str, name: str | None, known: Collection[str]) -> str:
    """`name` if it is known, the first if there is none. Raises `UnknownName`."""
    chosen = next(iter(known)) if name is None else name
    check_choice(what, chosen, known)
    return chosen


def pick(rng: Random, items: Sequence[Any], *others: Any) -> Any:
    """A random item that is none of `others`."""
    while True:
        item = rng.choice(items)
        if item not in others:
            return item


def picks(rng: Random, items: Sequence[Any], n: int, *others: Any) -> list[Any]:
    """Random items, different from each other and from `others`."""
    taken = list(others)
    for _ in range(n):
        taken.append(pick(rng, items, *taken))
    return taken[len(taken) - n :]
