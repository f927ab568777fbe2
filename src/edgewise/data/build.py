"""Build prompt pairs from token ids: every fault is found before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewise.data.tokens import NO_ANSWER, Padding, real_positions
from edgewise.errors import ProblemError

Ids = list[list[int]]
Label = Callable[[int], str]
_INT64 = torch.iinfo(torch.int64)


def build_pairs(
    clean: Any,
    corrupted: Any,
    answers: Any,
    wrong: Any,
    lengths: Any,
    answer_positions: Any,
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
        _tensor_if_array(given)
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
        faults += [f"{label(i)}: the clean prompt is empty." for i in empty]
    answer_ids = _answer_rows(answers, n, "answers", label, faults)
    wrong_ids = _answer_rows(wrong, n, "wrong", label, faults)
    # Positions stay where the user put them: a batch padded by the user keeps its width.
    width = given_width
    kept = torch.tensor([len(row) for row in clean_rows])
    answer_at = _answer_mask(answer_positions, kept, width, padding, label, faults)
    if faults:
        raise ProblemError(source, faults)
    return {
        "clean": _padded(clean_rows, width, padding),
        "corrupted": None if corrupted_rows is None else _padded(corrupted_rows, width, padding),
        "lengths": kept,
        "answer_at": answer_at,
        "answers": answer_ids,
        "wrong": wrong_ids,
    }


def _whole(value: Any) -> int | None:
    """`value` as an int if it is a whole number that a tensor can hold, else None."""
    if isinstance(value, bool):
        return None
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        return None
    return number if _INT64.min <= number <= _INT64.max else None


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
            values = [_whole(v) for v in row]
        except TypeError:
            faults.append(f"{label(i)}: {what} is {row!r}; it must be a list of token ids.")
            return None
        if None in values:
            odd = row[values.index(None)]
            faults.append(f"{label(i)}: {what} has {odd!r}, which is not a token id.")
        result.append([v or 0 for v in values])
    return result


def _holds_integers(tensor: Tensor) -> bool:
    return tensor.dtype != torch.bool and not (tensor.is_floating_point() or tensor.is_complex())


def _sizes(lengths: Any, n: int, faults: list[str]) -> list[int] | None:
    if lengths is None:
        return None
    values = _listed(lengths)
    if values is None:
        faults.append(f"lengths is {lengths!r}; it must be a list with an entry for each prompt.")
        return None
    sizes = [_whole(v) for v in values]
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
            faults.append(f"{label(i)}: length {size} does not fit {len(row)} {what} tokens.")
        result.append(row[:size] if padding == "right" else row[len(row) - size :])
    return result


def _length_faults(clean: Ids, corrupted: Ids, label: Label) -> list[str]:
    if len(clean) != len(corrupted):
        return [f"there are {len(clean)} clean and {len(corrupted)} corrupted prompts."]
    return [
        f"{label(i)}: clean has {len(a)} tokens, corrupted {len(b)}. Pairs must have equal length."
        for i, (a, b) in enumerate(zip(clean, corrupted, strict=True))
        if len(a) != len(b)
    ]


def _answer_rows(answers: Any, n: int, what: str, label: Label, faults: list[str]) -> Tensor | None:
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
    ids: Ids = []
    for i, row in enumerate(rows):
        known = [_whole(v) for v in row]
        if None in known:
            faults.append(f"{label(i)}: {what} has {row[known.index(None)]!r}, not a token id.")
        elif not [v for v in known if v != NO_ANSWER]:
            faults.append(f"{label(i)}: {what} is empty.")
        once = dict.fromkeys(v or 0 for v in known)  # an answer given twice would count twice
        ids.append(list(once))
    width = max(len(row) for row in ids)
    return torch.tensor([row + [NO_ANSWER] * (width - len(row)) for row in ids]).reshape(n, width)


def _answer_mask(
    positions: Any,
    sizes: Tensor,
    width: int,
    padding: Padding,
    label: Label,
    faults: list[str],
) -> Tensor:
    real = real_positions(sizes, width, padding)
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        return _checked_mask(positions, real, label, faults)
    if isinstance(positions, Tensor) and positions.ndim > 1:
        faults.append(
            "answer_positions is a tensor of numbers; a [batch pos] mask must be boolean."
        )
        return real
    given = [-1] * len(sizes) if positions is None else _listed(positions)
    if given is None:
        faults.append(f"answer_positions is {positions!r}; it must have an entry for each prompt.")
        return real
    if len(given) != len(sizes):
        faults.append(f"there are {len(given)} answer_positions for {len(sizes)} prompts.")
        return real
    mask = torch.zeros_like(real)
    for i, (entry, size) in enumerate(zip(given, sizes.tolist(), strict=True)):
        start = 0 if padding == "right" else width - size
        for value in entry if isinstance(entry, list | tuple) else [entry]:
            place = _whole(value)
            if place is None:
                faults.append(
                    f"{label(i)}: answer_positions has {value!r}; "
                    "it must be indices, or a [batch pos] mask."
                )
            elif positions is None and size == 0:
                continue  # told already: the prompt is empty
            elif not -size <= place < size:
                faults.append(f"{label(i)}: answer position {place} is outside its {size} tokens.")
            else:
                mask[i, start + place % size] = True
    return mask


def _checked_mask(mask: Tensor, real: Tensor, label: Label, faults: list[str]) -> Tensor:
    if mask.shape != real.shape:
        faults.append(f"answer_positions is {tuple(mask.shape)}, not {tuple(real.shape)}.")
        return real
    for i in (mask & ~real).any(dim=1).nonzero().flatten().tolist():
        faults.append(f"{label(i)}: an answer position is padding.")
    for i in (~mask.any(dim=1)).nonzero().flatten().tolist():
        faults.append(f"{label(i)}: it has no answer position.")
    return mask.clone()


def _tensor_if_array(given: Any) -> Any:
    """NumPy arrays, and whatever else can become one, as tensors; everything else as it is."""
    if isinstance(given, Tensor) or not hasattr(given, "__array__"):
        return given
    return torch.as_tensor(given.__array__())


def _listed(values: Any) -> list[Any] | None:
    """A list of the entries; None if there are none to list."""
    plain = values.tolist() if isinstance(values, Tensor) else values
    return list(plain) if isinstance(plain, list | tuple | range) else None


def _padded(rows: Ids, width: int, padding: Padding) -> Tensor:
    def fill(row: list[int]) -> list[int]:
        pad = [0] * (width - len(row))  # any legal id: padding is masked, never read
        return row + pad if padding == "right" else pad + row

    return torch.tensor([fill(row) for row in rows])
