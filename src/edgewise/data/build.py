"""Build prompt pairs from token ids: every fault is found before anything is built."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgewise.data.answers import (
    Answers,
    begins_as_wrong,
    id_rows,
    notes_of,
    whole_answer_faults,
    with_whole_answers,
)
from edgewise.data.faults import Fault, Label
from edgewise.data.positions import answer_mask, listed, span_masks, tensor_if_array, whole
from edgewise.data.tokens import NO_ANSWER, AnswerTokens, Padding
from edgewise.errors import ProblemError

Ids = list[list[int]]


def build_pairs(
    clean: Any,
    corrupted: Any,
    answers: Any,
    wrong: Any,
    lengths: Any,
    answer_positions: Any,
    spans: Any,
    padding: Padding,
    source: str,
    label: Label = lambda i: f"pair {i}",
) -> dict[str, Any]:
    """The fields of `PromptPairs`. Raises `ProblemError` with every fault of the input.

    `label` names a pair in messages: a file's pairs are known by their lines.
    """
    if padding not in ("right", "left"):
        raise ProblemError(source, [f"padding is {padding!r}; it must be 'right' or 'left'."])
    clean, corrupted, answers, wrong, lengths, answer_positions = (
        tensor_if_array(given)
        for given in (clean, corrupted, answers, wrong, lengths, answer_positions)
    )
    faults: list[str] = []
    clean_given = _id_rows(clean, "clean", label, faults)
    corrupted_given = None
    if corrupted is not None:
        corrupted_given = _id_rows(corrupted, "corrupted", label, faults)
    if clean_given is None:
        raise ProblemError(source, faults)  # nothing else can be compared with it
    n, given_width = len(clean_given), max((len(row) for row in clean_given), default=0)
    if n == 0:
        raise ProblemError(source, ["there are no prompts. A problem needs at least one pair."])
    sizes = _sizes(lengths, n, faults)
    clean_rows = _unpadded(clean_given, sizes, padding, "clean", label, faults)
    corrupted_rows = None
    if corrupted_given is not None:
        corrupted_rows = _unpadded(corrupted_given, sizes, padding, "corrupted", label, faults)
        faults += _length_faults(clean_rows, corrupted_rows, label)
    if sizes is None:
        empty = [i for i, row in enumerate(clean_rows) if not row]
        text = "the clean prompt is empty."
        faults += [Fault(text, where=label(i), column="clean") for i in empty]
    right = _answer_rows(answers, n, "answers", label, faults)
    others = _answer_rows(wrong, n, "wrong", label, faults)
    alike = begins_as_wrong(right, others)
    if right is not None and alike:
        faults += whole_answer_faults(right, alike, answer_positions, label)
    # Positions stay where the user put them: a batch padded by the user keeps its width.
    width = given_width
    kept = torch.tensor([len(row) for row in clean_rows])
    answer_at = answer_mask(answer_positions, kept, width, padding, label, faults)
    masks = span_masks(spans, kept, width, padding, label, faults)
    if faults:
        raise ProblemError(source, faults)
    fields = {
        "clean": _padded(clean_rows, width, padding),
        "corrupted": None if corrupted_rows is None else _padded(corrupted_rows, width, padding),
        "lengths": kept,
        "answer_at": answer_at,
        "answers": id_rows(right),
        "wrong": id_rows(others),
        "spans": masks,
        "notes": tuple(notes_of(right, others, alike)),
    }
    return with_whole_answers(fields, right, padding) if right and alike else fields


def _id_rows(rows: Any, what: str, label: Label, faults: list[str]) -> Ids | None:
    """Lists of ids, whatever they were given as; None if they are not [batch pos] at all."""
    if isinstance(rows, Tensor):
        if rows.ndim == 2 and _holds_integers(rows):
            return rows.tolist()
        dtype, shape = str(rows.dtype).removeprefix("torch."), tuple(rows.shape)
        faults.append(
            f"{what} is a {dtype} tensor of shape {shape}; "
            "it must be integer token ids [batch pos]."
        )
        return None
    if isinstance(rows, str) or not hasattr(rows, "__iter__"):
        faults.append(f"{what} is {rows!r}; it must be token ids [batch pos].")
        return None
    result: Ids = []
    for i, row in enumerate(rows):
        row = row.tolist() if hasattr(row, "tolist") else row
        try:
            values = [whole(v) for v in row]
        except TypeError:
            text = f"{what} is {row!r}; it must be a list of token ids."
            faults.append(Fault(text, where=label(i), column=what))
            return None
        if None in values:
            odd = row[values.index(None)]
            text = f"{what} has {odd!r}, which is not a token id."
            faults.append(Fault(text, where=label(i), column=what))
        result.append([v or 0 for v in values])
    return result


def _holds_integers(tensor: Tensor) -> bool:
    return tensor.dtype != torch.bool and not (tensor.is_floating_point() or tensor.is_complex())


def _sizes(lengths: Any, n: int, faults: list[str]) -> list[int] | None:
    if lengths is None:
        return None
    values = listed(lengths)
    if values is None:
        faults.append(f"lengths is {lengths!r}; it must be a list with an entry for each prompt.")
        return None
    sizes = [whole(v) for v in values]
    if None in sizes:
        faults.append(f"lengths has {values[sizes.index(None)]!r}, which is not a whole number.")
        return None
    if len(sizes) != n:
        faults.append(f"there are {len(sizes)} lengths for {n} clean prompts.")
        return None
    return [size for size in sizes if size is not None]


def _unpadded(
    rows: Ids, sizes: list[int] | None, padding: Padding, what: str, label: Label, faults: list[str]
) -> Ids:
    """Each prompt's own tokens."""
    if sizes is None or len(rows) != len(sizes):
        return rows
    result = []
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if not 0 < size <= len(row):
            text = f"length {size} does not fit {len(row)} {what} tokens."
            faults.append(Fault(text, where=label(i), column=what))
        result.append(row[:size] if padding == "right" else row[len(row) - size :])
    return result


