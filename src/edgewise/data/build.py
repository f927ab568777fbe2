"""Build prompt pairs from token ids: every fault is found before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.data.tokens import NO_ANSWER, Padding, real_positions
from edgewise.errors import ProblemError

Ids = list[list[int]]


def build_pairs(
    clean: Any,
    corrupted: Any,
    answers: Any,
    wrong: Any,
    lengths: Any,
    answer_positions: Any,
    padding: Padding,
    source: str,
) -> dict[str, Any]:
    """The fields of `PromptPairs`. Raises `ProblemError` with every fault of the input."""
    if padding not in ("right", "left"):
        raise ProblemError(source, [f"padding is {padding!r}; it must be 'right' or 'left'."])
    faults: list[str] = []
    clean_rows = _unpadded(clean, lengths, padding, "clean", faults)
    corrupted_rows = None
    if corrupted is not None:
        corrupted_rows = _unpadded(corrupted, lengths, padding, "corrupted", faults)
    if not clean_rows and not faults:
        faults.append("there are no prompts. A problem needs at least one pair.")
    if corrupted_rows is not None:
        faults += _length_faults(clean_rows, corrupted_rows)
    faults += [
        f"pair {i}: the clean prompt is empty." for i, row in enumerate(clean_rows) if not row
    ]
    n = len(clean_rows)
    answer_ids = _answer_rows(answers, n, "answers", faults)
    wrong_ids = _answer_rows(wrong, n, "wrong", faults)
    if faults:
        raise ProblemError(source, faults)
    width = max(len(row) for row in clean_rows)
    sizes = torch.tensor([len(row) for row in clean_rows])
    answer_at = _answer_mask(answer_positions, sizes, width, padding, faults)
    if faults:
        raise ProblemError(source, faults)
    return {
        "clean": _padded(clean_rows, width, padding),
        "corrupted": None if corrupted_rows is None else _padded(corrupted_rows, width, padding),
        "lengths": sizes,
        "answer_at": answer_at,
        "answers": answer_ids,
        "wrong": wrong_ids,
    }


def _unpadded(rows: Any, lengths: Any, padding: Padding, what: str, faults: list[str]) -> Ids:
    """Each prompt's own tokens, whatever way they were given."""
    if isinstance(rows, Tensor) and (rows.ndim != 2 or rows.is_floating_point()):
        faults.append(
            f"{what} is a {str(rows.dtype).removeprefix('torch.')} tensor of shape "
            f"{tuple(rows.shape)}; it must be integer token ids [batch pos]."
        )
        return []
    ids = rows.tolist() if isinstance(rows, Tensor) else [[int(t) for t in row] for row in rows]
    if lengths is None:
        return ids
    sizes = lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths]
    if len(sizes) != len(ids):
        faults.append(f"there are {len(sizes)} lengths for {len(ids)} {what} prompts.")
        return ids
    result = []
    for i, (row, size) in enumerate(zip(ids, sizes, strict=True)):
        if not 0 < size <= len(row):
            faults.append(f"pair {i}: length {size} does not fit {len(row)} {what} tokens.")
        result.append(row[:size] if padding == "right" else row[len(row) - size :])
    return result


def _length_faults(clean: Ids, corrupted: Ids) -> list[str]:
    if len(clean) != len(corrupted):
        return [f"there are {len(clean)} clean and {len(corrupted)} corrupted prompts."]
    return [
        f"pair {i}: clean has {len(a)} tokens, corrupted {len(b)}. Pairs must have equal length."
        for i, (a, b) in enumerate(zip(clean, corrupted, strict=True))
        if len(a) != len(b)
    ]


def _answer_rows(answers: Any, n: int, what: str, faults: list[str]) -> Tensor | None:
    if answers is None:
        return None
    values = answers.tolist() if isinstance(answers, Tensor) else list(answers)
    rows = [list(v) if isinstance(v, Sequence) and not isinstance(v, str) else [v] for v in values]
    if len(rows) != n:
        faults.append(f"there are {len(rows)} {what} for {n} prompts.")
        return None
    for i, row in enumerate(rows):
        if not [v for v in row if v != NO_ANSWER]:
            faults.append(f"pair {i}: {what} is empty.")
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [NO_ANSWER] * (width - len(row)) for row in rows]).reshape(n, width)


def _answer_mask(
    positions: Any, sizes: Tensor, width: int, padding: Padding, faults: list[str]
) -> Tensor:
    real = real_positions(sizes, width, padding)
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        if positions.shape != real.shape:
            faults.append(f"answer_positions is {tuple(positions.shape)}, not {tuple(real.shape)}.")
            return real
        for i in (positions & ~real).any(dim=1).nonzero().flatten().tolist():
            faults.append(f"pair {i}: an answer position is padding.")
        for i in (~positions.any(dim=1)).nonzero().flatten().tolist():
            faults.append(f"pair {i}: it has no answer position.")
        return positions.clone()
    places = [-1] * len(sizes) if positions is None else [int(p) for p in positions]
    if len(places) != len(sizes):
        faults.append(f"there are {len(places)} answer_positions for {len(sizes)} prompts.")
        return real
    mask = torch.zeros_like(real)
    for i, (place, size) in enumerate(zip(places, sizes.tolist(), strict=True)):
        if not -size <= place < size:
            faults.append(f"pair {i}: answer position {place} is outside its {size} tokens.")
            continue
        start = 0 if padding == "right" else width - size
        mask[i, start + place % size] = True
    return mask


def _padded(rows: Ids, width: int, padding: Padding) -> Tensor:
    def fill(row: list[int]) -> list[int]:
        pad = [0] * (width - len(row))  # any legal id: padding is masked, never read
        return row + pad if padding == "right" else pad + row

    return torch.tensor([fill(row) for row in rows])
