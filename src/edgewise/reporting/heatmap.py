"""A table whose cells are coloured by their value, from nothing at 0 to full at 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.reporting.markup import Markup, el


@dataclass(frozen=True)
class Cell:
    """A value (None leaves the cell without colour), what is shown of it, and its hover text."""

    value: float | None
    text: str
    tip: str


def heatmap(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    numbered: bool = True,
) -> Markup:
    """A heat map with its title; `numbered` puts a number before the name of each row."""
    head = el("tr", el("th"), *(el("th", name, scope="col") for name in columns))
    body = (
        el(
            "tr",
            el("th", f"{place}. {name}" if numbered else name, scope="row"),
            *(_cell(cell) for cell in row),
        )
        for place, (name, row) in enumerate(zip(rows, cells, strict=True), start=1)
    )
    table = el("table", el("thead", head), el("tbody", *body), class_="heat")
    return el("figure", el("h4", title), el("div", table, class_="scroll"))


def _cell(cell: Cell) -> Markup:
    if cell.value is None:
        return el("td", cell.text, data_tip=cell.tip, class_="none")
    # Colour alone says nothing below 0 or above 1: the number does.
    share = min(1.0, max(0.0, cell.value))
    kind = "strong" if share > 0.55 else "negative" if cell.value < -0.005 else None
    return el("td", cell.text, data_tip=cell.tip, class_=kind, style=f"--share:{share:.3f}")
