"""Phrases in texts, by character: whole words where words have spaces between, whole characters.

Tokens come in only at the end: a phrase is found in the text that was given, and stands for every
token that has a character of it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import regex

from edgewise.data.tokenizers import Offsets, Tokenizer

# Scripts whose words stand side by side, or carry their particles (Korean).
_NO_SPACES = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"),
        *("Tibetan", "Tai_Le", "New_Tai_Lue"),
    )
)
_LETTER = rf"[\w--[{_NO_SPACES}ー々ｰ]]"  # of a script with spaces between words
_MARK = r"[\p{M}--[\ufe0f]]"  # changes the letter before it; the one that asks for colour does not
# Inside a word, or inside a character of several code points: an emoji made of several, one with a
# tone of skin, two letters that are a flag.
_INSIDE = (
    rf"(?<={_LETTER})(?={_LETTER})|(?<=.)(?={_MARK}|\p{{Emoji_Modifier}}|\u200d)|(?<=\u200d)(?=.)"
    r"|(?<=(?<!\p{RI})(?:\p{RI}\p{RI})*\p{RI})(?=\p{RI})"
)
_DIVIDED = regex.compile(_INSIDE, regex.V1 | regex.DOTALL)


def occurrences(text: str, *phrases: str) -> list[tuple[int, int, int]]:
    """Where phrases are in a text: from, to, and which of them; none overlaps another.

    At a place where several begin, the longest counts. A phrase may be composed of other code
    points than the text (é as one or as two).

    >>> occurrences("Anna saw Ann", "Ann")
    [(9, 12, 0)]
    >>> occurrences("王丽和李强", "李强")
    [(3, 5, 0)]
    """
    which = {
        form: k
        for k, phrase in reversed(list(enumerate(phrases)))
        for form in (*(unicodedata.normalize(f, phrase) for f in ("NFC", "NFD")), phrase)
        if form
    }
    forms = "|".join(regex.escape(form) for form in sorted(which, key=len, reverse=True))
    pattern = rf"(?!{_INSIDE})(?:{forms})(?!{_INSIDE})"
    matches = regex.finditer(pattern, text, regex.V1 | regex.DOTALL) if which else ()
    return [(*match.span(), which[match[0]]) for match in matches]


def divides(text: str, index: int) -> bool:
    """Whether an index is inside a word, or inside a character of several code points."""
    return _DIVIDED.match(text, index) is not None


def token_ranges(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[str, Offsets]:
    """A text's tokens as ranges of characters of it; without offsets, of the decoded tokens.

    A token that is no character of the text (a space of the tokenizer's own) is an empty range.
    """
    offsets = getattr(tokenizer, "offsets", None)
    ranges = None if offsets is None or not text else offsets(text)
    if ranges is not None and len(ranges) == len(ids):
        return text, ranges
    ranges, end = [], 0
    for k in range(len(ids)):
        # A character may be several tokens, at most four: until its last one it decodes to a
        # stand-in. How a token reads may depend on the one before it (its space).
        before, after = (tokenizer.decode(ids[max(0, k - 4) : stop]) for stop in (k, k + 1))
        start = end - (len(before) - len(before.rstrip("\ufffd")))
        end += len(after) - len(before)
        ranges.append((start, end))
    return tokenizer.decode(ids), ranges


def tokens_at(ranges: Offsets, start: int, stop: int) -> list[int]:
    """Which tokens have a character of a range."""
    return [k for k, (low, high) in enumerate(ranges) if low < stop and high > start and low < high]
