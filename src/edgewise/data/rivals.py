"""Files of other packages, read as they are: EAP-IG, AutoCircuit and Edge Pruning.

EAP-IG (github.com/hannamw/EAP-IG) writes CSV with token ids in columns such as `correct_idx`; its
Greater-Than files have the two digits of a year there, or in `label`. AutoCircuit
(github.com/UFO-101/auto-circuit) writes an object with `prompts`, and names positions in
`word_idxs`, or all of them in `seq_labels`, counted without BOS. Edge Pruning
(github.com/princeton-nlp/Edge-Pruning) marks what is predicted with <predict>…</predict>, or has
`prefix` and `corr_prefix` with a pronoun or the digits of a year, or whole sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgewise.data.faults import Fault
from edgewise.data.positions import whole
from edgewise.graph import name_fault

# Columns of token ids, by what they mean to us. Where a row also has the words, the ids are right:
# the words lack the space before them.
ID_COLUMNS = {
    "answers": ("correct_idx", "answers_idx", "clean_answer_idx", "country_idx"),
    "wrong": (
        "incorrect_idx",
        "corrupted_answers_idx",
        "corrupted_answer_idx",
        "corrupted_country_idx",
    ),
}
_SENTENCES = (("text", "corr_text"), ("ioi_sentences", "corr_ioi_sentences"))
_OPEN, _CLOSE = "<predict>", "</predict>"
_YEAR = re.compile(r"\b(\d\d)(\d\d)\b.*\b\1$", re.DOTALL)  # … from the year 1732 to the year 17


def translated(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row, with those of other packages under our names.

    Raises `ValueError` with what is wrong with the row.
    """
    row = dict(values)
    for text, corrupted in _SENTENCES:
        if isinstance(row.get(text), str) and isinstance(row.get(corrupted), str):
            row["clean"], row["answers"] = _without_last_word(row.pop(text))
            row["corrupted"], _ = _without_last_word(row.pop(corrupted))
    if "prefix" in row and "corr_prefix" in row:
        row["clean"], row["corrupted"] = row.pop("prefix"), row.pop("corr_prefix")
        if "pronoun" in row and "corr_pronoun" in row:
            row["answers"], row["wrong"] = f" {row['pronoun']}", f" {row['corr_pronoun']}"
        if "digits" in row:
            row["label"] = row["digits"]
    if isinstance(row.get("clean"), str) and _OPEN in row["clean"]:
        row["clean"], row["answers"] = _predicted(row["clean"])
        if isinstance(row.get("corrupted"), str):
            row["corrupted"] = row["corrupted"].partition(_OPEN)[0]
    return _with_years(row)


def _without_last_word(sentence: str) -> tuple[str, str]:
    start, space, word = sentence.rpartition(" ")
    return start, space + word


def _predicted(text: str) -> tuple[str, str]:
    """The prompt up to what is predicted, and that; nothing after it can be read before it."""
    before, _, rest = text.partition(_OPEN)
    word, close, _ = rest.partition(_CLOSE)
    if not close:
        raise ValueError(f"{_OPEN} has no {_CLOSE} after it.")
    return before, word


def _with_years(row: dict[str, Any]) -> dict[str, Any]:
    """Greater-Than: the two digits of the clean year stand for all years after it, and up to it."""
    column = next((name for name in ("correct_idx", "label") if name in row), None)
    if column is None or "incorrect_idx" in row or not isinstance(row.get("clean"), str):
        return row
    match, digits = _YEAR.search(row["clean"].rstrip()), _number(row[column])
    if match is None or digits is None or int(match[2]) != digits:
        return row
    del row[column]
    row["answers"] = [f"{year:02d}" for year in range(digits + 1, 100)]
    row["wrong"] = [f"{year:02d}" for year in range(digits + 1)]
    return row


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 3 else None
    return whole(value)


def spans_of_facts(facts: Mapping[str, Any], faults: list[Fault]) -> dict[str, list[int]]:
    """The spans of an AutoCircuit file: `word_idxs`, or else `seq_labels`.

    Names of the same position become one, joined with "=".
    """
    words, labels = facts.get("word_idxs"), facts.get("seq_labels")
    if words is None and labels is None:
        return {}
    if words is None:
        return _spans_of_labels(labels, faults)
    if not isinstance(words, dict) or not all(whole(v) is not None for v in words.values()):
        faults.append(Fault("'word_idxs' must map names to positions.", column="word_idxs"))
        return {}
    named: dict[int, list[str]] = {}
    for name, place in words.items():
        named.setdefault(place, []).append(_name(name, place))
    spans: dict[str, list[int]] = {}
    for place, names in named.items():
        spans.setdefault("=".join(names), []).append(place)
    return spans


def _spans_of_labels(labels: Any, faults: list[Fault]) -> dict[str, list[int]]:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        faults.append(Fault("'seq_labels' must be a list of texts.", column="seq_labels"))
        return {}
    spans: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        spans.setdefault(_name(label, place), []).append(place)
    return spans


def _name(name: str, place: int) -> str:
    """A name that edges can hold."""
    clean = re.sub(r"->|[\[\]<>@|,:]|[^\S ]", "_", name.strip())
    return clean if clean and name_fault(clean) is None else f"position{place}"