def _length_faults(clean: Ids, corrupted: Ids, label: Label) -> list[str]:
    if len(clean) != len(corrupted):
        return [f"there are {len(clean)} clean and {len(corrupted)} corrupted prompts."]
    return [
        Fault(
            f"clean has {len(a)} tokens, corrupted {len(b)}. Pairs must have equal length.",
            where=label(i),
            column="corrupted",
        )
        for i, (a, b) in enumerate(zip(clean, corrupted, strict=True))
        if len(a) != len(b)
    ]


def _answer_rows(
    answers: Any, n: int, what: str, label: Label, faults: list[str]
) -> Answers | None:
    if answers is None:
        return None
    values = answers.tolist() if isinstance(answers, Tensor) else answers
    if not hasattr(values, "__iter__") or isinstance(values, str):
        faults.append(f"{what} is {values!r}; it must be a list with an entry for each prompt.")
        return None
    values = [v.tolist() if isinstance(v, Tensor) else v for v in values]
    rows = [list(v) if isinstance(v, list | tuple) else [v] for v in values]
    if len(rows) != n:
        faults.append(f"there are {len(rows)} {what} for {n} prompts.")
        return None
    found: Answers = []
    for i, row in enumerate(rows):
        tokens = [_tokens(v) for v in row]
        odd = [v for v, ids in zip(row, tokens, strict=True) if not ids]
        given = [ids for ids in tokens if ids != (NO_ANSWER,)]
        if odd:
            text = f"{what} has {odd[0]!r}, not a token id."
            faults.append(Fault(text, where=label(i), column=what))
        elif not given:
            faults.append(Fault(f"{what} is empty.", where=label(i), column=what))
        found.append(given)
    return found


def _tokens(value: Any) -> AnswerTokens:
    if isinstance(value, AnswerTokens):
        return value
    known = whole(value)
    return AnswerTokens([] if known is None else [known])


def _padded(rows: Ids, width: int, padding: Padding) -> Tensor:
    def fill(row: list[int]) -> list[int]:
        pad = [0] * (width - len(row))  # any legal id: padding is masked, never read
        return row + pad if padding == "right" else pad + row

    return torch.tensor([fill(row) for row in rows])
