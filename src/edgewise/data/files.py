"""Prompt pairs from tables: every row as far as it can be read, every fault by line and column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.data.build import build_pairs
from edgewise.data.columns import Columns, Record, layout_of, records_of
from edgewise.data.faults import Fault, in_order
from edgewise.data.layouts import Layout
from edgewise.data.tables import Table
from edgewise.data.text import Prompt, TextReader
from edgewise.data.tokens import Padding, Tokenizer
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
    layout: Layout


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
    layout = layout_of(table, columns, faults)
    records = records_of(table, layout, faults)
    rows: list[Encoded] = []
    if records:
        reader = TextReader(tokenizer, table.source, bos=bos, chat=chat)
        encode = _Encoder(records, reader, table, layout, faults)
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
    return Reading(fields, labels, tuple(in_order([*faults, *found])), layout)


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


class _Encoder:
    """Rows of values to rows of ids. Prompts are text or ids, as most of them are."""

    def __init__(
        self,
        records: list[Record],
        reader: TextReader,
        table: Table,
        layout: Layout,
        faults: list[Fault],
    ) -> None:
        self.text = 2 * sum(isinstance(r.values["clean"], str) for r in records) >= len(records)
        self.reader, self.faults, self.layout = reader, faults, layout
        self.n_positions = layout.n_positions
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
                row[name] = self.reader.answers(value, self.prompt, record.where, name, self.faults)
            elif name == "spans":
                row[name] = self._spans(value, record.where)
            else:
                row[name] = value
        if self.layout.spans:
            row["spans"] = self._shared_spans(record.where)
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
        text = f"{name!r} must be {wanted}, as the clean prompts are, not {value!r:.60}."
        if (
            name == "clean"
            and isinstance(value, str) != self.text
            and isinstance(value, str | list)
        ):
            text = f"some prompts are text and some are token ids; most are {wanted}."
        self.faults.append(Fault(text, where=where, column=name))
        return []

    def _shared_spans(self, where: str) -> dict[str, Any]:
        """Positions that AutoCircuit counted, without BOS, in prompts of one length."""
        start = self.prompt.n_before
        if self.reader.chat:
            text = "its spans are positions of the bare prompt; leave out chat or the spans."
            self.faults.append(Fault(text, where=where, column="spans"))
        n = len(self.prompt.ids) - start
        self.n_positions = self.n_positions or n
        if n != self.n_positions:
            text = (
                f"it has {n} tokens; its file counts positions in {self.n_positions}, as another "
                'tokenizer does. Leave them out: columns={"spans": None}, --columns spans=.'
            )
            self.faults.append(Fault(text, where=where, column="spans"))
        return {name: [p + start for p in places] for name, places in self.layout.spans.items()}

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


def _refuse(table: Table, text: str) -> None:
    raise ProblemError(table.source, [text, *table.faults])


def _check_span_names(rows: list[Encoded], faults: list[Fault]) -> None:
    """Every prompt has the spans that most have."""
    having = [(where, row["spans"]) for where, row in rows if row.get("spans")]
    if not having:
        return
    ((names, n),) = Counter(tuple(sorted(spans)) for _, spans in having).most_common(1)
    for where, spans in having:
        for name in names:
            if name not in spans:
                text = f"it has no span {name!r:.60}; {n} of {len(rows)} prompts have one."
                faults.append(Fault(text, where=where, column="spans"))
        for name in spans:
            if name not in names:
                text = f"it has a span {name!r:.60}; {n} of {len(rows)} prompts have other spans."
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
