"""Random models with tokenizers of three kinds, for the language tasks; nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from edgewise.data.tokenizers import as_tokenizer
from edgewise.tasks.language import vocabulary
from models import random_model

_BOS = "<|endoftext|>"  # GPT-2's


class LongestWord:
    """Takes the longest word it knows, as the package says one may; spaces belong to words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["<bos>", *words]
        self.bos = 0
        longest_first = sorted(map(re.escape, words), key=len, reverse=True)
        self._pattern = re.compile("|".join([*longest_first, r"(?P<unknown>.)"]), re.DOTALL)

    def encode(self, text: str) -> list[int]:
        found = list(self._pattern.finditer(text))
        if any(match["unknown"] for match in found):
            raise ValueError(f"a word of {text!r} is unknown")
        return [self.words.index(match[0]) for match in found]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i] for i in ids)


@cache
def byte_pairs() -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE made as GPT-2's is, of the tasks' words.

    Words are single tokens, years mostly two, some of them three: digits merge as they may.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        initial_alphabet=alphabet,
        special_tokens=[_BOS],
        show_progress=False,
    )
    tokenizer.train_from_iterator([[word] for word in vocabulary()], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_BOS)


def language_model(kind: str = "words", words: Sequence[str] | None = None, **config: object):
    """A random model: `words`, `byte-pairs`, or `ids` (without a tokenizer)."""
    if kind == "ids":
        return random_model(**{"d_vocab": 40, "d_vocab_out": 40, "n_ctx": 48, **config})
    if kind == "words":
        tokenizer = LongestWord(vocabulary() if words is None else words)
        size = len(tokenizer.words)
    else:
        tokenizer = as_tokenizer(byte_pairs())
        size = len(byte_pairs())
    shape = {"d_vocab": size, "d_vocab_out": size, "n_ctx": 48, **config}
    return replace(random_model(**shape), tokenizer=tokenizer, name=f"random-{kind}")
