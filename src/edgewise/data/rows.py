"""Rows of prompts, each with its line or number, from columns or mappings in memory.

A row that cannot be read becomes a fault and the rest is read on, so that all that is wrong is said
at once. Files are read in `files`; what their columns mean is decided in `columns`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.errors import Fault, SettingError

NO_PROMPTS = "there are no prompts. A problem needs at least one pair."
_INT64 = range(-(2**63), 2**63)


class Mask(list[bool]):
    """One prompt's row of a [batch pos] mask, padding included."""


class RowFault(Exception):
    """Why a value of a row cannot be used, and in which of our columns it is, if that is known."""

    def __init__(self, text: str, column: str = "") -> None:
        super().__init__(text)
        self.text, self.column = text, column


@dataclass(frozen=True)
class Row:
    """One prompt's columns, and where they stand: as the source spells them, then as we do."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RowTable:
    """Rows, and the faults of those that could not be read.

    A batch of token ids that the user padded has a `width`, which its masks have too.
    """

    source: str
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()
    width: int = 0


def table_of(source: str, values: Iterable[tuple[str, Any]], faults: list[Fault]) -> RowTable:
    """A table of values that should be objects, each with where it stands."""
    rows = []
    for where, value in values:
        if isinstance(value, Mapping):
            rows.append(Row(where, value))
        else:
            text = f'expected an object like {{"clean": …}}, not {value!r:.60}.'
            faults.append(Fault(text, where=where))
    if not rows and not faults:
        faults.append(Fault(NO_PROMPTS))
    return RowTable(source, tuple(rows), tuple(faults))


def table_of_rows(rows: Iterable[Any], source: str) -> RowTable:
    """The rows of a dataset: any iterable of mappings. Raises `SettingError` for other things."""
    is_frame = hasattr(rows, "iterrows") or hasattr(rows, "iter_rows")
    if is_frame or isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__iter__"):
        raise SettingError(
            f"the dataset is a {type(rows).__name__}; it must be rows, each a mapping: a list of "
            'dictionaries, one split of a DatasetDict, frame.to_dict("records") of pandas, '
            "frame.to_dicts() of polars."
        )
    return table_of(source, [(f"row {i}", plain(row)) for i, row in enumerate(rows)], [])


def table_of_columns(
    source: str, columns: Mapping[str, Any], spans: Any = None, *, right: bool = True
) -> RowTable:
    """The rows of columns under our names, each a list or array with an entry for each prompt.

    `spans` maps names to columns, or to what holds for all prompts. Prompts are cut to their
    `lengths`, if there is such a column, from the left if padding is on the `right`.
    """
    try:
        prompts = _entries("clean", columns["clean"], None, is_span=False)
    except RowFault as reason:
        return RowTable(source, (), (Fault(reason.text),))
    if not prompts:
        return RowTable(source, (), (Fault(NO_PROMPTS),))
    faults: list[Fault] = []
    rows: list[dict[str, Any]] = [{} for _ in prompts]
    named = [("", name, column) for name, column in columns.items() if column is not None]
    if isinstance(spans, Mapping) and spans:
        named += [("spans", name, column) for name, column in spans.items()]
    elif spans is not None:
        text = f"spans is {spans!r:.60}; it must map names to positions, or be left out."
        faults.append(Fault(text))
    for within, name, column in named:
        label = f"span {name!r}" if within else name
        try:
            entries = _entries(label, column, len(rows), is_span=bool(within))
        except RowFault as reason:
            faults.append(Fault(reason.text))
            continue
        for row, entry in zip(rows, entries, strict=True):
            holder = row.setdefault(within, {}) if within else row
            holder[name] = entry
    width = max((len(row["clean"]) for row in rows if isinstance(row["clean"], list)), default=0)
    for i, row in enumerate(rows):
        try:
            _cut(row, row.pop("lengths", None), right)
        except RowFault as reason:
            faults.append(Fault(reason.text, where=f"pair {i}", column=reason.column))
    labelled = tuple(Row(f"pair {i}", row) for i, row in enumerate(rows))
    return RowTable(source, labelled, tuple(faults), width)


def _entries(name: str, column: Any, n: int | None, *, is_span: bool) -> list[Any]:
    """A column's entries, `n` of them; an index or a phrase as a span holds for all prompts."""
    values, axes = plain(column), getattr(column, "ndim", 1)
    is_mask = axes == 2 and str(column.dtype).endswith("bool")
    if is_span and (isinstance(column, str) or whole(values) is not None):
        return [values] * (n or 0)
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise RowFault(f"{name} is {column!r:.60}; it must be a list, an entry for each prompt.")
    if name == "answer_positions" and axes > 1 and not is_mask:
        raise RowFault(f"{name} is a tensor of numbers; a [batch pos] mask must be boolean.")
    entries = list(map(Mask, values)) if is_mask else [plain(row) for row in values]
    if n not in (None, len(entries)):
        raise RowFault(f"there are {len(entries)} {name} for {n} prompts.")
    return entries


def _cut(row: dict[str, Any], length: Any, right: bool) -> None:
    """Leave a row's prompts their own tokens."""
    size = whole(length)
    for name in ("clean", "corrupted"):
        ids = row.get(name)
        if length is None or not isinstance(ids, list):
            continue
        if size is None or not 0 < size <= len(ids):
            raise RowFault(f"length {length!r:.60} does not fit {len(ids)} {name} tokens.", name)
        row[name] = ids[:size] if right else ids[len(ids) - size :]


def plain(value: Any) -> Any:
    """Numbers and lists of Python for those of NumPy, torch and Arrow."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        are_ids = all(type(v) is int for v in value)  # as most are
        return list(value) if are_ids else [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    return value


def whole(value: Any) -> int | None:
    """`value` as an int if it is a whole number that a tensor can hold, else None."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        return None
    return None if isinstance(value, bool) or number not in _INT64 else number


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of the whole first, then those of each row."""
    return sorted(faults, key=lambda fault: [int(n) for n in re.findall(r"\d+", fault.where)[:2]])
