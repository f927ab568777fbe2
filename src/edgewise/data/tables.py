"""Rows of any file, each knowing its line: JSON, CSV, Parquet, or rows in memory.

A line that cannot be read becomes a fault and the rest is read on, so that one look at a file finds
all that is wrong with it. What the columns mean is decided in `columns`.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewise.data.faults import Fault
from edgewise.data.json_text import objects
from edgewise.errors import FormatError, SettingError, shortened

EMPTY = "there are no prompts. A problem needs at least one pair."
_CELL_LIMIT = 1 << 26  # characters; csv's own limit of 131,072 is less than a long prompt of ids


@dataclass(frozen=True)
class Row:
    """One prompt's columns as they are spelt in the source, and where they stand in it."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows and the faults of those that could not be read.

    `cells` says that values are text even where they mean numbers (CSV). `facts` is what a file
    says of all prompts (AutoCircuit).
    """

    source: str
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()
    cells: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def table_of_file(path: Path) -> Table:
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


def table_of_rows(rows: Iterable[Any], source: str) -> Table:
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
    found: list[Row] = []
    faults: list[Fault] = []
    for i, row in enumerate(rows):
        where = f"row {i}"
        if isinstance(row, Mapping):
            found.append(Row(where, {str(k): _plain(v) for k, v in row.items()}))
        else:
            faults.append(Fault(f"it is {row!r:.60}, not a mapping.", where=where))
    return _table(source, found, faults)


def _table(source: str, rows: list[Row], faults: list[Fault], **more: Any) -> Table:
    if not rows and not faults:
        faults = [Fault(EMPTY)]
    return Table(source, tuple(rows), tuple(faults), **more)


def _plain(value: Any) -> Any:
    """Numbers and lists of Python for those of NumPy, torch and Arrow."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return value


def _text(path: Path) -> str:
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")


def _json(path: Path) -> Table:
    found = objects(_text(path))
    apart = len({line for line, _ in found.items}) == len(found.items)
    rows: list[Row] = []
    faults: list[Fault] = list(found.faults)
    for i, (line, record) in enumerate(found.items, start=1):
        where = f"line {line}" if apart else f"line {line}, item {i}"
        if isinstance(record, dict):
            rows.append(Row(where, record))
        else:
            text = f'expected an object like {{"clean": …}}, not {record!r:.60}.'
            faults.append(Fault(text, where=where))
    return _table(str(path), rows, faults, facts=found.facts)


def _csv(delimiter: str) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        rows: list[Row] = []
        faults: list[Fault] = []
        limit = csv.field_size_limit(_CELL_LIMIT)
        try:
            _read_csv(_text(path), delimiter, rows, faults)
        finally:
            csv.field_size_limit(limit)
        return _table(str(path), rows, faults, cells=True)

    return read


def _read_csv(text: str, delimiter: str, rows: list[Row], faults: list[Fault]) -> None:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            where, start = f"line {start}", reader.line_num + 1
            if not cells or cells == [""]:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                twice = sorted({name for name in header if name and header.count(name) > 1})
                faults += [
                    Fault(f"the column {name!r} is there twice.", where=where, whole=True)
                    for name in twice
                ]
            elif len(cells) != len(header):
                text = f"it has {len(cells)} cells; the header has {len(header)}."
                faults.append(Fault(text, where=where))
            else:
                rows.append(Row(where, dict(zip(header, cells, strict=True))))
    except csv.Error as reason:
        faults.append(Fault(f"not CSV: {reason}.", where=f"line {start}", whole=True))


def _parquet(path: Path) -> Table:
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


_READERS: Mapping[str, Callable[[Path], Table]] = {
    "": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv(","),
    ".tsv": _csv("\t"),
    ".parquet": _parquet,
    ".pq": _parquet,
}
