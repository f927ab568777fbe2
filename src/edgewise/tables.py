"""What a result says, as data: sentences, tables and charts, and how numbers are written in them.

Every result is a frozen `Result`; terminal, page and notebook render it, and it prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Kind = Literal[  # what the cells of a column hold, and how they are written
    "text",  # words, or a value of any type as `plain` writes it
    "name",  # what parses back: a node, an edge; never broken, and a page can filter by it
    "flag",  # True is "yes", False is left empty
    "count",  # 32,491
    "number",  # four significant digits
    "index",  # between -1 and 1, with two decimals: a Jaccard index, a correlation
    "share",  # 1 is "100 %"
    "seconds",  # a duration
    "interval",  # (low, high): "0.8 to 0.95"
    "estimate",  # (value, low, high): "0.9 (0.8 to 0.95)"; of unit "share" a page draws a bar
]
Cell = str | bool | int | float | tuple[float, ...] | None  # None: not measured, "–"

# Units that say what a number is, not what it is counted in: "accuracy is 0.9", not "0.9 fraction".
_UNSPOKEN_UNITS = frozenset({"", "share", "fraction", "probability", "own unit"})
NOISE = 1e-6  # a share of a difference below float noise is a share of noise


@dataclass(frozen=True)
class Column:
    """The name of a column, the unit of its numbers, and what its cells hold."""

    name: str
    kind: Kind = "text"
    unit: str = ""

    @property
    def heading(self) -> str:
        """The name with its unit, as it stands above the column."""
        return self.name if self.unit in _UNSPOKEN_UNITS else f"{self.name} ({self.unit})"

    @property
    def is_numeric(self) -> bool:
        """Whether cells are aligned to the right, and sorted by value."""
        return self.kind not in ("text", "name", "flag")


@dataclass(frozen=True)
class Table:
    """Rows of values under columns, the most telling rows first, and notes on how to read them.

    Two unnamed columns are a list of facts. `shaded`: colour may say how near 1 its cells are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    shaded: bool = False

    @classmethod
    def of(
        cls,
        title: str,
        rows: Sequence[Mapping[str, Cell]],
        *,
        kinds: Mapping[str, Kind] | None = None,
        notes: Sequence[str] = (),
    ) -> Table:
        """A table of rows by column name; the kind of a column that `kinds` has not is its values'.

        >>> [column.kind for column in Table.of("sizes", [{"edges": 3, "kl": 0.5}]).columns]
        ['count', 'number']
        """
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = tuple(tuple(row.get(name) for name in names) for row in rows)
        columns = tuple(
            Column(name, (kinds or {}).get(name) or _kind_of([row[place] for row in cells]))
            for place, name in enumerate(names)
        )
        return cls(title, columns, cells, tuple(notes))

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as texts, each cell as its column writes it."""
        kinds = [column.kind for column in self.columns]
        return [tuple(map(cell_text, row, kinds)) for row in self.rows]


def _kind_of(values: Sequence[Cell]) -> Kind:
    """The kind that suits all values of a column."""
    types = {type(value) for value in values if value is not None}
    if tuple in types:
        return "estimate"
    if types and types <= {int, float}:
        return "number" if float in types else "count"
    return "flag" if types == {bool} else "text"


def facts(title: str, pairs: Mapping[str, Cell]) -> Table:
    """A table of names and values, one below the other."""
    return Table(title, (Column(""), Column("")), tuple(pairs.items()))


@dataclass(frozen=True)
class Mark:
    """A point of a chart, and what is said of it where the reader points at it."""

    x: float
    y: float
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one name; `line` joins them in the order given."""

    name: str
    marks: tuple[Mark, ...]
    line: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over two axes, with horizontal `levels` to compare with, such as a threshold."""

    title: str
    x: Column
    y: Column
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    caption: str = ""


@runtime_checkable
class Result(Protocol):
    """What every result of the library can say: the first sentence is the most important one."""

    @property
    def title(self) -> str: ...
    def sentences(self) -> tuple[str, ...]: ...
    def tables(self) -> tuple[Table, ...]: ...
    def charts(self) -> tuple[Chart, ...]: ...


def cell_text(value: Cell, kind: Kind) -> str:
    """A cell as its column writes it."""
    if value is None:
        return "–"
    match kind, value:
        case "flag", bool():
            return "yes" if value else ""
        case "interval", (low, high):
            return f"{number(low, 4)} to {number(high, 4)}"
        case "estimate", (middle, low, high):
            return f"{number(middle, 4)} ({number(low, 4)} to {number(high, 4)})"
        case "count", int() | float():
            return f"{value:,.0f}"
        case (("number" | "estimate"), int() | float()):
            return number(value, 4)
        case "index", int() | float():
            return f"{value:.2f}".replace("-", "−")
        case "share", int() | float():
            return percent(value)
        case "seconds", int() | float():
            return seconds(value)
    return plain(value)


def number(value: float, digits: int = 3, *, padded: bool = False) -> str:
    """A number with `digits` significant digits and a real minus sign; `padded` keeps final zeros.

    >>> number(0.23163), number(32491), number(-1.184e-13), number(0.5), number(0.5, padded=True)
    ('0.232', '32,491', '−1.18e-13', '0.5', '0.500')
    """
    if value == 0 or not math.isfinite(value):
        return str(value + 0.0).replace("0.0", "0").replace("-", "−")
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 7:
        text = f"{value:,.{max(0, digits - 1 - size)}f}"
        text = text if padded or "." not in text else text.rstrip("0").rstrip(".")
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−", 1) if value < 0 else text


def percent(share: float) -> str:
    """A share as a percentage; 100 % and 0 % are said only when they are true."""
    value = 100 * share
    if abs(value - 100) > 100 * NOISE and 99.95 <= value < 100:
        return "over 99.9 %"
    if 100 * NOISE < value < 0.05:
        return "under 0.1 %"
    text = f"{value:,.{0 if abs(value) >= 999.5 else 1}f}".removesuffix(".0")
    return ("0" if text == "-0" else text.replace("-", "−")) + " %"


def count(n: int, noun: str, plural: str = "") -> str:
    """'1 edge', '32,491 edges'; `plural` where it is not the noun with an s."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or noun + 's'}"


def measured(value: float, unit: str, *, scale: float = 0.0) -> str:
    """A number with its unit; float noise beside `scale` is 0."""
    text = "0" if abs(value) <= NOISE * scale else number(value)
    return text if unit in _UNSPOKEN_UNITS else f"{text} {unit}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 60:
        return f"{number(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plain(value: object) -> str:
    """A setting in a reader's words."""
    match value:
        case bool() | None:
            return {True: "yes", False: "no", None: "none"}[value]
        case float():
            return f"{value:.10g}"
        case list() | tuple():
            return ", ".join(plain(item) for item in value) or "none"
        case Mapping():
            return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or "none"
        case _:
            return str(value)
