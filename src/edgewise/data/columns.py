"""What the columns of a table are read as: the fields of a row, and other packages' layouts.

A user's column map comes first, then Edgewise's own names, then a layout of another package, which
is taken as a whole or not at all. The choice is made once, from all columns of the table.

EAP-IG (github.com/hannamw/EAP-IG) writes CSV with token ids in columns such as `correct_idx`;
without `incorrect_idx` beside it, it is a Greater-Than file, and the number is the last two digits
of a year. Edge Pruning (github.com/princeton-nlp/Edge-Pruning) marks what is predicted with
<predict>…</predict>, or has `prefix` and `corr_prefix` with a pronoun or the digits of a year, or
whole sentences. Feature Circuits (github.com/saprmarks/feature-circuits) has `clean_prefix` and
`patch_prefix`. AutoCircuit has our names; what its file says of all prompts is read in `files`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgewise.data.files import SharedSpans
from edgewise.data.rows import Row, RowFault, RowTable, whole
from edgewise.errors import Fault, SettingError, shortened, unknown_name

Columns = Mapping[str, str | None]
Values = dict[str, Any]  # of a row, by field


@dataclass(frozen=True)
class Field:
    """A column of ours: what it holds, its other names, and the field whose ids it gives, if so.

    The table in docs/data.md says the same (a test holds it).
    """

    holds: str
    other_names: tuple[str, ...] = ()
    ids_of: str = ""


FIELDS = {
    "clean": Field("the prompt: text, or a list of token ids"),
    "corrupted": Field("the corrupted prompt, as many tokens long", ("corrupt",)),
    "answers": Field("the right answer or several: text beside text, ids beside ids", ("answer",)),
    "answer_ids": Field("the same as token ids, whatever the prompts are", ids_of="answers"),
    "wrong": Field("wrong answers, likewise", ("wrong_answers", "wrong_answer")),
    "wrong_ids": Field("the same as token ids", ids_of="wrong"),
    "answer_positions": Field(
        "where the answer is read: an index or several; default: the last token",
        ("answer_position",),
    ),
    "spans": Field("named positions, see below"),
}


def value_of(field: str) -> str:
    """Which value of a prompt a field gives: both `answers` and `answer_ids` give answers."""
    return FIELDS[field].ids_of or field


@dataclass(frozen=True)
class Layout:
    """The columns that each field is read from, and what is done with a row then.

    `finish` makes the values in `makes`, or raises `RowFault`; a layout that `fits` is taken if any
    row does. `over` is a value of ours that the layout may stand beside; those in `without` are
    left out; columns in `unread` mean nothing to us.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    finish: Callable[[Values], Values] | None = None
    makes: tuple[str, ...] = ()
    fits: Callable[[Values], bool] | None = None
    over: str = ""
    without: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    @property
    def values(self) -> set[str]:
        """The values of a row that the layout gives."""
        return {*map(value_of, self.columns)} | {*self.makes}

    @property
    def sentence(self) -> str:
        """What the layout is called, and which columns it reads."""
        read = []
        for field, columns in self.columns.items():
            theirs = [shortened(column, 40) for column in columns]
            read.append(field if theirs == [field] else f"{field} from {', '.join(theirs)}")
        text = f"layout: {self.name} ({'; '.join(read)})"
        others = ", ".join(shortened(column, 40) for column in self.unread[:8])
        return f"{text}; not read: {others}{', …' if self.unread[8:] else ''}" if others else text


_NAMES = {name: field for field in FIELDS for name in (field, *FIELDS[field].other_names)}


# --- which columns are read


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
        values = {name: value for name, value in values.items() if name not in layout.without}
        rows.append(Row(row.where, values))
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
        if not columns and len(lacking) == len(rows):
            faults += _misspelt(table, layout, [n for n in _NAMES if value_of(_NAMES[n]) == name])
    return [row for row in rows if "clean" in row.values], faults


def _misspelt(table: RowTable, layout: Layout, names: list[str]) -> Iterator[Fault]:
    """Columns that look like one of ours, of these names; all others are the user's own."""
    for column in layout.unread:
        near = difflib.get_close_matches(column[:80], names, n=1, cutoff=0.8)
        if near:
            text = f"no column {shortened(column)!r} is known. Did you mean {near[0]!r}?"
            where = next(row.where for row in table.rows if column in row.values)
            yield Fault(text, where=where, column=column, whole=True)


def _advice(table: RowTable, name: str) -> str:
    names = list(dict.fromkeys(column for row in table.rows for column in row.values))
    listed = shortened(", ".join(map(repr, filter(None, names[:8]))), 200)
    listed += ", …" if names[8:] else ""
    return (
        f"its columns are {listed or 'none'}. "
        f'Say which it is: columns={{"{name}": NAME}}, or --columns {name}=NAME.'
    )


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


# --- other packages' layouts


