"""Prompt pairs from tables: every row as far as it can be read, every fault by line and column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.data.build import build_pairs
from edgewise.data.columns import Columns, Record, check_columns, records_of
from edgewise.data.faults import Fault, in_order
from edgewise.data.tables import Table
from edgewise.data.text import Prompt, TextReader
from edgewise.data.tokens import AnswerTokens, Padding, Tokenizer
from edgewise.errors import ProblemError

Encoded = tuple[str, dict[str, Any]]  # where a row stands, and its columns as ids


@dataclass(frozen=True)
class Reading:
    """What a table gave: the fields of `PromptPairs` of its good rows, and all faults.

    `labels` says where each good row stands; `fields` is None if there is no good row.
    """

    fields: dict[str, Any] | None
    labels: tuple[str, ...]
    faults: tuple[Fault, ...]


def read_pairs(
    table: Table,
    tokenizer: Tokenizer | None,
    *,
    bos: bool | None = None,
    chat: bool = False,
    columns: Columns | None = None,
    padding: Padding = "right",
) -> Reading:
    """Read a table, faults and all. Raises `SettingError` for a column map that makes no sense."""
    faults = list(table.faults)
    mapped = check_columns(columns)
    records = records_of(table, mapped, faults)
    rows: list[Encoded] = []
    if records:
        encode = _Encoder(
            records[0], TextReader(tokenizer, table.source, bos=bos, chat=chat), table, faults
        )
        if "spans" not in mapped:
            records = _with_shared_spans(records, table, len(encode.reader.start))
        rows = [(r.where, encode(r)) for r in records]
    _check_span_names(rows, faults)
    good = _without_bad(rows, faults)
    kept = {where for where, _ in good}
    faults += _more_faults([r for r in rows if r[0] not in kept], faults, table.source)
    fields, found = _build(good, padding, table.source)
    if found:
        good = _without_bad(good, found)
        fields, _ = _build(good, padding, table.source)
    labels = tuple(where for where, _ in good) if fields else ()
    if fields is not None and encode.text:
        fields["bos"] = encode.reader.begins_with_bos(good[0][1]["clean"])
        fields["chat"] = chat
        fields["notes"] = (*encode.reader.notes, *fields["notes"])
    return Reading(fields, labels, tuple(in_order([*faults, *found])))


def _without_bad(rows: list[Encoded], faults: list[Fault]) -> list[Encoded]:
    bad = {fault.where for fault in faults}
    return [(where, row) for where, row in rows if where not in bad]


def _more_faults(rows: list[Encoded], faults: list[Fault], source: str) -> list[Fault]:
    """What else is wrong with bad rows: each is built alone, of the columns that are good."""
    bad: dict[str, set[str]] = {}
    for fault in faults:
        bad.setdefault(fault.where, set()).add(fault.column)
    known = set(faults)
    more: list[Fault] = []
    for where, row in rows:
        if "clean" not in bad[where]:
            part = {name: value for name, value in row.items() if name not in bad[where]}
            more += [f for f in _build([(where, part)], "right", source)[1] if f not in known]
    return more


def _with_shared_spans(records: list[Record], table: Table, start: int) -> list[Record]:
    """AutoCircuit counts positions without BOS; `start` tokens stand before its."""
    if not table.spans:
        return records
    spans = {name: [place + start for place in places] for name, places in table.spans.items()}
    return [Record(r.where, {**r.values, "spans": r.values.get("spans", spans)}) for r in records]


class _Encoder:
    """Rows of values to rows of ids. The first row says whether prompts are text or ids."""

    def __init__(
        self,
        first: Record,
        reader: TextReader,
        table: Table,
        faults: list[Fault],
    ) -> None:
        self.text = isinstance(first.values["clean"], str)
        self.reader, self.faults, self.cells = reader, faults, table.cells
        self.first = first.where
        self.prompt = Prompt([])
        if self.text and reader.tokenizer is None:
            _refuse(table, "its prompts are text; pass the model's tokenizer.")
        if not self.text and (reader.bos or reader.chat):
            asked = "bos" if reader.bos else "chat"
            _refuse(table, f"its prompts are token ids; {asked} is for text. Drop it.")

    def __call__(self, record: Record) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, value in record.values.items():
            if name in ("clean", "corrupted"):
                row[name] = self._prompt(name, value, record.where)
            elif name in ("answers", "wrong"):
                row[name] = self._answers(name, value, record.where)
            elif name == "spans":
                row[name] = self._spans(value, record.where)
            else:
                row[name] = value
        return row

    def _prompt(self, name: str, value: Any, where: str) -> list[int]:
        if self.text and isinstance(value, str):
            read = self.reader.prompt(value, where, name, self.faults)
            self.prompt = read if name == "clean" else self.prompt
            return read.ids
        if not self.text and isinstance(value, list) and all(type(v) is int for v in value):
            self.prompt = Prompt(value) if name == "clean" else self.prompt
            return value
        wanted = "text" if self.text else "token ids"
        text = f"{name!r} must be {wanted}, as the clean prompts are."
        kind = isinstance(value, str)
        if name == "clean" and (kind or isinstance(value, list)) and kind != self.text:
            text = f"some prompts are text and some are token ids. Use one kind, as {self.first}."
        self.faults.append(Fault(text, where=where, column=name))
        return []

    def _answers(self, name: str, value: Any, where: str) -> list[AnswerTokens]:
        if self.cells and not self.text:
            several = value if isinstance(value, list) else [value]
            value = [int(v) if _is_number(v) else v for v in several]
        return self.reader.answers(value, self.prompt, where, name, self.faults)

    def _spans(self, value: Any, where: str) -> dict[str, Any]:
        given = value if isinstance(value, Mapping) else {}
        named = {k: v for k, v in given.items() if v is not None}  # Arrow has None for no such name
        if not named:
            text = f"'spans' must map names to positions, not {value!r:.60}."
            self.faults.append(Fault(text, where=where, column="spans"))
        return {
            str(name): self.reader.span(name, place, self.prompt, where, self.faults)
            for name, place in named.items()
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().isdecimal() and len(value) < 19


def _refuse(table: Table, text: str) -> None:
    raise ProblemError(table.source, [text, *table.faults])


def _check_span_names(rows: list[Encoded], faults: list[Fault]) -> None:
    """Every prompt has the spans of the first that has any."""
    having = [(where, row["spans"]) for where, row in rows if row.get("spans")]
    if not having:
        return
    first, names = having[0][0], list(having[0][1])
    for where, spans in having:
        for name in names:
            if name not in spans:
                text = f"it has no span {name!r}, which {first} has."
                faults.append(Fault(text, where=where, column="spans"))
        for name in spans:
            if name not in names:
                text = f"it has a span {name!r}, which {first} has not."
                faults.append(Fault(text, where=where, column="spans"))


def _build(
    rows: list[Encoded], padding: Padding, source: str
) -> tuple[dict[str, Any] | None, list[Fault]]:
    """The fields of `PromptPairs` of these rows, or what is wrong with them."""
    if not rows:
        return None, []
    first = rows[0][1]

    def column(name: str) -> list[Any] | None:
        return [row[name] for _, row in rows] if name in first else None

    spans = None
    if "spans" in first:
        spans = {name: [row["spans"][name] for _, row in rows] for name in first["spans"]}
    try:
        fields = build_pairs(
            column("clean"),
            column("corrupted"),
            column("answers"),
            column("wrong"),
            None,
            column("answer_positions"),
            spans,
            padding,
            source,
            label=lambda i: rows[i][0],
        )
    except ProblemError as error:
        return None, [f if isinstance(f, Fault) else Fault(f) for f in error.faults]
    return fields, []
