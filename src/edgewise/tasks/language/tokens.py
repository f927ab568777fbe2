"""Examples as token ids: which words a tokenizer has, and where the words are in its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgewise.data import PromptPairs, Tokenizer
from edgewise.data.text import bos_ids
from edgewise.errors import ProblemError
from edgewise.tasks.language.behaviour import Example

# Some tokenizers treat the beginning of a text in a way of their own: what stands before words with
# a space, and without.
_ANCHORS = ("The", "\n")


class Reader:
    """What one tokenizer makes of words. `name` is how errors call it."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...] | None] = {}

    def fits(self, run: tuple[str, ...]) -> bool:
        """Whether the run of words, as it stands in a prompt, is one token a word."""
        text = "".join(run)
        ids = self._inside(text)
        if ids is None or len(ids) != len(run) or not self._says(ids, text):
            return False
        return all(self._inside("".join(run[:k])) == ids[:k] for k in range(1, len(run)))

    def _says(self, ids: tuple[int, ...], text: str) -> bool:
        """Whether the tokens are the text; a token for unknown words is none."""
        return "".join(self._tokenizer.decode(ids).split()) == "".join(text.split())

    def length(self, text: str) -> int:
        """How many tokens a text is within a prompt; 0 if it has words the tokenizer lacks."""
        return len(self._inside(text) or ())

    def pairs(self, examples: Sequence[Example], *, bos: bool | None, source: str) -> PromptPairs:
        """The examples as prompt pairs with spans. Raises `ProblemError`.

        A span that some prompt lacks, or whose words are not tokens of their own, is left out.
        """
        start = bos_ids(self._tokenizer, bos, source)
        clean = [self._prompt(e.clean, source) for e in examples]
        ends = [self._ends(e.clean_words, ids) for e, ids in zip(examples, clean, strict=True)]
        single = all(len(e.answer_at) == 1 for e in examples)
        wrong = single and all(e.wrong for e in examples)
        pairs = PromptPairs.from_tokens(
            [[*start, *ids] for ids in clean],
            [[*start, *self._prompt(e.corrupted, source)] for e in examples],
            answers=[self._answers(e, e.answers, source) for e in examples] if single else None,
            wrong=[self._answers(e, e.wrong, source) for e in examples] if wrong else None,
            answer_positions=[
                [len(start) + _stop(end, i) - 1 for i in e.answer_at]
                for e, end in zip(examples, ends, strict=True)
            ],
            spans=_spans(examples, ends, len(start)) or None,
            source=source,
        )
        return replace(pairs, bos=bool(start))

    def _prompt(self, text: str, source: str) -> tuple[int, ...]:
        ids = self._ids(text)
        if ids is None:
            raise ProblemError(source, [f"{self.name} cannot read {text!r}."])
        return ids

    def _answers(self, example: Example, answers: Sequence[str], source: str) -> list[int]:
        """Ids of single-token answers, as they stand behind the prompt's last word."""
        last = example.clean_words[-1]
        before = self._ids(last) or ()
        found = []
        for answer in answers:
            both = self._ids(last + answer) or ()
            behind = both[len(before) :] if both[: len(before)] == before else ()
            ids = behind if len(behind) == 1 else self._inside(answer) or ()
            if len(ids) != 1:
                raise ProblemError(source, [f"{answer!r} is not a single token of {self.name}."])
            found.append(ids[0])
        return found

    def _ends(self, words: Sequence[str], ids: tuple[int, ...]) -> list[int | None]:
        """How many tokens there are up to each word's end; None where a token crosses it."""
        alone = [self._ids(words[0]), *(self._inside(word) for word in words[1:])]
        if sum((part or () for part in alone), ()) == ids:
            ends, total = [], 0
            for part in alone:
                total += len(part or ())
                ends.append(total)
            return [*ends]
        parts = [self._ids("".join(words[:k])) for k in range(1, len(words) + 1)]
        return [len(p) if p is not None and p == ids[: len(p)] else None for p in parts]

    def _inside(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text as it stands within a prompt; None if there are none."""
        before = _ANCHORS[0 if text.startswith(" ") else 1]
        anchor = self._ids(before)
        if anchor:
            ids = self._ids(before + text)
            if ids is not None and ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return self._ids(text)

    def _ids(self, text: str) -> tuple[int, ...] | None:
        if text not in self._known:
            try:
                self._known[text] = tuple(self._tokenizer.encode(text))
            except (KeyError, ValueError):  # a word tokenizer that lacks a word
                self._known[text] = None
        return self._known[text]


def _stop(ends: Sequence[int | None], word: int) -> int:
    """Tokens up to a word's end, or to the next end that is one."""
    return next(end for end in ends[word:] if end is not None)


def _spans(
    examples: Sequence[Example], ends: Sequence[Sequence[int | None]], shift: int
) -> dict[str, list[list[int]]]:
    """For each span that every prompt has: its token positions in each prompt."""
    spans: dict[str, list[list[int]]] = {}
    for name in examples[0].spans:
        places = [_places(e, end, name, shift) for e, end in zip(examples, ends, strict=True)]
        if all(places):
            spans[name] = places
    return spans


def _places(example: Example, ends: Sequence[int | None], name: str, shift: int) -> list[int]:
    """Token positions of a span; empty if its words are not tokens of their own.

    `END` is the last token, where the answer is read, also of a word of several.
    """
    words = example.spans.get(name, ())
    found: list[int] = []
    start = stop = None
    for word in words:
        if word - 1 not in words:
            start = 0 if word == 0 else ends[word - 1]
        stop = ends[word]
        if start is None or (stop is None and word + 1 not in words):
            return []
        if stop is not None:  # else one token holds the next word too
            found += range(shift + start, shift + stop)
            start = stop
    return found[-1:] if name == "END" else found
