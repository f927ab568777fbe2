"""What the columns of a table mean: clean, corrupted, answers, wrong, answer_positions, spans.

A user's column map comes first, then Edgewise's own names, then a layout of another package, which
is taken as a whole or not at all. The choice is made once, from all columns of the table.
"""

from __future__ import annotations

import ast
import difflib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgewise.data.layouts import FOREIGN, ID_SPELLINGS, SPELLINGS, Layout, Values, shared_spans
from edgewise.data.rows import Row, RowFault, RowTable
from edgewise.errors import Fault, SettingError, shortened, unknown_name

Columns = Mapping[str, str | None]


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


def layout_of(table: RowTable, columns: Columns | None, faults: list[Fault]) -> Layout:
    """The layout of a table. Raises `UnknownName` or `SettingError` for a map without sense."""
    mapped, ids = _checked(columns)
    named = {ours: (theirs,) for ours, theirs in mapped.items() if theirs is not None}
    filled = {  # columns that hold something, in their order
        name: True
        for row in table.rows
        for name, value in row.values.items()
        if _filled(value, table.cells)
    }
    own = {
        ours: tuple(name for name in spellings if name in filled)
        for ours, spellings in SPELLINGS.items()
        if ours not in mapped and not filled.keys().isdisjoint(spellings)
    }
    if table.cells:
        (column,) = (own | named).get("clean", ("",))
        prompts = [_member(row.values, column) for row in table.rows]
        n_lists = sum(_id_list(prompt) is not None for prompt in prompts)
        ids |= {"clean", "corrupted"} if 2 * n_lists > len(prompts) else set()
    chosen = Layout("your column map" if named else "Edgewise", {})
    for foreign in FOREIGN:
        theirs = {name for names in foreign.columns.values() for name in names}
        taken = (set(own) - foreign.over) | set(named)
        free = taken.isdisjoint({*foreign.columns, *foreign.makes})
        if (
            free
            and theirs <= filled.keys()
            and _fits(foreign, {**own, **named, **foreign.columns}, ids, table)
        ):
            chosen = foreign
            break
    spans: Mapping[str, list[int]] = {}
    n_positions = 0
    try:
        if "spans" not in {*own, *mapped}:
            spans, n_positions = shared_spans(table.facts)
    except RowFault as reason:
        faults.append(Fault(reason.text, column=reason.column))
    read = {**own, **chosen.columns, **named}
    used = [theirs for columns in read.values() for theirs in columns]
    return replace(
        chosen,
        name="AutoCircuit" if spans and not chosen.columns else chosen.name,
        columns={name: read[name] for name in SPELLINGS if name in read},
        unread=tuple(n for n in filled if not any(u == n or u.startswith(f"{n}.") for u in used)),
        ids=chosen.ids | ids,
        without=frozenset(mapped) - frozenset(named),
        spans=spans,
        n_positions=n_positions,
    )


def _fits(
    foreign: Layout, columns: Mapping[str, tuple[str, ...]], ids: frozenset[str], table: RowTable
) -> bool:
    """Whether a table has a row that fits a layout, all of whose columns it has."""
    prompts = {n: c for n, c in columns.items() if n in ("clean", "answers")}
    layout = Layout("", prompts, ids=ids)
    return foreign.fits is None or any(
        foreign.fits(dict(row.values)) for row in _read_rows(table, layout, [])
    )


def _checked(columns: Columns | None) -> tuple[dict[str, str | None], frozenset[str]]:
    """A column map under our names, and which of them it says to hold ids."""
    named: dict[str, str | None] = {}
    for key, theirs in (columns or {}).items():
        ours = next((name for name, known in SPELLINGS.items() if key in known), None)
        if ours is None:
            raise unknown_name("column", key, [s for known in SPELLINGS.values() for s in known])
        if theirs is not None and not isinstance(theirs, str):
            raise SettingError(f"column {key!r} is read from {theirs!r:.60}; it must be a name.")
        if ours in named:
            raise SettingError(f"column {ours!r} is mapped twice.")
        named[ours] = theirs
    if named.get("clean", "") is None:
        raise SettingError("column 'clean' cannot be left out.")
    ids = {name for name in named if {*(columns or ())} & {*SPELLINGS[name]} & {*ID_SPELLINGS}}
    return named, frozenset(ids)


def named_rows(table: RowTable, layout: Layout, faults: list[Fault]) -> list[Row]:
    """The rows that have a prompt, under our names; to lack what others have is a fault."""
    rows = list(_read_rows(table, layout, faults))
    _add_unknown(table, layout, faults)
    for name in SPELLINGS:
        lacking = [row for row in rows if name not in row.values]
        theirs = layout.columns.get(name, ())
        if not lacking or name in layout.without:
            continue
        if len(lacking) < len(rows):
            read = theirs and theirs[0] not in SPELLINGS[name]
            text = f"it has no {name!r}{f', read from {theirs[0]!r}' if read else ''}."
            faults += [Fault(text, where=row.where, column=name) for row in lacking]
        elif name == "clean" or theirs:
            faults.append(_absent(table, name, lacking[0].where, theirs))
    return [row for row in rows if "clean" in row.values]


