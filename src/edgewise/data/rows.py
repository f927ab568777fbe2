"""Rows of prompts, each with its line or number: from JSON, CSV, Parquet, or mappings in memory.

A row that cannot be read becomes a fault and the rest is read on, so that one look at a file finds
all that is wrong with it. What the columns mean is decided in `column_names`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewise.errors import Fault, FormatError, SettingError, shortened

_CELL_LIMIT = 1 << 26  # characters; csv's own limit of 131,072 is less than a long prompt of ids
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
    """Rows and the faults of those that could not be read.

    `cells` says that values are text even where they mean numbers (CSV). `facts` is what a file
    says of all prompts (AutoCircuit).
    """

    source: str
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()
    cells: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def table_of_file(path: Path) -> RowTable:
    """The rows of a file, read as its name ends. Raises `FormatError` if it cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise FormatError(
            f"cannot tell how to read {path}: its name ends in {suffix!r}. Read are .jsonl, "
            ".json, .csv, .tsv and .parquet; what has no ending is read as JSON."
        )
    try:
        return _READERS[suffix](path)
    except OSError as reason:
        text = reason.strerror or str(reason)
        raise FormatError(f"cannot read the pairs file {path}: {text}") from reason
    except UnicodeDecodeError as reason:
        line = reason.object[: reason.start].count(b"\n") + 1
        byte = reason.object[reason.start]
        raise FormatError(
            f"{shortened(str(path), 120)}: line {line} has the byte {byte:#04x}, which is not "
            "UTF-8 text. Save it as UTF-8."
        ) from reason


def table_of_rows(rows: Iterable[Any], source: str) -> RowTable:
    """The rows of a dataset: any iterable of mappings. Raises `SettingError` for other things."""
    if isinstance(rows, str | bytes) or not hasattr(rows, "__iter__"):
        raise SettingError(f"the dataset is {rows!r:.60}; it must be rows, each a mapping.")
    if isinstance(rows, Mapping):
        names = ", ".join(repr(name) for name in list(rows)[:5])
        raise SettingError(
            f"the dataset is a mapping of {names}; pass its rows: one split of a DatasetDict, or a "
            "list of mappings."
        )
    if hasattr(rows, "iterrows") or hasattr(rows, "iter_rows"):
        raise SettingError(
            "the dataset is a data frame; pass its rows as mappings: "
            'frame.to_dict("records") of pandas, frame.to_dicts() of polars.'
        )
    return _table(source, [(f"row {i}", plain(row)) for i, row in enumerate(rows)], [])


def rows_of_columns(
    columns: Mapping[str, Any], faults: list[Fault], *, lengths: Any = None, right: bool = True
) -> tuple[list[Row], int]:
    """The rows of columns, each a list or array with an entry for each prompt, and the widest.

    `spans` maps names to columns; what is not a list there holds for all prompts. Prompts are cut
    to their `lengths`, from the left if padding is on the `right`.
    """
    prompts = _entries("clean", columns["clean"], None, faults)
    if not prompts:
        faults += [] if prompts is None else [Fault(NO_PROMPTS)]
        return [], 0
    width = max((len(prompt) for prompt in prompts if isinstance(prompt, list)), default=0)
    rows: list[dict[str, Any]] = [{"clean": prompt} for prompt in prompts]
    for name, column in columns.items():
        if name in ("clean", "spans") or column is None:
            continue
        for row, value in zip(rows, _entries(name, column, len(rows), faults) or (), strict=False):
            row[name] = value
    if columns.get("spans") is not None:
        for row, spans in zip(rows, _span_rows(columns["spans"], len(rows), faults), strict=False):
            row["spans"] = spans
    if lengths is not None:
        _cut(rows, _entries("lengths", lengths, len(rows), faults) or (), right, faults)
    return [Row(f"pair {i}", row) for i, row in enumerate(rows)], width