def _is_marked(row: Values) -> bool:
    return isinstance(row.get("clean"), str) and "<predict>" in row["clean"]


def _predicted(row: Values) -> Values:
    """The prompt up to what is predicted, and that; nothing after it can be read before it."""
    if "answers" in row:
        raise RowFault("<predict> and a column both say what 'answers' is. Keep one.", "answers")
    if not _is_marked(row):
        raise RowFault("it has no <predict>, which other prompts have.", "clean")
    before, _, rest = row["clean"].partition("<predict>")
    word, close, _ = rest.partition("</predict>")
    if not close:
        raise RowFault("<predict> has no </predict> after it.", "clean")
    row |= {"clean": before, "answers": word}
    if isinstance(row.get("corrupted"), str):
        row["corrupted"] = row["corrupted"].partition("<predict>")[0]
    return row


def _without_last_word(row: Values) -> Values:
    """The last word of the clean sentence is the answer."""
    for name in ("corrupted", "clean"):
        if isinstance(row.get(name), str):
            row[name], space, word = row[name].rpartition(" ")
            row["answers"] = space + word
    return row


def _with_spaces(row: Values) -> Values:
    return row | {name: f" {row[name]}" for name in ("answers", "wrong") if name in row}


def _has_ids(row: Values) -> bool:
    return isinstance(row.get("clean"), list)


def _asks_for_year(row: Values) -> bool:
    """Whether a prompt ends in the century of a year that it has, with the row's two digits."""
    clean, digits = row.get("clean"), str(row.get("answers")).zfill(2)
    if not isinstance(clean, str):
        return False
    century = re.search(r"(?<!\d)\d\d$", clean.rstrip())
    return century is not None and century[0] + digits in re.findall(r"(?<!\d)\d{4}(?!\d)", clean)


def _with_years(row: Values) -> Values:
    """Answers are the two digits of later years of the century, as text; wrong, all others.

    So a year's two digits stand in Greater-Than for all years after it, and up to it.
    """
    if not _asks_for_year(row):
        raise RowFault(
            f"{row.get('answers')!r:.60} is not the last two digits of a year in the prompt whose "
            "century the prompt ends in, as in a Greater-Than file of EAP-IG. If it is a token id: "
            "--columns answer_ids=NAME.",
            "answers",
        )
    years, digits = [f"{year:02d}" for year in range(100)], int(row["answers"])
    if digits == 99:
        raise RowFault("no year of its century is after 99, so no answer is right.", "answers")
    return row | {"answers": years[digits + 1 :], "wrong": years[: digits + 1]}


def _of(package: str, columns: Mapping[str, str], **more: Any) -> Layout:
    return Layout(package, {field: (column,) for field, column in columns.items()}, **more)


_YEARS: Mapping[str, Any] = {"finish": _with_years, "makes": ("answers", "wrong")}
_LAST: Mapping[str, Any] = {"finish": _without_last_word, "makes": ("answers",)}
_MARKED: Mapping[str, Any] = {"finish": _predicted, "makes": ("answers",), "fits": _is_marked}
_PREFIXES = {"clean": "prefix", "corrupted": "corr_prefix"}
_PRONOUNS = {**_PREFIXES, "answers": "pronoun", "wrong": "corr_pronoun"}
_PATCHES = {"clean": "clean_prefix", "corrupted": "patch_prefix"}
FOREIGN = (  # the first that is there as a whole is taken
    _of("EAP-IG", {"answer_ids": "correct_idx", "wrong_ids": "incorrect_idx"}),
    _of(  # its words lack their spaces
        "EAP-IG",
        {"answer_ids": "answers_idx", "wrong_ids": "corrupted_answers_idx"},
        over="answers",
    ),
    _of("EAP-IG", {"answer_ids": "clean_answer_idx", "wrong_ids": "corrupted_answer_idx"}),
    _of("EAP-IG", {"answer_ids": "country_idx", "wrong_ids": "corrupted_country_idx"}),
    _of("EAP-IG", {"answer_ids": "correct_idx"}, fits=_has_ids),
    _of("EAP-IG Greater-Than", {"answers": "correct_idx"}, **_YEARS),
    _of("EAP-IG Greater-Than", {"answers": "label"}, **_YEARS, fits=_asks_for_year),
    _of("Edge Pruning", _PRONOUNS, finish=_with_spaces),
    _of("Edge Pruning", {**_PREFIXES, "answers": "digits"}, **_YEARS),
    _of("Edge Pruning", _PREFIXES),
    _of("Edge Pruning", {"clean": "text", "corrupted": "corr_text"}, **_LAST),
    _of("Edge Pruning", {"clean": "ioi_sentences", "corrupted": "corr_ioi_sentences"}, **_LAST),
    _of("Edge Pruning", {}, **_MARKED, over="answers"),
    _of("Feature Circuits", {**_PATCHES, "answers": "clean_answer", "wrong": "patch_answer"}),
)
