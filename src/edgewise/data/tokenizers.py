"""Tokenizers behind the one small interface that prompt pairs use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from edgewise.data.tokens import Tokenizer

_SAMPLE = "The"


class WordTokenizer:
    """A fixed list of words; texts are words between spaces. For compiled programs.

    A program with BOS was compiled to read it first; its texts say it, as the first word.
    """

    adds_bos = False

    def __init__(self, words: Sequence[str], bos: int | None = None) -> None:
        self.words = tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        self._bos = bos

    @property
    def bos(self) -> int | None:
        return self._bos

    @property
    def special_ids(self) -> tuple[int, ...]:
        """BOS, and the padding that compiled programs have."""
        return tuple(
            i for i, word in enumerate(self.words) if i == self._bos or word == "compiler_pad"
        )

    def encode(self, text: str) -> list[int]:
        """Raises `ValueError` for a word that is not in the list."""
        for word in text.split():
            if word not in self._ids:
                raise ValueError(
                    f"the model has no token {word!r}; it has {', '.join(self.words)}."
                )
        return [self._ids[word] for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[i] for i in ids)


class HuggingFaceTokenizer:
    """A tokenizer of transformers. What it adds to a text by itself is `prefix`, apart.

    A suffix that it adds (EOS) is never part of a prompt: nothing would be left to predict.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def bos(self) -> int | None:
        return self._tokenizer.bos_token_id

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

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """Which characters of a text each token is; None from tokenizers that cannot say.

        A space that the tokenizer puts before a text by itself is none of its characters.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            return None
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ranges = zip(found["input_ids"], found["offset_mapping"], strict=True)
        return [
            (low, high if text[low:high].isspace() or self.decode([i]).strip() else low)
            for i, (low, high) in ranges
        ]

    @property
    def name(self) -> str:
        return type(self._tokenizer).__name__

    @property
    def chat_template(self) -> str | None:
        return getattr(self._tokenizer, "chat_template", None)

    def in_chat(self, text: str) -> str:
        """A text as the user's turn in the chat template, up to where the reply begins."""
        turn = [{"role": "user", "content": text}]
        return str(
            self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        )

    @property
    def special_ids(self) -> tuple[int, ...]:
        return tuple(self._tokenizer.all_special_ids)

    @property
    def n_tokens(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def as_tokenizer(given: Any) -> Tokenizer | None:
    """A tokenizer of ours, from one, from a model that has one, or from one of transformers."""
    if hasattr(given, "tokenizer"):
        given = given.tokenizer
    if isinstance(given, Tokenizer):
        return given
    return HuggingFaceTokenizer(given) if hasattr(given, "bos_token_id") else None
