"""Prompts and answers from text: every answer a single token, every fault reported at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgewise.data.tokens import NO_ANSWER, Tokenizer
from edgewise.errors import ProblemError

Ids = list[list[int]]


def tokens_of_text(
    clean: Sequence[str],
    corrupted: Sequence[str] | None,
    answers: Any,
    wrong: Any,
    tokenizer: Tokenizer | None,
    bos: bool,
    source: str,
    label: Callable[[int], str] = lambda i: f"pair {i}",
) -> dict[str, Any]:
    """The token ids of prompts and answers. Raises `ProblemError` with every fault."""
    if tokenizer is None:
        raise ProblemError(source, ["prompts of text need a tokenizer; pass the model."])
    given = {"clean": clean, "corrupted": corrupted, "answers": answers, "wrong": wrong}
    for what, texts in given.items():
        if isinstance(texts, str):
            raise ProblemError(source, [f"{what} is one text; it must be a list of texts."])
    faults: list[str] = []
    start: list[int] = []
    if bos:
        if tokenizer.bos is None:
            raise ProblemError(source, ["bos is asked for, but the tokenizer has no BOS token."])
        start = [tokenizer.bos]

    def prompts(texts: Sequence[str]) -> Ids:
        rows = []
        for i, text in enumerate(texts):
            ids = _encode(tokenizer, text, label(i), faults)
            if start and ids[:1] == start:
                faults.append(f"{label(i)}: the text begins with the BOS token already; drop bos.")
            rows.append(start + ids)
        return rows

    def singles(values: Any, what: str) -> Ids | None:
        if values is None:
            return None
        rows = []
        for i, value in enumerate(values):
            texts = list(value) if isinstance(value, list | tuple) else [value]
            rows.append([_single(tokenizer, t, label(i), what, faults) for t in texts])
        return rows

    result = {
        "clean": prompts(clean),
        "corrupted": None if corrupted is None else prompts(corrupted),
        "answers": singles(answers, "answer"),
        "wrong": singles(wrong, "wrong answer"),
    }
    if faults:
        raise ProblemError(source, faults)
    return result


def _encode(tokenizer: Tokenizer, text: str, where: str, faults: list[str]) -> list[int]:
    if not isinstance(text, str):
        faults.append(f"{where}: {text!r} is not text.")
        return []
    try:
        return list(tokenizer.encode(text))
    except (KeyError, TypeError, ValueError) as reason:
        faults.append(f"{where}: {reason!s}")
        return []


def _single(tokenizer: Tokenizer, text: str, where: str, what: str, faults: list[str]) -> int:
    n_faults = len(faults)
    ids = _encode(tokenizer, text, where, faults)
    if len(ids) == 1:
        return ids[0]
    if len(faults) == n_faults:
        pieces = [tokenizer.decode([i]) for i in ids]
        faults.append(
            f"{where}: the {what} {text!r} is {len(ids)} tokens {pieces}. "
            "It must be a single one (is a leading space missing?)."
        )
    return NO_ANSWER
