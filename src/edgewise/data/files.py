"""Prompt pairs from tables: every row as far as it can be read, every fault by line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.data.build import build_pairs
from edgewise.data.columns import Columns, Record, check_columns, records_of
from edgewise.data.faults import Fault
from edgewise.data.tables import Table
from edgewise.data.text import answer_ids, bos_ids, prompt_ids, span_places
from edgewise.data.tokens import Padding, Tokenizer
from edgewise.errors import ProblemError


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
    bos: bool = False,
    columns: Columns | None = None,
    padding: Padding = "right",
) -> Reading:
    """Read a table, faults and all. Raises `SettingError` for a column map that makes no sense."""
    faults = list(table.faults)
    mapped = check_columns(columns)
    records = records_of(table, mapped, faults)
    if "spans" not in mapped:
        records = _with_shared_spans(records, table, bos)
    rows: list[tuple[str, dict[str, Any]]] = []
    if records:
        encode = _Encoder(records[0], tokenizer, bos, table, faults)
        rows = [(r.where, encode(r)) for r in records]
    _check_span_names(rows, faults)
    bad = {fault.where for fault in faults}
    rows = [(where, row) for where, row in rows if where not in bad]
    fields, found = _build(rows, padding, table.source)
    if found:
        faults += found
        bad = {fault.where for fault in found}
        rows = [(where, row) for where, row in rows if where not in bad]
        fields, _ = _build(rows, padding, table.source)
    return Reading(
        fields,
        tuple(where for where, _ in rows) if fields else (),
        tuple(sorted(faults, key=_place)),
    )


def _place(fault: Fault) -> list[int]:
    """Faults of the whole first, then line by line."""
    return [int(number) for number in re.findall(r"\d+", fault.where)[:2]]


def _with_shared_spans(records: list[Record], table: Table, bos: bool) -> list[Record]:
    """AutoCircuit counts positions without BOS."""
    if not table.spans:
        return records
    spans = {name: [place + bos for place in places] for name, places in table.spans.items()}
    return [Record(r.where, {**r.values, "spans": r.values.get("spans", spans)}) for r in records]


class _Encoder:
    """Rows of values to rows of ids. The first row says whether prompts are text or ids."""

    def __init__(
        self,
        first: Record,
        tokenizer: Tokenizer | None,
        bos: bool,
        table: Table,
        faults: list[Fault],
    ) -> None:
        self.text = isinstance(first.values["clean"], str)
        self.tokenizer, self.faults, self.cells = tokenizer, faults, table.cells
        self.first = first.where
        self.start: list[int] = []
        if self.text and tokenizer is None:
            _refuse(table, "its prompts are text; pass the model's tokenizer.")
        if not self.text and bos:
            _refuse(table, "its prompts are token ids; bos is for text. Drop it.")
        if tokenizer is not None:
            self.start = bos_ids(tokenizer, bos, table.source)

    def __call__(self, record: Record) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, value in record.values.items():
            if name in ("clean", "corrupted"):
                row[name] = self._prompt(name, value, record.where)
            elif name in ("answers", "wrong"):
                row[name] = self._answers(name, value, record.where)
            elif name == "spans":
                row[name] = self._spans(value, row["clean"], record.where)
            else:
                row[name] = value
        return row

    def _prompt(self, name: str, value: Any, where: str) -> list[int]:
        if self.text and isinstance(value, str) and self.tokenizer is not None:
            return prompt_ids(self.tokenizer, value, self.start, where, name, self.faults)
        if not self.text and isinstance(value, list) and all(type(v) is int for v in value):
            return value
        wanted = "text" if self.text else "token ids"
        text = f"{name!r} must be {wanted}, as the clean prompts are."
        kind = isinstance(value, str)
        if name == "clean" and (kind or isinstance(value, list)) and kind != self.text:
            text = f"some prompts are text and some are token ids. Use one kind, as {self.first}."
        self.faults.append(Fault(text, where=where, column=name))
        return []

    def _answers(self, name: str, value: Any, where: str) -> list[int]:
        if self.cells and not self.text:
            several = value if isinstance(value, list) else [value]
            value = [int(v) if _is_number(v) else v for v in several]
        return answer_ids(self.tokenizer, value, where, name, self.faults)

    def _spans(self, value: Any, clean: list[int], where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not value:
            text = f"'spans' must map names to positions, not {value!r:.60}."
            self.faults.append(Fault(text, where=where, column="spans"))
            return {}
        return {
            str(name): span_places(self.tokenizer, name, place, clean, where, self.faults)
            for name, place in value.items()
            if place is not None  # Arrow gives every row the names of all
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().isdecimal() and len(value) < 19


def _refuse(table: Table, text: str) -> None:
    raise ProblemError(table.source, [text, *table.faults])


def _check_span_names(rows: list[tuple[str, dict[str, Any]]], faults: list[Fault]) -> None:
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
    rows: list[tuple[str, dict[str, Any]]], padding: Padding, source: str
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
