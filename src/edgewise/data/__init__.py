"""Prompt pairs, from tokens, text or files."""

from edgewise.data.pairs import PromptPairs
from edgewise.data.tokens import NO_ANSWER, Padding, Tokenizer, real_positions

__all__ = ["NO_ANSWER", "Padding", "PromptPairs", "Tokenizer", "real_positions"]
