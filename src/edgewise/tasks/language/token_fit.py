"""Examples as token ids: which words a tokenizer has, and where the words are in its tokens."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.data import PromptPairs, Tokenizer
from edgewise.data.rows import RowFault
from edgewise.data.texts import Prompt, TextReader, token_ranges
from edgewise.errors import Fault, ProblemError
from edgewise.tasks.language.behaviour import Example

# Some tokenizers treat the beginning of a text in a way of their own: what stands before words with
# a space, and without.
_ANCHORS = ("The", "\n")


class TokenFit:
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

    def pairs(
        self, examples: Sequence[Example], *, bos: bool | None, chat: bool = False, source: str
    ) -> PromptPairs:
        """The examples as prompt pairs with spans. Raises `ProblemError`.

        A span that some prompt lacks, or whose words are not tokens of their own, is left out.
        """
        reader = TextReader(self._tokenizer, source, bos=bos, chat=chat)
        try:
            prompts = [reader.prompt(example.clean) for example in examples]
        except RowFault as reason:
            raise ProblemError(f"{source} with {self.name}", [Fault(reason.text)]) from reason
        ends = [self._ends(e.clean_words, p) for e, p in zip(examples, prompts, strict=True)]
        places = [
            [_stop(end, i + 1) - 1 for i in e.answer_at]
            for e, end in zip(examples, ends, strict=True)
        ]
        single = all(len(e.answer_at) == 1 for e in examples)
        at_ends = all(at == [len(p.ids) - 1] for at, p in zip(places, prompts, strict=True))
        return PromptPairs.from_text(
            [e.clean for e in examples],
            [e.corrupted for e in examples],
            tokenizer=self._tokenizer,
            answers=[list(e.answers) for e in examples] if single else None,
            wrong=[list(e.wrong) for e in examples] if single and examples[0].wrong else None,
            answer_positions=None if at_ends else places,
            spans=_spans(examples, ends) or None,
            bos=bos,
            chat=chat,
            source=source,
        )

    def _ends(self, words: Sequence[str], prompt: Prompt) -> list[int | None]:
        """How many tokens there are before the words, and up to each word's end.

        None where a token crosses it. The last word's end is the prompt's, where the answer is
        read: a chat template goes on behind it.
        """
        ids = prompt.ids[prompt.n_before :]
        _, ranges = token_ranges(self._tokenizer, prompt.text, ids)
        at, ends = prompt.at, []
        for word in ("", *words):
            at += len(word)
            before = sum(low < at for low, _ in ranges)
            crossed = any(low < at < high for low, high in ranges)
            ends.append(None if crossed else prompt.n_before + before)
        return [*ends[:-1], len(prompt.ids)]

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
    examples: Sequence[Example], ends: Sequence[Sequence[int | None]]
) -> dict[str, list[list[int]]]:
    """For each span that every prompt has: its token positions in each prompt."""
    spans: dict[str, list[list[int]]] = {}
    for name in examples[0].spans:
        places = [_places(e, end, name) for e, end in zip(examples, ends, strict=True)]
        if all(places):
            spans[name] = places
    return spans


def _places(example: Example, ends: Sequence[int | None], name: str) -> list[int]:
    """Token positions of a span; empty if its words are not tokens of their own.

    `END` is the last token, where the answer is read, also of a word of several.
    """
    words = example.spans.get(name, ())
    positions: list[int] = []
    start = stop = None
    for word in words:
        if word - 1 not in words:
            start = ends[word]
        stop = ends[word + 1]
        if start is None or (stop is None and word + 1 not in words):
            return []
        if stop is not None:  # else one token holds the next word too
            positions += range(start, stop)
            start = stop
    return positions[-1:] if name == "END" else positions
