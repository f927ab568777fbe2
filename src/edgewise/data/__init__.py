"""Prompt pairs, from tokens, text, files or datasets, and ways to corrupt them."""

from edgewise.data.corruption import random_tokens, shuffled, swap_entities, swap_tokens
from edgewise.data.pairs import PromptPairs
from edgewise.data.reading import NO_ANSWER, Padding
from edgewise.data.tokenizers import Tokenizer, adds_bos, as_tokenizer

__all__ = [
    "NO_ANSWER",
    "Padding",
    "PromptPairs",
    "Tokenizer",
    "adds_bos",
    "as_tokenizer",
    "random_tokens",
    "shuffled",
    "swap_entities",
    "swap_tokens",
]
