"""Small shared vocabulary of the data layer: tokenizers, padding sides, real positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Padding = Literal["right", "left"]
NO_ANSWER = -1  # fills the rows of prompts that have fewer answers than others


@runtime_checkable
class Tokenizer(Protocol):
    """All that prompt pairs need of a tokenizer.

    It may also have `adds_bos`: whether it begins a text with BOS by itself, as its models were
    trained; without it, or if it is None, they read texts with and without BOS.
    """

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def bos(self) -> int | None:
        """The id of the beginning-of-sequence token, if there is one."""
        ...


class AnswerTokens(tuple[int, ...]):
    """The tokens of one answer, in order, and its text if it was text."""

    text: str

    def __new__(cls, ids: Iterable[int], text: str = "") -> AnswerTokens:
        made = super().__new__(cls, ids)
        made.text = text
        return made


def adds_bos(tokenizer: Tokenizer) -> bool | None:
    """Whether a tokenizer begins a text with BOS by itself; None where either way is usual."""
    return getattr(tokenizer, "adds_bos", None)


def real_positions(
    lengths: Int[Tensor, "batch"], n_positions: int, padding: Padding
) -> Bool[Tensor, "batch pos"]:
    """Which positions of a padded batch hold tokens."""
    index = torch.arange(n_positions)
    if padding == "right":
        return index[None, :] < lengths[:, None]
    return index[None, :] >= (n_positions - lengths)[:, None]
