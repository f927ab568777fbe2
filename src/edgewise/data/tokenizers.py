"""Tokenizers behind the one small interface that prompt pairs use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgewise.data.tokens import Tokenizer


class WordTokenizer:
    """A fixed list of words; texts are words between spaces. For bundled models."""

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
    """A tokenizer of transformers, without the special tokens it may add by itself."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def bos(self) -> int | None:
        return self._tokenizer.bos_token_id

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
