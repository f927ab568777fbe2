"""JSON that knows its lines: the objects of a list, or of an object's `prompts`."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from edgewise.data.faults import Fault

_SPACE = " \t\n\r"
_EXPECTED = "expected a list of objects, or an object that has them as 'prompts'."


class Broken(Exception):
    """Text that is not JSON; `at` is where, as an index, `column` the place in its line (or 0)."""

    def __init__(self, text: str, at: int, column: int) -> None:
        super().__init__(text)
        self.text, self.at, self.column = text, at, column


@dataclass
class Objects:
    """Values with the lines they begin at, what is said of all of them, what cannot be read."""

    items: list[tuple[int, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # where lines end in the text

    def line(self, at: int) -> int:
        """The line of an index, from 1."""
        return bisect_left(self.ends, at) + 1


def decode(text: str) -> Any:
    """The value of a text that holds one. Raises `Broken`."""
    value, end = _value(text, _skip(text, 0))
    _nothing_more(text, end)
    return value


def objects(text: str) -> Objects:
    """What a JSON file holds, as far as it can be read."""
    found = Objects(ends=[match.start() for match in re.finditer("\n", text)])
    at = _skip(text, 0)
    try:
        if text[at : at + 1] == "[":
            _nothing_more(text, _read_list(text, at, found))
        elif text[at : at + 1] == "{":
            _nothing_more(text, _read_object(text, at, found))
        elif at < len(text):
            found.faults.append(Fault(_EXPECTED, where=f"line {found.line(at)}"))
    except Broken as reason:
        where = f"line {found.line(reason.at)}"
        where = f"{where}, column {reason.column}" if reason.column else where
        found.faults.append(Fault(reason.text, where=where))
    return found


def _read_object(text: str, at: int, found: Objects) -> int:
    """Read an object that begins at `at`, its `prompts` one by one; the index after it."""
    start, there = at, False
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _value(text, at)
        at = _after(":", text, at)
        if key == "prompts" and text[at : at + 1] == "[":
            there = True
            at = _read_list(text, at, found)
        else:
            found.facts[str(key)], at = _value(text, at)
        at = _next(text, at, "}")
    if not there:
        found.faults.append(Fault(_EXPECTED, where=f"line {found.line(start)}"))
    return at + 1


def _read_list(text: str, at: int, found: Objects) -> int:
    """Read a list that begins at `at`; the index after it."""
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        value, end = _value(text, at)
        found.items.append((found.line(at), value))
        at = _next(text, end, "]")
    return at + 1


def _next(text: str, at: int, close: str) -> int:
    """The index of the next member, or of the bracket that closes."""
    at = _skip(text, at)
    if text[at : at + 1] == close:
        return at
    at = _after(",", text, at)
    if text[at : at + 1] == close:
        raise _broken("Illegal trailing comma", text, at)
    return at


def _after(mark: str, text: str, at: int) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise _broken(f"Expecting {mark!r}", text, at)
    return _skip(text, at + 1)


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as reason:
        raise _broken(reason.msg, text, reason.pos) from reason
    except _Twice as reason:
        raise Broken(str(reason), at, 0) from reason
    except (ValueError, RecursionError) as reason:  # thousands of digits, or of brackets
        raise Broken(f"cannot be read: {reason}.", at, 0) from reason


class _Twice(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may be lost to a second one of the same name."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(f"{twice!r} is there twice.")
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _nothing_more(text: str, at: int) -> None:
    at = _skip(text, at)
    if at < len(text):
        raise _broken("Extra data", text, at)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _broken(reason: str, text: str, at: int) -> Broken:
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return Broken(f"not JSON: {reason}.", at, column)
