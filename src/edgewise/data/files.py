"""Prompt pairs from JSONL files: faults are named by line and column."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from edgewise.data.text import tokens_of_text
from edgewise.data.tokens import Tokenizer
from edgewise.errors import FormatError, ProblemError

_KEYS = {  # our name for a column: the spellings it is read from
    "clean": ("clean",),
    "corrupted": ("corrupted", "corrupt"),
    "answers": ("answers", "answer"),
    "wrong": ("wrong", "wrong_answers", "wrong_answer"),
    "answer_positions": ("answer_positions", "answer_position"),
}


def rows_of_file(
    path: Path, tokenizer: Tokenizer | None, bos: bool
) -> tuple[dict[str, Any], list[int]]:
    """Token rows of a JSONL file, and the line each came from.

    Raises `FormatError` or `ProblemError`, naming lines.
    """
    records = _records(path)
    lines = [line for line, _ in records]
    columns: dict[str, list[Any]] = {}
    faults = _misspelt(records)
    for name, spellings in _KEYS.items():
        values = [next((r[k] for k in spellings if k in r), None) for _, r in records]
        missing = [line for line, value in zip(lines, values, strict=True) if value is None]
        if len(missing) < len(values):
            columns[name] = values
        if missing and (name == "clean" or len(missing) < len(values)):
            faults += [f"line {line}: it has no {name!r}." for line in missing]
    if faults:
        raise ProblemError(str(path), faults)
    texts = [isinstance(row, str) for row in columns["clean"]]
    if not any(texts):
        _check_ids(columns, lines, str(path))
        if bos:
            raise ProblemError(str(path), ["its prompts are token ids; bos is for text. Drop it."])
        return dict(columns), lines
    if not all(texts):
        raise ProblemError(
            str(path), ["some prompts are text and some are token ids. Use one kind."]
        )
    if tokenizer is None:
        raise ProblemError(str(path), ["its prompts are text; pass the model's tokenizer."])
    _check_text(columns, lines, str(path))
    positions = columns.get("answer_positions")
    rows = tokens_of_text(
        columns["clean"],
        columns.get("corrupted"),
        columns.get("answers"),
        columns.get("wrong"),
        tokenizer,
        bos,
        str(path),
        label=lambda i: f"line {lines[i]}",
    )
    return rows | {"answer_positions": positions}, lines


def _misspelt(records: list[tuple[int, dict[str, Any]]]) -> list[str]:
    """Columns that are not ours but look as if they were meant to be; others are the user's own."""
    known = [spelling for spellings in _KEYS.values() for spelling in spellings]
    columns: dict[str, int] = {}
    for line, record in records:
        for name in record:
            columns.setdefault(name, line)
    return [
        f"line {line}: no column {name!r} is known. Did you mean {near[0]!r}?"
        for name, line in columns.items()
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.8))
    ]


def _records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as reason:
        raise FormatError(f"cannot read the pairs file {path}: {reason.strerror}") from reason
    except UnicodeDecodeError as reason:
        raise FormatError(f"{path}: not UTF-8 text: {reason}") from reason
    records = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as reason:
            faults.append(f"line {number}, column {reason.colno}: not JSON: {reason.msg}.")
            continue
        except (ValueError, RecursionError) as reason:  # thousands of digits, or of brackets
            faults.append(f"line {number}: cannot be read: {reason}.")
            continue
        if not isinstance(record, dict):
            faults.append(f'line {number}: expected an object like {{"clean": …}}.')
            continue
        records.append((number, record))
    if faults:
        raise ProblemError(str(path), faults)
    if not records:
        raise ProblemError(str(path), ["there are no prompts. A problem needs at least one pair."])
    return records


def _check_text(columns: dict[str, list[Any]], lines: list[int], source: str) -> None:
    faults = []
    for name, values in columns.items():
        for line, value in zip(lines, values, strict=True):
            if name == "answer_positions":
                continue  # whatever they are, build_pairs checks them
            several = isinstance(value, list) and name in ("answers", "wrong")
            if not all(isinstance(text, str) for text in (value if several else [value])):
                faults.append(f"line {line}: {name!r} must be text, as the clean prompts are.")
    if faults:
        raise ProblemError(source, faults)


def _check_ids(columns: dict[str, list[Any]], lines: list[int], source: str) -> None:
    def is_ids(value: Any) -> bool:
        return isinstance(value, list) and all(type(v) is int for v in value)

    faults = []
    for name, values in columns.items():
        for line, value in zip(lines, values, strict=True):
            if name == "answer_positions":
                continue
            answer = name in ("answers", "wrong") and type(value) is int
            if not (is_ids(value) or answer):
                faults.append(f"line {line}: {name!r} must be token ids, as the clean prompts are.")
    if faults:
        raise ProblemError(source, faults)
