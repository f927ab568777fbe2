"""The page of a result: what it says in sentences, then its tables and charts."""

from __future__ import annotations

from edgewise.reporting.markup import Markup, el, join
from edgewise.reporting.page import document
from edgewise.reporting.scatter import chart_figure
from edgewise.reporting.tables import data_table, facts
from edgewise.tables import Cell, Column, Result, Table, cell_text, number

_FILTERED = 12  # rows, from which on a table can be filtered
_UPRIGHT = 6  # columns of a shaded table, beyond which headings stand upright
_BAR = 180.0  # pixels of a share of 1


def result_page(result: Result) -> str:
    """The whole HTML document; it needs no other file."""
    verdict, *sentences = result.sentences()
    charts = [chart_figure(chart) for chart in result.charts()]
    sections = [el("p", sentence, class_="note") for sentence in sentences]
    sections += [table_section(table) for table in result.tables()]
    if charts:
        sections.append(el("section", el("h3", "Charts"), el("div", *charts, class_="charts")))
    heading = join(el("h1", result.title), el("p", verdict, class_="verdict"))
    return document(result.title, heading, sections)


def table_section(table: Table) -> Markup:
    """A table with its title and the notes on how to read it."""
    notes = (el("p", note, class_="note") for note in table.notes)
    return el("section", el("h3", table.title), *notes, _table(table))


def _table(table: Table) -> Markup:
    if not any(column.name for column in table.columns):
        return facts([(name, value) for name, value in table.cells()])
    if table.shaded:
        return _heat_table(table)
    columns = [(c.heading, "num" if c.is_numeric else "") for c in table.columns]
    filtered = len(table.rows) > _FILTERED
    rows = [
        el(
            "tr",
            *map(_cell, row, table.columns),
            data_name=_row_name(row, table.columns) if filtered else None,
        )
        for row in table.rows
    ]
    return data_table(columns, rows, searchable=filtered, style="board")


def _row_name(row: tuple[Cell, ...], columns: tuple[Column, ...]) -> str:
    """What rows are filtered by: the names in them, or all they say."""
    names = [str(cell) for cell, column in zip(row, columns, strict=True) if column.kind == "name"]
    return " ".join(names or map(str, row))


def _cell(value: Cell, column: Column) -> Markup:
    """A cell that sorts by its number; of an estimate the interval is grey, or beside a bar."""
    text = cell_text(value, column.kind)
    if column.kind == "name":
        return el("td", el("code", text))
    if not column.is_numeric:
        return el("td", text)
    if isinstance(value, tuple) and column.kind == "estimate":
        middle, low, high = value
        interval = el("span", f" {number(low)} to {number(high)}", class_="faint")
        bar = _bar(middle, low, high) if column.unit == "share" else None
        return el("td", el("strong", number(middle)), interval, bar, class_="num", data_v=middle)
    first = value[0] if isinstance(value, tuple) else value
    at = None if first is None or isinstance(first, str) else float(first)
    return el("td", text, class_="num", data_v=at)


def _bar(middle: float, low: float, high: float) -> Markup:
    return el(
        "svg",
        el("rect", x=0, y=3, width=round(_BAR * middle, 1), height=8, rx=2),
        el("path", d=f"M{_BAR * low:.1f} 7H{_BAR * high:.1f}"),
        viewBox=f"0 0 {_BAR:.0f} 14",
        width=_BAR,
        height=14,
        class_="inclusion",
    )


def _heat_table(table: Table) -> Markup:
    """A table whose numbers are coloured, from nothing at 0 to full at 1."""
    rows = (
        el("tr", *map(_shaded_cell, row, table.columns, table.cells()[place]))
        for place, row in enumerate(table.rows)
    )
    head = (el("th", column.heading, scope="col") for column in table.columns)
    body = el("table", el("thead", el("tr", *head)), el("tbody", *rows), class_="heat")
    upright = "upright" if len(table.columns) > _UPRIGHT else None
    return el("div", el("div", body, class_="scroll"), class_=upright)


def _shaded_cell(value: Cell, column: Column, text: str) -> Markup:
    if not column.is_numeric:
        return el("th", text, scope="row")
    if not isinstance(value, int | float):
        return el("td", text, class_="none")
    # Colour alone says nothing below 0 or above 1: the number does.
    share = min(1.0, max(0.0, value))
    kind = "strong" if share > 0.55 else "negative" if value < -0.005 else None
    return el("td", text, class_=kind, style=f"--share:{share:.3f}")
