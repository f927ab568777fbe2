"""Texts of JSON as typed values: every field is of its type, or one error names the field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from edgewise.errors import FormatError, shortened

T = TypeVar("T")

_LARGEST = sys.float_info.max
Finite = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]  # neither NaN nor infinite
Chance = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Scalar = str | int | float | bool | None
Plain = Mapping[str, Scalar | list[Any]]  # settings, environments, requests: of any names

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in )?\$\.?(?P<where>.*)`)?", re.DOTALL)
_MANY_DIGITS = re.compile("[0-9]{19}")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_DEEPEST = 64


def parsed(text: str | bytes, complaint: str) -> Any:
    """The value of a JSON text, if it can be written again: nothing twice, too large or too deep.

    NaN and Infinity are read, as Python writes them; `Finite` fields refuse them. Raises
    `FormatError`, which begins with `complaint`.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        whole = _whole if _MANY_DIGITS.search(text) else None
        found = json.loads(text, object_pairs_hook=_unique, parse_int=whole)
        if _HALF_CHARACTER.search(text):
            json.dumps(found, ensure_ascii=False).encode()
        _check_depth(found)
    except (ValueError, RecursionError) as reason:  # broken JSON or UTF-8, or absurd nesting
        raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
    return found


def decoded(
    kind: type[T], document: Any, source: str, *, hook: Callable[[Any, Any], Any] | None = None
) -> T:
    """A document of JSON as a dataclass, a TypedDict or what else msgspec converts to.

    Strict: text is no number, a fraction no whole number, 0 not false. Fields that the type does
    not have are left out. `hook` makes what msgspec does not know, of its type and its JSON. Raises
    `FormatError`, naming `source` and the field.
    """
    try:
        return msgspec.convert(document, kind, dec_hook=hook)
    except msgspec.ValidationError as reason:
        match = _WHERE.fullmatch(str(reason))
        assert match is not None  # every text matches
        what = match["what"].replace("`", "'")
        what = "expected a finite number" if "e+308" in what else what[:1].lower() + what[1:]
        where = ("a key of " if match["key"] else "") + (match["where"] or "")
        found = shortened(f"{where}: {what}" if where else what, 240)
        raise FormatError(f"{source}: {found}") from reason


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may be lost to a second one of the same name."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shortened(ascii(twice), 80)} is there twice")
    return result


def _whole(digits: str) -> int:
    if len(digits) < 30 and -(2**63) <= int(digits) < 2**63:
        return int(digits)
    raise ValueError(f"{shortened(digits, 30)}, a number of {len(digits)} digits, is too large")


def _check_depth(document: Any) -> None:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(_DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for each in inner for one in each if isinstance(one, dict | list)]
    if level:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
