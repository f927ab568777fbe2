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


_LLAMA3 = r"'(?:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
# How numbers are cut: as GPT-2 does, by digit (SmolLM2), in threes (Llama 3), by digit behind a
# space that is a token (Llama 2, Gemma), which stands before the whole text too.
_CUTTERS = {
    "byte-pairs": _BYTES,
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTES]),
    "threes": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "sentence-pieces": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    ),
}


@cache
def byte_pairs(cutter: str = "byte-pairs") -> transformers.PreTrainedTokenizerFast:
    """A BPE made as the named models' are, of the tasks' words; by default as GPT-2's.

    Words are single tokens, and there years mostly two, some of them three: digits merge as they
    may.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _CUTTERS[cutter]
    pieces = cutter == "sentence-pieces"
    tokenizer.decoder = decoders.Metaspace() if pieces else decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        initial_alphabet=alphabet,
        special_tokens=[_BOS],
        show_progress=False,
    )
    groups = [f"{number:03}" for number in range(1000)] if cutter == "threes" else []
    tokenizer.train_from_iterator([[word] for word in (*vocabulary(), *groups)], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_BOS)


def language_model(kind: str = "words", words: Sequence[str] | None = None, **config: object):
    """A random model: `words`, `ids` (without a tokenizer), or a kind of byte pairs."""
    if kind == "ids":
        return random_model(**{"d_vocab": 40, "d_vocab_out": 40, "n_ctx": 48, **config})
    if kind == "words":
        tokenizer = LongestWord(vocabulary() if words is None else words)
        size = len(tokenizer.words)
    else:
        tokenizer = as_tokenizer(byte_pairs(kind))
        size = len(byte_pairs(kind))
    shape = {"d_vocab": size, "d_vocab_out": size, "n_ctx": 48, **config}
    return replace(random_model(**shape), tokenizer=tokenizer, name=f"random-{kind}")
