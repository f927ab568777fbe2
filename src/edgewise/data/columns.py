"""What the columns of a table mean: clean, corrupted, answers, wrong, answer_positions, spans."""

from __future__ import annotations

import ast
import difflib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.data.faults import Fault
from edgewise.data.rivals import ID_COLUMNS, translated
from edgewise.data.tables import Row, Table
from edgewise.errors import SettingError, unknown_name

SPELLINGS = {  # our name for a column: the spellings it is read from
    "clean": ("clean",),
    "corrupted": ("corrupted", "corrupt"),
    "answers": ("answers", "answer"),
    "wrong": ("wrong", "wrong_answers", "wrong_answer"),
    "answer_positions": ("answer_positions", "answer_position"),
    "spans": ("spans",),
}
Columns = Mapping[str, str | None]


@dataclass(frozen=True)
class Record:
    """A row's values under our names."""

    where: str
    values: Mapping[str, Any]


def parse_columns(text: str) -> dict[str, str | None]:
    """A column map as the command line writes it: "clean=prompt,answers=" (nothing: leave out).

    Raises `SettingError`.
    """
    columns: dict[str, str | None] = {}
    for part in text.split(","):
        ours, equals, theirs = part.partition("=")
        if not equals or not ours.strip():
            raise SettingError(f"a column map has {part!r}; it must be like clean=prompt,answers=.")
        columns[ours.strip()] = theirs.strip() or None
    return columns


def check_columns(columns: Columns | None) -> dict[str, str | None]:
    """A column map under our names. Raises `UnknownName` or `SettingError`."""
    named: dict[str, str | None] = {}
    for given, theirs in (columns or {}).items():
        ours = next((name for name, known in SPELLINGS.items() if given in known), None)
        if ours is None:
            raise unknown_name("column", given, SPELLINGS)
        if theirs is not None and not isinstance(theirs, str):
            raise SettingError(f"column {given!r} is read from {theirs!r}; it must be a name.")
        if ours in named:
            raise SettingError(f"column {ours!r} is mapped twice.")
        named[ours] = theirs
    if named.get("clean", "") is None:
        raise SettingError("column 'clean' cannot be left out.")
    return named


def records_of(
    table: Table, columns: Mapping[str, str | None], faults: list[Fault]
) -> list[Record]:
    """The rows that have a prompt, under our names; to lack what others have is a fault."""
    read: list[Record] = []
    for row in table.rows:
        try:
            read.append(Record(row.where, _ours(row, columns, cells=table.cells)))
        except _CellFault as reason:
            faults.append(Fault(reason.text, where=row.where, column=reason.column))
    _add_unknown(table, read, columns, faults)
    for name in SPELLINGS:
        lacking = [record for record in read if name not in record.values]
        asked = columns.get(name)
        if not lacking:
            continue
        if len(lacking) == len(read):
            if name == "clean" or asked:
                faults.append(_absent(table, name, lacking[0].where, asked))
            continue
        text = f"it has no {name!r}{f', read from {asked!r}' if asked else ''}."
        faults += [Fault(text, where=record.where, column=name) for record in lacking]
    return [record for record in read if "clean" in record.values]


class _CellFault(Exception):
    def __init__(self, column: str, text: str) -> None:
        super().__init__(text)
        self.column, self.text = column, text


def _ours(row: Row, columns: Mapping[str, str | None], *, cells: bool) -> dict[str, Any]:
    try:
        values = translated(row.values)
    except ValueError as reason:
        raise _CellFault("clean", str(reason)) from reason
    found: dict[str, Any] = {}
    for name in SPELLINGS:
        spelling = _spelling(name, values, columns, cells=cells)
        if spelling is None:
            continue
        value = values[spelling]
        if cells and isinstance(value, str):
            value = _of_cell(name, value, row.where)
        if spelling in ID_COLUMNS.get(name, ()):
            value = _ids(spelling, value)
        if value is not None:
            found[name] = value
    return found


def _spelling(
    name: str, values: Mapping[str, Any], columns: Mapping[str, str | None], *, cells: bool
) -> str | None:
    """The column of this row that is read as `name`."""

    def filled(key: str) -> bool:
        return values.get(key) is not None and not (cells and values[key] == "")

    if name in columns:
        asked = columns[name]
        return asked if asked is not None and filled(asked) else None
    for key in ID_COLUMNS.get(name, ()):
        if filled(key):
            return key
    there = [key for key in SPELLINGS[name] if filled(key)]
    if len(there) > 1:
        both = " and ".join(repr(key) for key in there)
        raise _CellFault(name, f"{both} both say what {name!r} is. Keep one, or map the other.")
    return there[0] if there else None


def _of_cell(name: str, cell: str, where: str) -> Any:
    """What a cell of CSV says: text, a list of ids or texts, indices, an object of spans."""
    if name in ("clean", "corrupted"):
        ids = _literal(cell) if cell.lstrip().startswith("[") else None
        return ids if isinstance(ids, list) and all(type(v) is int for v in ids) else cell
    if name in ("answers", "wrong"):
        several = _literal(cell) if cell.lstrip().startswith("[") else None
        return several if isinstance(several, list) else cell
    value = _literal(cell)
    if value is None:
        raise _CellFault(name, f"{name!r} is {cell!r:.60}, which cannot be read.")
    return value


def _literal(text: str) -> Any:
    """A list, number or object written as in JSON or Python; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd escapes in the user's text
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _is_id(text: str) -> bool:
    return text.strip().isdecimal() and len(text) < 19


def _ids(column: str, value: Any) -> Any:
    """Token ids, from a column of another package that holds nothing else."""
    several = value if isinstance(value, list) else [value]
    ids = [int(v) if isinstance(v, str) and _is_id(v) else v for v in several]
    odd = [v for v in ids if type(v) is not int]
    if odd:
        name = next(ours for ours, known in ID_COLUMNS.items() if column in known)
        raise _CellFault(name, f"{column!r} has {odd[0]!r}, which is not a token id.")
    return ids


def _add_unknown(
    table: Table, read: list[Record], columns: Mapping[str, str | None], faults: list[Fault]
) -> None:
    """Columns that look like one of ours which is missing; all others are the user's own."""
    there = {name for record in read for name in record.values} | set(columns)
    missing = {s: name for name, known in SPELLINGS.items() if name not in there for s in known}
    known = {s for spellings in SPELLINGS.values() for s in spellings} | set(columns.values())
    first: dict[str, str] = {}
    for row in table.rows:
        for name in row.values:
            first.setdefault(name, row.where)
    for name, where in first.items():
        near = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
        if near and name not in known:
            text = f"no column {name!r} is known. Did you mean {near[0]!r}?"
            faults.append(Fault(text, where=where, column=name))


def _absent(table: Table, name: str, where: str, asked: str | None) -> Fault:
    names = list(dict.fromkeys(name for row in table.rows for name in row.values))
    listed = ", ".join(repr(name) for name in names[:8] if name) + (", …" if names[8:] else "")
    if asked:
        text = f"it has no {asked!r}, which {name!r} is read from; its columns are {listed}."
    else:
        text = (
            f"it has no {name!r}; its columns are {listed or 'none'}. "
            f'Say which it is: columns={{"{name}": NAME}}, or --columns {name}=NAME.'
        )
    return Fault(text, where=where, column=name)
