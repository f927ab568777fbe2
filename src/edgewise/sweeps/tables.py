"""A sweep's rows as files that pandas, DuckDB and polars read: JSON lines, and Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgewise.documents import write_bytes, write_text
from edgewise.sweeps.columns import Column, Row, in_order, table_columns

LINES, PARQUET = "points.jsonl", "points.parquet"


def write_tables(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write the tables, each whole or not at all; Parquet where pyarrow is installed.

    Every line and every row has every column. Raises `OutputError`.
    """
    ordered, columns = in_order(rows), table_columns(rows)
    lines = [json.dumps({c.name: _as(c, row.get(c.name)) for c in columns}) for row in ordered]
    written = [write_text("".join(f"{line}\n" for line in lines), folder / LINES)]
    if find_spec("pyarrow") is not None:
        written.append(write_bytes(_parquet(ordered, columns), folder / PARQUET))
    return written


def _as(column: Column, value: Any) -> Any:
    """The value in the type of its column, so that every reader sees one type."""
    return value if value is None else column.kind(value)


def _parquet(rows: Sequence[Row], columns: Sequence[Column]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {
        str: pyarrow.string(),
        bool: pyarrow.bool_(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
    }
    schema = pyarrow.schema(
        [
            pyarrow.field(c.name, types[c.kind], metadata={"unit": c.unit} if c.unit else None)
            for c in columns
        ],
        metadata={"format": "edgewise-sweep", "version": "2"},
    )
    data = {c.name: [_as(c, row.get(c.name)) for row in rows] for c in columns}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(data, schema=schema), file)
    return file.getvalue()
