"""HTML and SVG as strings that escape by construction: plain text cannot become markup."""

from __future__ import annotations

from html import escape

Attribute = str | int | float | None
_VOID = frozenset({"br", "col", "input", "meta"})


class Markup(str):
    """Text that is markup already; everything else is escaped when it enters an element."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: Attribute) -> Markup:
    """An element. `class_` becomes class, `data_name` data-name; None children and values vanish.

    >>> el("td", "a<b", class_="num", data_v=0.25)
    '<td class="num" data-v="0.25">a&lt;b</td>'
    """
    opening = tag + "".join(_attribute(*item) for item in attributes.items() if item[1] is not None)
    if tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(*children)}</{tag}>")


def join(*children: str | None, between: str = "") -> Markup:
    """Children one after the other, plain strings escaped."""
    return Markup(between.join(_escaped(child) for child in children if child is not None))


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text, quote=False)


def _attribute(name: str, value: Attribute) -> str:
    name = name.rstrip("_").replace("_", "-")
    text = coordinate(value) if isinstance(value, float) else escape(str(value))
    return f' {name}="{text}"'


def coordinate(value: float) -> str:
    """A number as SVG and sort keys want it: short, exact enough, never '-0'.

    >>> coordinate(12.0), coordinate(-0.0), coordinate(1.18e-13)
    ('12', '0', '1.18e-13')
    """
    return f"{value + 0.0:.6g}"
