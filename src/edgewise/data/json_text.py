"""JSON that knows its lines: one object after the other, a list of them, or one that has them all.

Objects may stand on a line each, or on several. One object alone may hold a list of them, such as
`prompts`, or whole columns, as pandas' `to_json` writes them.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from edgewise.data.faults import Fault

_SPACE = re.compile(r"[ \t\n\r]*")


class _Broken(Exception):
    """Text that is not JSON; `at` is where, as an index, unless only the value is known."""

    def __init__(self, text: str, at: int | None = None) -> None:
        super().__init__(text)
        self.text, self.at = text, at


@dataclass
class Objects:
    """Values with the lines they begin at, what is said of all of them, what cannot be read."""

    text: str
    items: list[tuple[int, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]

    def line(self, at: int) -> int:
        """The line of an index, from 1."""
        return bisect_right(self._starts, at)

    def place(self, at: int) -> str:
        """The line and column of an index."""
        line = self.line(at)
        return f"line {line}, column {at - self._starts[line - 1] + 1}"

    def add_fault(self, reason: _Broken, start: int, *, whole: bool) -> None:
        """Tell where a value that begins at `start` is broken."""
        where = f"line {self.line(start)}" if reason.at is None else self.place(reason.at)
        self.faults.append(Fault(reason.text, where=where, whole=whole))


def objects(text: str) -> Objects:
    """What a text of JSON holds, as far as it can be read."""
    found = Objects(text)
    start = _space(text, 0)
    if text[start : start + 1] == "[":
        try:
            _nothing_more(text, _read_list(found, start), "")
        except _Broken as reason:
            found.add_fault(reason, start, whole=True)
        return found
    _read_values(found, start)
    if len(found.items) == 1 and not found.faults and isinstance(found.items[0][1], dict):
        _open(found)
    return found


def _read_values(found: Objects, at: int) -> None:
    """Read one value after the other; after a broken one, go on at a line where one can begin."""
    text = found.text
    while at < len(text):
        try:
            value, end = _value(text, at)
            _nothing_more(text, end, "\n")
        except _Broken as reason:
            said, broken, begins = reason.text, reason.at, r"\n(?=\{)"
            if broken is not None:
                before = len(text[:broken].rstrip())
                if before > at and "\n" in text[before:broken]:  # the next line is another value
                    broken = before
                if found.line(broken) == found.line(at):
                    begins = r"\n"
                else:
                    said = f"{reason.text[:-1]}, in {found.place(broken)}."
                    broken = None
            found.add_fault(_Broken(said, broken), at, whole=False)
            following = re.compile(begins).search(text, at)
            at = len(text) if following is None else _space(text, following.end())
            continue
        found.items.append((found.line(at), value))
        at = _space(text, end)


def _read_list(found: Objects, start: int) -> int:
    """Read a list that begins at `start`; the index after it."""
    text = found.text
    at = _space(text, start + 1)
    while text[at : at + 1] != "]":
        value, end = _value(text, at)
        found.items.append((found.line(at), value))
        at = _space(text, end)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise _not_json("Expecting ',' delimiter", at)
        at = _space(text, at + 1)
        if text[at : at + 1] == "]":
            raise _not_json("Illegal trailing comma", at)
    return at + 1


def _open(found: Objects) -> None:
    """Take the objects out of one that holds them all: its `prompts`, another list, or columns."""
    ((line, document),) = found.items
    lists = [k for k, v in document.items() if isinstance(v, list) and v and _are_objects(v)]
    name = "prompts" if isinstance(document.get("prompts"), list) else None
    if name is None and len(lists) == 1 and "clean" not in document:
        name = lists[0]
    if name is not None:
        found.facts = {k: v for k, v in document.items() if k != name}
        key = re.compile(re.escape(json.dumps(name)) + r"\s*:\s*(?=\[)")
        for match in key.finditer(found.text):  # the same words may stand elsewhere
            found.items = []
            _read_list(found, match.end())
            if [value for _, value in found.items] == document[name]:
                return
        found.items = [(line, value) for value in document[name]]
        return
    columns = list(document.values())
    texts = any(isinstance(v, list) and v and isinstance(v[0], str) for v in columns)
    if _are_objects(columns) and all(column.keys() == columns[0].keys() for column in columns):
        columns = [list(column.values()) for column in columns]
    elif not (texts and all(isinstance(v, list) and len(v) == len(columns[0]) for v in columns)):
        return  # a row by itself
    rows = [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)]
    found.items = [(line, row) for row in rows]


def _are_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as reason:
        raise _not_json(reason.msg, reason.pos) from reason
    except _Twice as reason:
        raise _Broken(str(reason)) from reason
    except (ValueError, RecursionError) as reason:  # thousands of digits, or of brackets
        raise _Broken(f"cannot be read: {reason}.") from reason


class _Twice(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may be lost to a second one of the same name."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(f"{twice!r:.80} is there twice.")
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _nothing_more(text: str, at: int, end: str) -> None:
    """Raise `_Broken` unless nothing but space follows, up to a text `end` or the last."""
    after = _space(text, at)
    if after < len(text) and not (end and end in text[at:after]):
        raise _not_json("Extra data", after)


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _not_json(reason: str, at: int) -> _Broken:
    return _Broken(f"not JSON: {reason}.", at)
