"""What the columns of a table are read as.

A user's column map comes first, then Edgewise's own names, then a layout of another package, which
is taken as a whole or not at all. The choice is made once, from all columns of the table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgewise.data.files import SharedSpans
from edgewise.data.layouts import FIELDS, FOREIGN, Layout, Values, value_of
from edgewise.data.rows import Row, RowFault, RowTable, whole
from edgewise.errors import Fault, SettingError, shortened, unknown_name

Columns = Mapping[str, str | None]
_NAMES = {name: field for field in FIELDS for name in (field, *FIELDS[field].other_names)}


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


def layout_of(table: RowTable, columns: Columns | None) -> Layout:
    """The layout of a table. Raises `UnknownName` or `SettingError` for a map without sense."""
    mapped = _checked(columns or {})
    named = {field: (theirs,) for field, theirs in mapped.items() if theirs is not None}
    cells = [item for row in table.rows for item in row.values.items()]
    filled = dict.fromkeys(name for name, value in cells if value is not None)
    own: dict[str, tuple[str, ...]] = {}
    for name in filled:
        field = _NAMES.get(name)
        if field and value_of(field) not in map(value_of, mapped):
            own[field] = (*own.get(field, ()), name)
    chosen = Layout("your column map" if named else "Edgewise", own)
    if any(isinstance(value, SharedSpans) for _, value in cells):
        chosen = replace(chosen, name="AutoCircuit")
    for foreign in FOREIGN:
        taken = {*map(value_of, own)} - {foreign.over} | {*map(value_of, named)}
        theirs = {name for names in foreign.columns.values() for name in names}
        if not taken & foreign.values and theirs <= filled.keys():
            again = {*map(value_of, foreign.columns)}
            beside = {field: names for field, names in own.items() if value_of(field) not in again}
            layout = replace(foreign, columns={**beside, **foreign.columns, **named})
            rows = (
                {f: _member(row.values, names[0]) for f, names in layout.columns.items()}
                for row in table.rows
            )
            if foreign.fits is None or any(map(foreign.fits, rows)):
                chosen = layout
                break
    read = {**chosen.columns, **named}
    used = [name for names in read.values() for name in names]
    return replace(
        chosen,
        columns={field: read[field] for field in FIELDS if field in read},
        without=frozenset(map(value_of, mapped)) - frozenset(map(value_of, named)),
        unread=tuple(n for n in filled if not any(u == n or u.startswith(f"{n}.") for u in used)),
    )


def _checked(columns: Columns) -> dict[str, str | None]:
    """A column map by field."""
    mapped: dict[str, str | None] = {}
    for name, theirs in columns.items():
        if name not in _NAMES:
            raise unknown_name("column", name, _NAMES)
        if theirs is not None and not isinstance(theirs, str):
            raise SettingError(f"column {name!r} is read from {theirs!r:.60}; it must be a name.")
        if value_of(_NAMES[name]) in map(value_of, mapped):
            raise SettingError(f"column {value_of(_NAMES[name])!r} is mapped twice.")
        mapped[_NAMES[name]] = theirs
    if mapped.get("clean", "") is None:
        raise SettingError("column 'clean' cannot be left out.")
    return mapped


def named_rows(table: RowTable, layout: Layout) -> tuple[list[Row], list[Fault]]:
    """The rows that have a prompt, under our names, and all faults."""
    rows, faults = [], list(table.faults)
    for row in table.rows:
        try:
            values = _values(row, layout)
            values = layout.finish(values) if layout.finish else values
        except RowFault as reason:
            faults.append(Fault(reason.text, where=row.where, column=reason.column))
            continue
        kept = {name: value for name, value in values.items() if name not in layout.without}
        rows.append(Row(row.where, kept))
    faults += _misspelt(table, layout)
    for name in dict.fromkeys(map(value_of, FIELDS)):
        lacking = [row.where for row in rows if name not in row.values]
        columns = [c for f, names in layout.columns.items() if value_of(f) == name for c in names]
        if not lacking or name in layout.without:
            continue
        source = f", read from {columns[0]!r}" if columns and columns[0] not in _NAMES else ""
        text = f"it has no {name!r}{source}"
        if len(lacking) < len(rows):
            faults += [Fault(f"{text}.", where=where, column=name) for where in lacking]
        elif columns or name == "clean":
            text = f"{text}; {_advice(table, name)}"
            faults.append(Fault(text, where=lacking[0], column=name, whole=True))
    return [row for row in rows if "clean" in row.values], faults


def _advice(table: RowTable, name: str) -> str:
    names = list(dict.fromkeys(column for row in table.rows for column in row.values))
    listed = shortened(", ".join(map(repr, filter(None, names[:8]))), 200)
    listed += ", …" if names[8:] else ""
    return (
        f"its columns are {listed or 'none'}. "
        f'Say which it is: columns={{"{name}": NAME}}, or --columns {name}=NAME.'
    )


def _misspelt(table: RowTable, layout: Layout) -> Iterator[Fault]:
    """Columns that look like one of ours which is missing; all others are the user's own."""
    present = layout.values | layout.without
    missing = [name for name, field in _NAMES.items() if value_of(field) not in present]
    used = {*_NAMES, *(name for names in layout.columns.values() for name in names)}
    first = {name: row.where for row in reversed(table.rows) for name in row.values}
    for name, where in first.items():
        near = difflib.get_close_matches(name[:80], missing, n=1, cutoff=0.8)
        if near and name not in used:
            text = f"no column {shortened(name)!r} is known. Did you mean {near[0]!r}?"
            yield Fault(text, where=where, column=name, whole=True)


# --- one row


def _values(row: Row, layout: Layout) -> Values:
    """What a row's columns say. Raises `RowFault` for a cell that cannot be read."""
    values: Values = {}
    sources: dict[str, str] = {}
    for field, column in ((f, name) for f, names in layout.columns.items() for name in names):
        name, value = value_of(field), _member(row.values, column)
        if value is None:
            continue
        if name in sources:
            both = f"{sources[name]!r} and {column!r}"
            text = f"{both} both say what {name!r} is. Keep one, or map the other."
            raise RowFault(text, name)
        sources[name] = column
        values[name] = _ids(value, column, name) if field != name else value
        if field in ("answers", "wrong") and not isinstance(values.get("clean"), list):
            values[name] = _as_text(value)
    return values


def _member(values: Mapping[str, Any], name: str) -> Any:
    """A column, or what `a.b` or `a.0` names inside of one; None if it is not there."""
    if name in values or "." not in name:
        return values.get(name)
    member: Any = values
    for part in name.split("."):
        if isinstance(member, Mapping):
            member = member.get(part)
        elif isinstance(member, list) and part.isdecimal() and int(part[:9]) < len(member):
            member = member[int(part[:9])]
        else:
            return None
    return member


def _ids(value: Any, column: str, name: str) -> list[Any]:
    """Token ids, from a column that holds nothing else."""
    ids = value if isinstance(value, list) else [value]
    ids = [int(v) if isinstance(v, str) and re.fullmatch("[0-9]{1,18}", v) else v for v in ids]
    odd = [entry for entry in ids if whole(entry) is None]
    if odd:
        raise RowFault(f"{column!r} has {odd[0]!r:.60}, which is not a token id.", name)
    return ids


def _as_text(value: Any) -> Any:
    """Whole numbers as text, beside prompts of text: so they mean the same in CSV and in JSON."""
    if isinstance(value, list):
        return [_as_text(entry) for entry in value]
    return str(value) if type(value) is int else value
