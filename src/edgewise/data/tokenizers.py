"""Tokenizers behind the one small interface that prompt pairs use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Protocol, runtime_checkable

_SAMPLE = "The"
# A word keeps the space before it, as in GPT-2; unlike there, numbers are cut after two digits, so
# that years and sums have the same tokens whatever their size.
_SPACED_WORD = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
)
Offsets = list[tuple[int, int]]  # which characters of a text each token is


@runtime_checkable
class Tokenizer(Protocol):
    """All that prompt pairs need of a tokenizer.

    It may also have `adds_bos`: whether it begins a text with BOS by itself, as its models were
    trained; without it, or if it is None, they read texts with and without BOS. With `offsets`,
    spans are found by the characters of the text, else by what tokens decode to.
    """

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def bos(self) -> int | None:
        """The id of the beginning-of-sequence token, if there is one."""
        ...


class SpacedWordTokenizer:
    """A token for each word of a list, with the space that stands before it, cut as GPT-2 cuts.

    The bundled models read half of their training texts with BOS, half without.

    >>> tokenizer = SpacedWordTokenizer(["<bos>", "Then", ",", " Mary"], bos=0)
    >>> tokenizer.encode("Then, Mary")
    [1, 2, 3]
    >>> tokenizer.decode([1, 2, 3])
    'Then, Mary'
    """

    adds_bos: bool | None = None

    def __init__(self, words: Sequence[str], bos: int | None = None) -> None:
        self.words, self.bos = tuple(words), bos
        self._ids = {word: i for i, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Raises `ValueError` for words that are not in the list."""
        words = self._cut(text)
        unknown = [word for word in dict.fromkeys(words) if word not in self._ids]
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (" …" if unknown[5:] else "")
            first = unknown[0]
            respaced = first[1:] if first.startswith(" ") else f" {first}"
            near = [respaced] if respaced in self._ids else []
            near += difflib.get_close_matches(first, self.words, n=3)
            shown_near = ", ".join(map(repr, [*dict.fromkeys(near)][:3]))
            hint = f" Near {first!r}: {shown_near}." if near else ""
            raise ValueError(f"the model has no token {shown}; it has {len(self.words)}.{hint}")
        return [self._ids[word] for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i] for i in ids)

    def offsets(self, text: str) -> Offsets:
        """Which characters of a text each word is, its space among them."""
        return list(pairwise(accumulate(map(len, self._cut(text)), initial=0)))

    def _cut(self, text: str) -> tuple[str, ...]:
        bos = "" if self.bos is None else self.words[self.bos]
        if bos and text.startswith(bos):
            return (bos, *self._cut(text.removeprefix(bos)))
        return spaced_words(text)


class WordTokenizer(SpacedWordTokenizer):
    """Texts are words between spaces. For compiled programs.

    A program with BOS was compiled to read it first; its texts say it, as the first word.
    """

    adds_bos = False

    @property
    def special_ids(self) -> tuple[int, ...]:
        """BOS, and the padding that compiled programs have."""
        return tuple(
            i for i, word in enumerate(self.words) if i == self.bos or word == "compiler_pad"
        )

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[i] for i in ids)

    def offsets(self, text: str) -> Offsets:
        """Which characters of a text each word is."""
        return [match.span() for match in re.finditer(r"\S+", text)]

    def _cut(self, text: str) -> tuple[str, ...]:
        return tuple(text.split())


class HuggingFaceTokenizer:
    """A tokenizer of transformers. What it adds to a text by itself is `prefix`, apart.

    A suffix that it adds (EOS) is never part of a prompt: nothing would be left to predict.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.name = type(tokenizer).__name__
        self.bos: int | None = tokenizer.bos_token_id
        self.special_ids: tuple[int, ...] = tuple(getattr(tokenizer, "all_special_ids", ()))
        self.chat_template: str | None = getattr(tokenizer, "chat_template", None)

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """The ids that it puts before a text by itself: BOS, or nothing."""
        plain = self.encode(_SAMPLE)
        whole = list(self._tokenizer.encode(_SAMPLE, add_special_tokens=True))
        starts = range(len(whole) - len(plain) + 1)
        begin = next((k for k in starts if whole[k : k + len(plain)] == plain), 0)
        return tuple(whole[:begin])

    @property
    def adds_bos(self) -> bool:
        return bool(self.prefix)

    def offsets(self, text: str) -> Offsets | None:
        """Which characters of a text each token is; None from tokenizers that cannot say.

        A space that the tokenizer puts before a text by itself is none of its characters.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            return None
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ranges = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [
            (low, high if text[low:high].isspace() or self.decode([i]).strip() else low)
            for i, (low, high) in ranges
        ]

    def in_chat(self, text: str) -> str:
        """A text as the user's turn in the chat template, up to where the reply begins."""
        turn = [{"role": "user", "content": text}]
        return str(
            self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        )

    @property
    def n_tokens(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def as_tokenizer(source: Any) -> Tokenizer | None:
    """A tokenizer of ours, from one, from a model that has one, or from one of transformers."""
    if hasattr(source, "tokenizer"):
        source = source.tokenizer
    if isinstance(source, Tokenizer):
        return source
    return HuggingFaceTokenizer(source) if hasattr(source, "bos_token_id") else None


def adds_bos(tokenizer: Tokenizer) -> bool | None:
    """Whether a tokenizer begins a text with BOS by itself; None where either way is usual."""
    return getattr(tokenizer, "adds_bos", None)


def spaced_words(text: str) -> tuple[str, ...]:
    """The words of a text, each with the space before it; joined they are the text.

    >>> spaced_words("In 1732, isn't it?")
    ('In', ' 17', '32', ',', ' isn', "'t", ' it', '?')
    """
    return tuple(_SPACED_WORD.findall(text))
