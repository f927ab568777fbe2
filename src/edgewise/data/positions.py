"""Positions of prompts as masks [batch pos]: where answers are read, and named spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgewise.data.faults import Fault, Label
from edgewise.data.tokens import Padding, real_positions
from edgewise.graph import name_fault

_INT64 = torch.iinfo(torch.int64)


def whole(value: Any) -> int | None:
    """`value` as an int if it is a whole number that a tensor can hold, else None."""
    if isinstance(value, bool):
        return None
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        return None
    return number if _INT64.min <= number <= _INT64.max else None


def tensor_if_array(given: Any) -> Any:
    """NumPy arrays, and whatever else can become one, as tensors; everything else as it is."""
    if isinstance(given, Tensor) or not hasattr(given, "__array__"):
        return given
    return torch.as_tensor(given.__array__())


def listed(values: Any) -> list[Any] | None:
    """A list of the entries; None if there are none to list."""
    plain = values.tolist() if isinstance(values, Tensor) else values
    return list(plain) if isinstance(plain, list | tuple | range) else None


def answer_mask(
    positions: Any,
    sizes: Tensor,
    width: int,
    padding: Padding,
    label: Label,
    faults: list[str],
) -> Tensor:
    """Where each prompt's answers are read [batch pos]: as given, else its last token."""
    real = real_positions(sizes, width, padding)
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        return _checked_mask(positions, real, label, faults)
    if isinstance(positions, Tensor) and positions.ndim > 1:
        faults.append(
            "answer_positions is a tensor of numbers; a [batch pos] mask must be boolean."
        )
        return real
    given = [-1] * len(sizes) if positions is None else listed(positions)
    if given is None:
        faults.append(f"answer_positions is {positions!r}; it must have an entry for each prompt.")
        return real
    if len(given) != len(sizes):
        faults.append(f"there are {len(given)} answer_positions for {len(sizes)} prompts.")
        return real
    mask = torch.zeros_like(real)
    for i, (entry, size) in enumerate(zip(given, sizes.tolist(), strict=True)):
        start = 0 if padding == "right" else width - size
        where, column = label(i), "answer_positions"
        for value in entry if isinstance(entry, list | tuple) else [entry]:
            place = whole(value)
            if place is None:
                text = f"answer_positions has {value!r}; it must be indices, or a [batch pos] mask."
                faults.append(Fault(text, where=where, column=column))
            elif positions is None and size == 0:
                continue  # told already: the prompt is empty
            elif not -size <= place < size:
                text = f"answer position {place} is outside its {size} tokens."
                faults.append(Fault(text, where=where, column=column))
            else:
                mask[i, start + place % size] = True
        if isinstance(entry, list | tuple) and not entry:
            faults.append(Fault("it has no answer position.", where=where, column=column))
    return mask


def _checked_mask(mask: Tensor, real: Tensor, label: Label, faults: list[str]) -> Tensor:
    column = "answer_positions"
    if mask.shape != real.shape:
        faults.append(f"answer_positions is {tuple(mask.shape)}, not {tuple(real.shape)}.")
        return real
    for i in (mask & ~real).any(dim=1).nonzero().flatten().tolist():
        faults.append(Fault("an answer position is padding.", where=label(i), column=column))
    for i in (~mask.any(dim=1)).nonzero().flatten().tolist():
        faults.append(Fault("it has no answer position.", where=label(i), column=column))
    return mask.clone()


def span_masks(
    spans: Any,
    sizes: Tensor,
    width: int,
    padding: Padding,
    label: Label,
    faults: list[str],
) -> dict[str, Tensor] | None:
    """Named spans as masks [batch pos], disjoint, each with a position in every prompt.

    `spans` maps a name to a [batch pos] mask, to one index for all prompts, or to a list with an
    index or several for each prompt; negative indices count from a prompt's end.
    """
    if spans is None:
        return None
    if not isinstance(spans, Mapping):
        faults.append(f"spans is {spans!r}; it must map names to positions.")
        return None
    if not spans:
        faults.append("spans is empty; leave it out, or name some positions.")
    real = real_positions(sizes, width, padding)
    masks: dict[str, Tensor] = {}
    for name, places in spans.items():
        wrong = name_fault(name)
        if wrong:
            faults.append(Fault(wrong, column="spans"))
            continue
        masks[name] = _span_mask(name, tensor_if_array(places), real, label, faults)
    _add_overlaps(masks, real, label, faults)
    return masks


def _span_mask(name: str, places: Any, real: Tensor, label: Label, faults: list[str]) -> Tensor:
    if isinstance(places, Tensor) and places.dtype == torch.bool:
        return _span_of_mask(name, places, real, label, faults)
    mask = torch.zeros_like(real)
    for_all = whole(places)
    entries = [for_all] * len(real) if for_all is not None else listed(places)
    if entries is None or len(entries) != len(real):
        found = f"is {places!r}" if entries is None else f"has {len(entries)} entries"
        text = (
            f"span {name!r} {found}; it must be a [batch pos] mask, an index, or a list with "
            f"positions for each of {len(real)} prompts."
        )
        faults.append(Fault(text, column="spans"))
        return mask
    for i, entry in enumerate(entries):
        own = real[i].nonzero().flatten().tolist()
        several = list(entry) if isinstance(entry, list | tuple) else [entry]
        if not several:
            faults.append(Fault(_absent(name), where=label(i), column="spans"))
        for value in several:
            place = whole(value)
            if place is None:
                text = f"span {name!r} has {value!r}, which is not a position."
                faults.append(Fault(text, where=label(i), column="spans"))
            elif -len(own) <= place < len(own):
                mask[i, own[place]] = True
            else:
                text = f"position {place} of span {name!r} is outside its {len(own)} tokens."
                faults.append(Fault(text, where=label(i), column="spans"))
    return mask


def _span_of_mask(name: str, mask: Tensor, real: Tensor, label: Label, faults: list[str]) -> Tensor:
    if mask.shape != real.shape:
        text = f"span {name!r} is {tuple(mask.shape)}, not {tuple(real.shape)}."
        faults.append(Fault(text, column="spans"))
        return torch.zeros_like(real)
    for i in range(len(real)):
        if bool((mask[i] & ~real[i]).any()):
            text = f"a position of span {name!r} is padding."
            faults.append(Fault(text, where=label(i), column="spans"))
        if not bool(mask[i].any()):
            faults.append(Fault(_absent(name), where=label(i), column="spans"))
    return mask.clone()


def _absent(name: str) -> str:
    return f"it has no position of span {name!r}; every span must occur in every prompt."


def _add_overlaps(
    masks: Mapping[str, Tensor], real: Tensor, label: Label, faults: list[str]
) -> None:
    """Report every position that two spans claim, counted from the prompt's first token."""
    if not masks:
        return
    claimed = torch.stack(list(masks.values())).sum(dim=0) > 1
    for i, at in claimed.nonzero().tolist():
        both = " and ".join(repr(name) for name, mask in masks.items() if mask[i, at])
        place = at - int(real[i].int().argmax())
        text = f"position {place} is in spans {both}; spans must not overlap."
        faults.append(Fault(text, where=label(i), column="spans"))
