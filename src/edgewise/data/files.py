"""Files of prompts as rows: JSON in its many shapes, CSV and TSV, Parquet.

A file of AutoCircuit (github.com/UFO-101/auto-circuit) is an object with `prompts`; it names token
positions that all prompts share in `word_idxs`, or every one of them in `seq_labels`.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.data.rows import RowTable, table_of, table_of_rows
from edgewise.documents import unique
from edgewise.errors import Fault, FormatError, shortened
from edgewise.graph import name_fault

_CELL_LIMIT = 1 << 26  # characters; csv's own limit of 131,072 is less than a long prompt of ids


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


def _text(path: Path) -> str:
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


# --- JSON: a list of objects, one object after the other, or one that has them all

_VALUE = re.compile(r"[^ \t\r\n]")
_LINE_END = re.compile(r"[ \t\r]*(\n|$)")
_DECODER = json.JSONDecoder(object_pairs_hook=unique)


def _json(path: Path) -> RowTable:
    values, faults = _json_values(_text(path))
    items = _items(values[0][1]) if len(values) == 1 and not faults else None
    if items is not None:
        values = [(f"item {i}", item) for i, item in enumerate(items, start=1)]
    return table_of(str(path), values, faults)


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
        except (ValueError, RecursionError) as reason:  # too many digits or brackets, too
            broken, why = line, f"cannot be read: {reason}"
            if isinstance(reason, json.JSONDecodeError):
                broken, why = reason.lineno, f"not JSON: {reason.msg}"
            if text[at] == "[" and not (values or faults):  # the list of them all
                return [], [Fault(f"{why}.", where=f"line {broken}", whole=True)]
            why += f", in line {broken}." if broken > line else "."
            faults.append(Fault(why, where=f"line {line}"))
            following = re.compile(r"\n(?=\{)" if broken > line else r"\n").search(text, at)
            at = following.end() if following else len(text)
        else:
            values.append((f"line {line}", value))
            at = end
    return values, faults


def _items(document: Any) -> list[Any] | None:
    """The objects of one value that holds them all; None if it is a row by itself.

    It is a list, or an object: with `prompts`, with one other list, or of columns as pandas writes
    them.
    """
    if not isinstance(document, dict):
        return document if isinstance(document, list) else None
    lists = [k for k, v in document.items() if isinstance(v, list) and v and _are_objects(v)]
    if isinstance(document.get("prompts"), list):
        return _with_shared_spans(document["prompts"], document)
    if len(lists) == 1 and "clean" not in document:
        return _with_shared_spans(document[lists[0]], document)
    columns = list(document.values())
    if _are_objects(columns) and len({tuple(column) for column in columns}) == 1:
        columns = [list(column.values()) for column in columns]
    elif not any(isinstance(v, list) and v and isinstance(v[0], str) for v in columns):
        return None
    if not all(isinstance(v, list) and len(v) == len(columns[0]) for v in columns):
        return None
    return [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)]


def _are_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


# --- AutoCircuit: positions that hold for every prompt


@dataclass(frozen=True)
class SharedSpans:
    """Positions in every prompt, counted without BOS in `n_tokens` (0: not known).

    There are none where a file names positions in a way that cannot be understood.
    """

    positions: Mapping[str, list[int]]
    n_tokens: int


def _with_shared_spans(rows: list[Any], facts: Mapping[str, Any]) -> list[Any]:
    """Rows with the spans that their file has for all of them, where they have none of their own.

    They are in `word_idxs`, or else `seq_labels`. Names of one position become one, joined by "=".
    """
    words, labels = facts.get("word_idxs"), facts.get("seq_labels")
    if not (words or labels):
        return rows
    named: list[tuple[Any, Any]] = []
    if isinstance(words, dict):
        named = list(words.items())
    elif isinstance(labels, list) and not words:
        named = [(name, position) for position, name in enumerate(labels)]
    if not all(isinstance(name, str) and type(position) is int for name, position in named):
        named = []
    together: dict[int, list[str]] = {}
    for name, position in named:
        together.setdefault(position, []).append(_edge_name(name, position))
    positions: dict[str, list[int]] = {}
    for position, names in together.items():
        positions.setdefault("=".join(names), []).append(position)
    ends = [position + 1 for name, position in named if words and name.lower() == "end"]
    n_tokens = len(labels) if isinstance(labels, list) else sum(ends[:1])
    spans = SharedSpans(positions, n_tokens)
    return [{"spans": spans, **row} if isinstance(row, dict) else row for row in rows]


def _edge_name(name: str, position: int) -> str:
    """A span's name that names of edges can hold."""
    clean = re.sub(r"->|[\[\]<>@|,:]|[^\S ]", "_", name.strip())
    return clean if clean and name_fault(clean) is None else f"position{position}"


# --- CSV and Parquet


def _csv(path: Path) -> RowTable:
    faults: list[Fault] = []
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with warnings.catch_warnings(action="ignore"):  # about odd escapes in Python's lists
            rows = _csv_rows(_text(path), "\t" if path.suffix.lower() == ".tsv" else ",", faults)
    finally:
        csv.field_size_limit(limit)
    return table_of(str(path), rows, faults)


def _csv_rows(text: str, delimiter: str, faults: list[Fault]) -> list[tuple[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[str, Any]] = []
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
                rows.append((where, dict(zip(header, map(_of_cell, cells), strict=True))))
    except csv.Error as reason:
        faults.append(Fault(f"not CSV: {reason}.", where=f"line {start}", whole=True))
    return rows


def _of_cell(cell: str) -> Any:
    """What a cell means: nothing, a number, a list or object of JSON or Python, or its text."""
    if re.fullmatch("0|-?[1-9][0-9]{0,17}", cell):  # as Python writes it, so it can be text again
        return int(cell)
    if cell.lstrip()[:1] not in ("[", "{"):
        return cell or None
    with suppress(ValueError, RecursionError):
        return json.loads(cell)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        value = ast.literal_eval(cell.strip())
        return value if isinstance(value, list | dict) else cell
    return cell


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