def _read_rows(table: RowTable, layout: Layout, faults: list[Fault]) -> Iterator[Row]:
    for row in table.rows:
        try:
            values = _values(row, layout, table.cells)
            values = layout.finish(values) if layout.finish else values
        except RowFault as reason:
            faults.append(Fault(reason.text, where=row.where, column=reason.column))
            continue
        kept = {name: value for name, value in values.items() if name not in layout.without}
        yield Row(row.where, kept)


def _filled(value: Any, cells: bool) -> bool:
    return value is not None and not (cells and value == "")


def _values(row: Row, layout: Layout, cells: bool) -> Values:
    """A row's values under our names. Raises `RowFault` for a cell that cannot be read."""
    values: Values = {}
    ids: set[str] = set()
    for name, columns in layout.columns.items():
        filled = {theirs: _member(row.values, theirs) for theirs in columns}
        filled = {theirs: value for theirs, value in filled.items() if _filled(value, cells)}
        if len(filled) > 1:
            both = " and ".join(repr(theirs) for theirs in filled)
            text = f"{both} both say what {name!r} is. Keep one, or map the other."
            raise RowFault(text, name)
        for theirs, value in filled.items():
            if name in layout.ids or theirs in ID_SPELLINGS:
                ids.add(name)
            if cells and isinstance(value, str):
                value = _of_cell(name, value, name in ids)
            values[name] = _ids(name, theirs, value) if name in ids else value
    is_text = isinstance(values.get("clean"), str)
    for name in {"answers", "wrong"} & values.keys() - ids:
        values[name] = _numbers(values[name], is_text, cells)
    return values


def _numbers(value: Any, text: bool, cells: bool) -> Any:
    """Answers whose numbers are token ids where prompts are ids, and text where they are text.

    So they mean the same in cells of CSV, which are text, and in files that have numbers.
    """
    if isinstance(value, list):
        return [_numbers(v, text, cells) if not isinstance(v, list) else v for v in value]
    if text:
        return str(value) if type(value) is int else value
    return int(value) if cells and _is_id(value) else value


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


def _of_cell(name: str, cell: str, ids: bool) -> Any:
    """What a cell of CSV says: text, a list of ids or texts, indices, an object of spans."""
    if name in ("clean", "corrupted"):
        return (_id_list(cell) or cell) if ids else cell
    if name in ("answers", "wrong"):
        several = _literal(cell) if cell.lstrip().startswith("[") else None
        return several if isinstance(several, list) else cell
    value = _literal(cell)
    if value is None:
        raise RowFault(f"{name!r} is {cell!r:.60}, which cannot be read.", name)
    return value


def _id_list(cell: Any) -> list[int] | None:
    """The token ids that a cell lists; None if it holds anything else."""
    ids = _literal(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else None
    return ids if isinstance(ids, list) and all(type(v) is int for v in ids) else None


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


def _is_id(value: Any) -> bool:
    """Whether a cell's text is a whole number that can be a token id."""
    return isinstance(value, str) and value.strip().isdecimal() and len(value) < 19


def _ids(name: str, column: str, value: Any) -> Any:
    """Token ids, from a column that holds nothing else."""
    several = value if isinstance(value, list) else [value]
    ids = [int(v) if _is_id(v) else v for v in several]
    odd = [v for v in ids if type(v) is not int]
    if odd:
        raise RowFault(f"{column!r} has {odd[0]!r:.60}, which is not a token id.", name)
    return ids


def _add_unknown(table: RowTable, layout: Layout, faults: list[Fault]) -> None:
    """Columns that look like one of ours which is missing; all others are the user's own."""
    present = {*layout.columns, *layout.makes, *layout.without}
    missing = {s: name for name, known in SPELLINGS.items() if name not in present for s in known}
    known = {s for names in (*SPELLINGS.values(), *layout.columns.values()) for s in names}
    first: dict[str, str] = {}
    for row in table.rows:
        for name in row.values:
            first.setdefault(name, row.where)
    for name, where in first.items():
        near = difflib.get_close_matches(name[:80], missing, n=1, cutoff=0.8)
        if near and name not in known:
            text = f"no column {shortened(name)!r} is known. Did you mean {near[0]!r}?"
            faults.append(Fault(text, where=where, column=name, whole=True))


def _absent(table: RowTable, name: str, where: str, theirs: tuple[str, ...]) -> Fault:
    names = list(dict.fromkeys(name for row in table.rows for name in row.values))
    listed = shortened(", ".join(map(repr, filter(None, names[:8]))), 200)
    listed += ", …" if names[8:] else ""
    if theirs:
        text = f"it has no {theirs[0]!r}, which {name!r} is read from; its columns are {listed}."
    else:
        text = (
            f"it has no {name!r}; its columns are {listed or 'none'}. "
            f'Say which it is: columns={{"{name}": NAME}}, or --columns {name}=NAME.'
        )
    return Fault(text, where=where, column=name, whole=True)
