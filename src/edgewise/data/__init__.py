"""Prompt pairs, from tokens, text, files or datasets, and ways to corrupt them."""

from edgewise.data.corruption import random_tokens, shuffled, swap_entities, swap_tokens
from edgewise.data.pairs import PromptPairs
from edgewise.data.tokens import NO_ANSWER, Padding, Tokenizer, real_positions

__all__ = [
    "NO_ANSWER",
    "Padding",
    "PromptPairs",
    "Tokenizer",
    "random_tokens",
    "real_positions",
    "shuffled",
    "swap_entities",
    "swap_tokens",
]
