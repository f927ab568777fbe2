"""Sentences with slots, cut into words as GPT-2 cuts, and numbers after two digits.

A *word* here keeps its leading space: "Then, Mary" is `Then`, `,`, ` Mary`. Words joined without
anything between them are the text again, and a prompt's places can be named before any tokenizer is
known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from edgewise.data.tokenizers import spaced_words

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