def _entries(name: str, column: Any, n: int | None, faults: list[Fault]) -> list[Any] | None:
    """A column's entries, `n` of them; None if it has not."""
    values = plain(column)
    axes = getattr(column, "ndim", 1)
    is_mask = axes == 2 and str(column.dtype).endswith("bool")
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        text = f"{name} is {column!r:.60}; it must be a list with an entry for each prompt."
        faults.append(Fault(text))
        return None
    if name == "answer_positions" and axes > 1 and not is_mask:
        text = "answer_positions is a tensor of numbers; a [batch pos] mask must be boolean."
        faults.append(Fault(text))
        return None
    entries = list(map(Mask, values)) if is_mask else [plain(row) for row in values]
    if n is not None and len(entries) != n:
        faults.append(Fault(f"there are {len(entries)} {name} for {n} prompts."))
        return None
    return entries


def _span_rows(spans: Any, n: int, faults: list[Fault]) -> list[dict[str, Any]]:
    """Each prompt's spans."""
    if not isinstance(spans, Mapping) or not spans:
        text = f"spans is {spans!r:.60}; it must map names to positions, or be left out."
        faults.append(Fault(text))
        return []
    columns = {}
    for name, column in spans.items():
        for_all = isinstance(column, str) or whole(column) is not None
        entries = [plain(column)] * n if for_all else _entries(f"span {name!r}", column, n, faults)
        columns[name] = entries or [0] * n
    return [{name: entries[i] for name, entries in columns.items()} for i in range(n)]


def _cut(
    rows: list[dict[str, Any]], sizes: Sequence[Any], right: bool, faults: list[Fault]
) -> None:
    """Leave each prompt its own tokens."""
    if not all(whole(size) is not None for size in sizes):
        faults.append(Fault(f"lengths has an entry that is not a whole number: {sizes!r:.60}."))
        return
    for i, (row, size) in enumerate(zip(rows, sizes, strict=False)):
        for name in ("clean", "corrupted"):
            ids = row.get(name)
            if isinstance(ids, list) and 0 < size <= len(ids):
                row[name] = ids[:size] if right else ids[len(ids) - size :]
            elif isinstance(ids, list):
                text = f"length {size} does not fit {len(ids)} {name} tokens."
                faults.append(Fault(text, where=f"pair {i}", column=name))


