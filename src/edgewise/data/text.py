"""Prompts, answers and spans from text: every answer a single token, every fault at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.data.faults import Fault, Label
from edgewise.data.positions import whole
from edgewise.data.tokens import NO_ANSWER, Tokenizer, adds_bos
from edgewise.errors import ProblemError

Ids = list[list[int]]
ANSWER_NAMES = {"answers": "answer", "wrong": "wrong answer"}


def tokens_of_text(
    clean: Sequence[str],
    corrupted: Sequence[str] | None,
    answers: Any,
    wrong: Any,
    spans: Any,
    tokenizer: Tokenizer | None,
    bos: bool | None,
    source: str,
    label: Label = lambda i: f"pair {i}",
) -> dict[str, Any]:
    """The ids of prompts and answers, the positions of spans. Raises `ProblemError`, all faults."""
    if tokenizer is None:
        raise ProblemError(source, ["prompts of text need a tokenizer; pass the model."])
    given = {"clean": clean, "corrupted": corrupted, "answers": answers, "wrong": wrong}
    for what, texts in given.items():
        if isinstance(texts, str):
            raise ProblemError(source, [f"{what} is one text; it must be a list of texts."])
    faults: list[Fault] = []
    start = bos_ids(tokenizer, bos, source)

    def prompts(texts: Sequence[str], what: str) -> Ids:
        return [
            prompt_ids(tokenizer, text, bos, start, label(i), what, faults)
            for i, text in enumerate(texts)
        ]

    def singles(values: Any, what: str) -> Ids | None:
        if values is None:
            return None
        return [answer_ids(tokenizer, v, label(i), what, faults) for i, v in enumerate(values)]

    result: dict[str, Any] = {
        "bos": bool(start),
        "clean": prompts(clean, "clean"),
        "corrupted": None if corrupted is None else prompts(corrupted, "corrupted"),
        "answers": singles(answers, "answers"),
        "wrong": singles(wrong, "wrong"),
    }
    result["spans"] = spans
    if isinstance(spans, Mapping):
        result["spans"] = {
            name: _span_of_each(tokenizer, name, places, result["clean"], label, faults)
            for name, places in spans.items()
        }
    if faults:
        raise ProblemError(source, faults)
    return result


def bos_ids(tokenizer: Tokenizer, bos: bool | None, source: str) -> list[int]:
    """What to put before each prompt: None, what the tokenizer adds by itself.

    Raises `ProblemError` if BOS is asked for and there is no such token.
    """
    if bos is None and adds_bos(tokenizer):
        return list(getattr(tokenizer, "prefix", (tokenizer.bos,)))
    if not bos:
        return []
    if tokenizer.bos is None:
        raise ProblemError(source, ["bos is asked for, but the tokenizer has no BOS token."])
    return [tokenizer.bos]


def prompt_ids(
    tokenizer: Tokenizer,
    text: Any,
    bos: bool | None,
    start: list[int],
    where: str,
    what: str,
    faults: list[Fault],
) -> list[int]:
    """The ids of a prompt, after `start`; a text that begins with it keeps its own."""
    ids = _encode(tokenizer, text, where, what, faults)
    if not start or ids[: len(start)] != start:
        return start + ids
    if bos:
        doubled = "the text begins with the BOS token already; drop bos."
        faults.append(Fault(doubled, where=where, column=what))
    return ids


def answer_ids(
    tokenizer: Tokenizer | None, value: Any, where: str, what: str, faults: list[Fault]
) -> list[int]:
    """The ids of one answer or several, each a token id or the text of one token."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    return [_answer(tokenizer, one, where, what, faults) for one in several]


def _answer(
    tokenizer: Tokenizer | None, value: Any, where: str, what: str, faults: list[Fault]
) -> int:
    name = ANSWER_NAMES[what]
    known = whole(value)
    if known is not None and not isinstance(value, str):
        return known
    if isinstance(value, list | tuple):
        text = (
            f"{what!r} has a list in a list. If it has an answer for each position: pairs cannot "
            f'hold that; leave it out (columns={{"{what}": None}}, --columns {what}=) and use kl.'
        )
        faults.append(Fault(text, where=where, column=what))
    elif not isinstance(value, str):
        text = f"{what!r} must be text or token ids, not {value!r:.60}."
        faults.append(Fault(text, where=where, column=what))
    elif tokenizer is None:
        text = f"the {name} {value!r:.60} is text; pass the model's tokenizer, or token ids."
        faults.append(Fault(text, where=where, column=what))
    else:
        return _single(tokenizer, value, where, what, faults)
    return NO_ANSWER


