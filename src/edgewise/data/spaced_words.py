"""A tokenizer of whole words for ordinary text: cut as GPT-2 cuts, with a fixed list of words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# A word keeps the space before it, as in GPT-2; unlike there, numbers are cut after two digits, so
# that years and sums have the same tokens whatever their size.
_WORD = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
)


def cut(text: str) -> list[str]:
    """The words of a text; joined they are the text.

    >>> cut("In 1732, Mary")
    ['In', ' 17', '32', ',', ' Mary']
    """
    return _WORD.findall(text)


class SpacedWordTokenizer:
    """A token for each word of a list, with the space that stands before it.

    The bundled models read half of their training texts with BOS, half without.

    >>> tokenizer = SpacedWordTokenizer(["<bos>", "Then", ",", " Mary"], bos=0)
    >>> tokenizer.encode("Then, Mary")
    [1, 2, 3]
    >>> tokenizer.decode([1, 2, 3])
    'Then, Mary'
    """

    adds_bos = None

    def __init__(self, words: Sequence[str], bos: int | None = None) -> None:
        self.words = tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        self._bos = bos

    @property
    def bos(self) -> int | None:
        return self._bos

    def encode(self, text: str) -> list[int]:
        """Raises `ValueError` for words that are not in the list."""
        if self._bos is not None and text.startswith(self.words[self._bos]):
            return [self._bos, *self.encode(text.removeprefix(self.words[self._bos]))]
        words = cut(text)
        unknown = list(dict.fromkeys(word for word in words if word not in self._ids))
        if unknown:
            raise ValueError(self._no_token(unknown))
        return [self._ids[word] for word in words]

    def _no_token(self, unknown: list[str]) -> str:
        shown = ", ".join(repr(word) for word in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        first = unknown[0]
        respaced = first[1:] if first.startswith(" ") else f" {first}"
        near = [respaced] if respaced in self._ids else []
        near += difflib.get_close_matches(first, self.words, n=3 - len(near))
        hint = f" Near {first!r}: {', '.join(map(repr, near))}." if near else ""
        return (
            f"the model has no token for {shown}; it knows {len(self.words)} words, each with the "
            f"space before it.{hint}"
        )

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i] for i in ids)