def plain(value: Any) -> Any:
    """Numbers and lists of Python for those of NumPy, torch and Arrow."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        known = all(type(v) is int for v in value)  # most are lists of token ids
        return list(value) if known else [plain(v) for v in value]
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


def _table(
    source: str, values: Iterable[tuple[str, Any]], faults: list[Fault], **facts: Any
) -> RowTable:
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
    return RowTable(source, tuple(rows), tuple(faults), **facts)


def _text(path: Path) -> str:
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


# --- JSON: a list of objects, one object after the other, or one that has them all

_VALUE = re.compile(r"[^ \t\r\n]")
_LINE_END = re.compile(r"[ \t\r]*(\n|$)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may be lost to a second one of the same name."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowFault(f"{twice!r:.80} is there twice.")
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _json(path: Path) -> RowTable:
    values, faults = _json_values(_text(path))
    facts: Mapping[str, Any] = {}
    if len(values) == 1 and not faults:
        listed, facts = _opened(values[0][1])
        if listed is not None:
            values = [(f"item {i}", value) for i, value in enumerate(listed, start=1)]
    return _table(str(path), values, faults, facts=facts)


def _json_values(text: str) -> tuple[list[tuple[str, Any]], list[Fault]]:
    """One value after the other, by the line it begins on; after a broken one, go on below it."""
    values: list[tuple[str, Any]] = []
    faults: list[Fault] = []
    at, line, counted = 0, 1, 0
    while begin := _VALUE.search(text, at):
        at = begin.start()
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = _DECODER.raw_decode(text, at)
            if not _LINE_END.match(text, end):
                raise json.JSONDecodeError("Extra data", text, end)
        except (ValueError, RecursionError, RowFault) as reason:
            broken = reason.lineno if isinstance(reason, json.JSONDecodeError) else line
            if text[at] == "[" and not (values or faults):  # the list of them all
                return [], [Fault(_why(reason, broken), where=f"line {broken}", whole=True)]
            faults.append(Fault(_why(reason, line), where=f"line {line}"))
            following = re.compile(r"\n(?=\{)" if broken > line else r"\n").search(text, at)
            at = following.end() if following else len(text)
        else:
            values.append((f"line {line}", value))
            at = end
    return values, faults


def _why(reason: Exception, line: int) -> str:
    """Why a value that begins on a line cannot be read."""
    if isinstance(reason, RowFault):
        return reason.text
    if not isinstance(reason, json.JSONDecodeError):
        return f"cannot be read: {reason}."  # thousands of digits, or of brackets
    place = f", in line {reason.lineno}" if reason.lineno > line else ""
    return f"not JSON: {reason.msg}{place}."


def _opened(document: Any) -> tuple[list[Any] | None, Mapping[str, Any]]:
    """The objects of one value that holds them all, and what it says of them.

    It is a list, or an object: with `prompts`, with one other list, or of columns as pandas writes
    them. None if it is a row by itself.
    """
    if not isinstance(document, dict):
        return document if isinstance(document, list) else None, {}
    lists = [k for k, v in document.items() if isinstance(v, list) and v and _are_objects(v)]
    name = "prompts" if isinstance(document.get("prompts"), list) else None
    if name is None and len(lists) == 1 and "clean" not in document:
        name = lists[0]
    if name is not None:
        return document[name], {k: v for k, v in document.items() if k != name}
    columns = list(document.values())
    texts = any(isinstance(v, list) and v and isinstance(v[0], str) for v in columns)
    if _are_objects(columns) and all(column.keys() == columns[0].keys() for column in columns):
        columns = [list(column.values()) for column in columns]
    elif not (texts and all(isinstance(v, list) and len(v) == len(columns[0]) for v in columns)):
        return None, {}
    return [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)], {}


def _are_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


# --- CSV and Parquet


def _csv(path: Path) -> RowTable:
    faults: list[Fault] = []
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        rows = _csv_rows(_text(path), "\t" if path.suffix.lower() == ".tsv" else ",", faults)
    finally:
        csv.field_size_limit(limit)
    return _table(str(path), rows, faults, cells=True)


def _csv_rows(text: str, delimiter: str, faults: list[Fault]) -> list[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[str, dict[str, str]]] = []
    start = 1
    try:
        for cells in reader:
            where, start = f"line {start}", reader.line_num + 1
            if not cells or cells == [""]:
                continue
            if not header:
                header = [name.strip() for name in cells]
                twice = sorted({name for name in header if name and header.count(name) > 1})
                texts = [f"the column {name!r} is there twice." for name in twice]
                faults += [Fault(text, where=where, whole=True) for text in texts]
            elif len(cells) != len(header):
                text = f"it has {len(cells)} cells; the header has {len(header)}."
                faults.append(Fault(text, where=where))
            else:
                rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as reason:
        faults.append(Fault(f"not CSV: {reason}.", where=f"line {start}", whole=True))
    return rows


def _parquet(path: Path) -> RowTable:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as reason:
        raise FormatError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'edgewise[data]'."
        ) from reason
    try:
        with path.open("rb") as file:
            records = pyarrow.parquet.read_table(file).to_pylist()
    except pyarrow.ArrowException as reason:
        raise FormatError(f"{path}: not a Parquet file: {reason}") from reason
    return table_of_rows(records, str(path))


_READERS: Mapping[str, Callable[[Path], RowTable]] = {
    **dict.fromkeys(("", ".jsonl", ".ndjson", ".json"), _json),
    **dict.fromkeys((".csv", ".tsv"), _csv),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
}