def _encode(
    tokenizer: Tokenizer, text: Any, where: str, what: str, faults: list[Fault]
) -> list[int]:
    if not isinstance(text, str):
        faults.append(Fault(f"{text!r} is not text.", where=where, column=what))
        return []
    try:
        return list(tokenizer.encode(text))
    except (KeyError, TypeError, ValueError) as reason:
        faults.append(Fault(f"{reason!s}", where=where, column=what))
        return []


def _single(tokenizer: Tokenizer, text: str, where: str, what: str, faults: list[Fault]) -> int:
    n_faults = len(faults)
    ids = _encode(tokenizer, text, where, what, faults)
    if len(ids) == 1:
        return ids[0]
    if len(faults) == n_faults:
        pieces = [tokenizer.decode([i]) for i in ids]
        long = (
            f"the {ANSWER_NAMES[what]} {text!r} is {len(ids)} tokens {pieces}. "
            "It must be a single one (is a leading space missing?)."
        )
        faults.append(Fault(long, where=where, column=what))
    return NO_ANSWER


# --- spans


def span_places(
    tokenizer: Tokenizer | None,
    name: str,
    given: Any,
    ids: list[int],
    where: str,
    faults: list[Fault],
) -> Any:
    """The positions of one prompt's span: indices as they are, a phrase where it is found.

    A phrase is a text that occurs once, or a text and which occurrence is meant.
    """
    pair = isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[0], str)
    if not isinstance(given, str) and not pair:
        return given
    phrase, nth = (given[0], whole(given[1])) if pair else (given, None)
    text = None
    if pair and (nth is None or nth == 0 or isinstance(given[1], str)):
        text = f"span {name!r} is {given!r}; the second part must say which occurrence, from 1."
    elif tokenizer is None:
        text = f"span {name!r} is the text {phrase!r:.60}; pass the model's tokenizer."
    elif not phrase.strip():
        text = f"span {name!r} is an empty text."
    if text or tokenizer is None:
        faults.append(Fault(text or "", where=where, column="spans"))
        return [0]
    found = phrase_places(tokenizer, ids, phrase)
    n = len(found)
    if n == 0:
        text = f"span {name!r}: the clean prompt does not have {phrase!r:.60}."
    elif nth is None and n > 1:
        text = (
            f"span {name!r}: {phrase!r:.60} is there {n} times. "
            f'["{phrase}", 2] takes the second; there are also positions.'
        )
    elif nth is not None and abs(nth) > n:
        text = f"span {name!r}: {phrase!r:.60} is there {n} times, not {abs(nth)}."
    if text:
        faults.append(Fault(text, where=where, column="spans"))
        return [0]
    chosen = 1 if nth is None else nth
    return found[chosen - 1 if chosen > 0 else chosen]


def phrase_places(tokenizer: Tokenizer, ids: Sequence[int], phrase: str) -> list[list[int]]:
    """The token positions of every occurrence of a phrase, as whole words, in a prompt."""
    text = tokenizer.decode(ids)
    starts, ends = [], []
    for k in range(len(ids)):
        # A character may be several tokens: until its last one it decodes to a stand-in.
        starts.append(len(tokenizer.decode(ids[:k]).rstrip("\ufffd")))
        ends.append(len(tokenizer.decode(ids[: k + 1])))
    words = phrase.strip()
    before = r"(?<!\w)" if re.match(r"\w", words) else ""
    after = r"(?!\w)" if re.search(r"\w$", words) else ""
    matches = re.finditer(before + re.escape(words) + after, text)
    return [
        [k for k in range(len(ids)) if starts[k] < m.end() and ends[k] > m.start()] for m in matches
    ]


def _span_of_each(
    tokenizer: Tokenizer, name: str, places: Any, rows: Ids, label: Label, faults: list[Fault]
) -> Any:
    if isinstance(places, str):
        places = [places] * len(rows)
    if not isinstance(places, list | tuple) or len(places) != len(rows):
        return places  # a mask, an index for all, or a fault that is found with the others
    return [
        span_places(tokenizer, name, place, rows[i], label(i), faults)
        for i, place in enumerate(places)
    ]
