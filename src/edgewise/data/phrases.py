"""Phrases in texts, by character: whole words where words have spaces between, whole characters.

Tokens come in only at the end: a phrase is found in the text that was given, and stands for every
token that has a character of it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from edgewise.data.tokens import Tokenizer

Range = tuple[int, int]  # from a character to before another

# Scripts whose words stand side by side, or carry their particles (Korean): Thai and Lao, Tibetan,
# Burmese, Hangul, Khmer, Tai Le and New Tai Lue, kana, Han. Unicode blocks, first and last.
_NO_SPACES = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1950, 0x19DF)),
    *((0x3005, 0x3007), (0x3040, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF66, 0xFFDC), (0x20000, 0x3FFFF)),
)
_JOINER = "\u200d"  # makes one emoji of several
_SKIN = range(0x1F3FB, 0x1F400)  # tones, which change the emoji before
_FLAG = range(0x1F1E6, 0x1F200)  # letters, two of which are a flag


def occurrences(text: str, *phrases: str) -> list[tuple[int, int, int]]:
    """Where phrases are in a text: from, to, and which of them; none overlaps another.

    At a place where several begin, the longest counts. A phrase may be composed of other code
    points than the text (é as one or as two).

    >>> occurrences("Anna saw Ann", "Ann")
    [(9, 12, 0)]
    >>> occurrences("王丽和李强", "李强")
    [(3, 5, 0)]
    """
    spellings = [
        (form, k)
        for k, phrase in enumerate(phrases)
        for form in {phrase, *(unicodedata.normalize(f, phrase) for f in ("NFC", "NFD"))}
        if form
    ]
    spellings.sort(key=lambda pair: -len(pair[0]))
    found, at = [], 0
    while at < len(text):
        fits = (
            (at, at + len(form), k)
            for form, k in spellings
            if text.startswith(form, at) and not divides(text, at, at + len(form))
        )
        place = next(fits, None)
        if place is not None:
            found.append(place)
        at = at + 1 if place is None else place[1]
    return found


def divides(text: str, *places: int) -> bool:
    """Whether one of the places is inside a word, or inside a character of several code points."""
    return any(0 < at < len(text) and _belong(text, at) for at in places)


def _belong(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if _JOINER in (before, after) or ord(after) in _SKIN or _is_mark(after):
        return True
    if ord(before) in _FLAG and ord(after) in _FLAG:
        start = at
        while start and ord(text[start - 1]) in _FLAG:
            start -= 1
        return (at - start) % 2 == 1
    return _has_spaces(before) and _has_spaces(after)


def _is_mark(letter: str) -> bool:
    """A code point that changes the letter before it; the one that asks for colour is not said."""
    return unicodedata.category(letter).startswith("M") and letter != "\ufe0f"


def _has_spaces(letter: str) -> bool:
    """A letter, mark or digit of a script with spaces between words."""
    part_of_word = letter.isalnum() or letter == "_" or _is_mark(letter)
    return part_of_word and not any(low <= ord(letter) <= high for low, high in _NO_SPACES)


def token_ranges(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[str, list[Range]]:
    """A text's tokens as ranges of characters of it; without offsets, of the decoded tokens.

    A token that is no character of the text (a space of the tokenizer's own) is an empty range.
    """
    offsets = getattr(tokenizer, "offsets", None)
    ranges = None if offsets is None or not text else offsets(text)
    if ranges is not None and len(ranges) == len(ids):
        return text, ranges
    lengths = []
    for k in range(len(ids) + 1):
        decoded = tokenizer.decode(ids[:k])
        # A character may be several tokens: until its last one it decodes to a stand-in.
        lengths.append((len(decoded.rstrip("\ufffd")), len(decoded)))
    ranges = [(lengths[k][0], lengths[k + 1][1]) for k in range(len(ids))]
    return tokenizer.decode(ids), ranges


def tokens_at(ranges: Sequence[Range], start: int, stop: int) -> list[int]:
    """Which tokens have a character of a range."""
    return [k for k, (low, high) in enumerate(ranges) if low < stop and high > start and low < high]


def swapped(text: str, a: str, b: str) -> Iterator[str]:
    """The parts of a text in which two phrases change places."""
    at = 0
    for start, stop, which in occurrences(text, a, b):
        yield text[at:start]
        yield (b, a)[which]
        at = stop
    yield text[at:]
