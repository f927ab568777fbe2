"""Tables: of any result; kept edges with their scores, every decision, groups of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.graph import Edge
from edgewise.methods.method_result import Decision
from edgewise.reporting.groups import NodeGroups
from edgewise.reporting.markup import Markup, el
from edgewise.run import Run
from edgewise.tables import Cell, Column, Table, cell_text, count, number, percent

MOST_DECISIONS = 2_000
MOST_EDGES = 5_000
_FILTERED = 12  # rows, from which on a table can be filtered
_UPRIGHT = 6  # columns of a shaded table, beyond which headings stand upright
_BAR = 180.0  # pixels of a share of 1

_Column = tuple[str, str]  # heading, and "num" or "" for the alignment


def data_table(
    columns: list[_Column], rows: list[Markup], *, searchable: bool = False, style: str = ""
) -> Markup:
    """A table that page.js makes sortable; `searchable` puts a filter above it."""
    heads = (el("th", name, class_=kind or None, scope="col") for name, kind in columns)
    search = el(
        "input",
        type="search",
        placeholder="filter by name, e.g. a3.h7",
        aria_label="filter rows by name",
        class_="filter scripted",
    )
    table = el(
        "table",
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        class_=f"sortable {style}".strip(),
    )
    return el(
        "div", search if searchable else None, el("div", table, class_="scroll"), class_="data"
    )


def num(value: float | None, shown: str | None = None) -> Markup:
    """A right-aligned cell that sorts by its value."""
    if value is None:
        return el("td", shown or "–", class_="num")
    text = number(value, 4, padded=True) if shown is None else shown
    return el("td", text, class_="num", data_v=float(value))


def kept_edges(run: Run, groups: NodeGroups) -> Markup | None:
    """The kept edges, strongest first, with what their scores mean; None for an empty circuit."""
    edges = run.circuit.edges
    if not edges:
        return None
    order = {edge: place for place, edge in enumerate(edges, start=1)}
    ranked = sorted(edges, key=lambda edge: -abs(run.scores.of(edge)))[:MOST_EDGES]
    largest = abs(run.scores.of(ranked[0]))
    tested = {d.edge: place for place, d in enumerate(run.trace, start=1)}
    columns = [("edge", ""), ("enters", "")]
    columns += [("groups", "")] if groups.members else []
    columns += [("score", "num"), ("", "bar"), ("order", "num")]
    columns += [("tested as", "num")] if tested else []
    rows = [
        _kept_row(edge, run.scores.of(edge), largest, order[edge], tested, groups)
        for edge in ranked
    ]
    note = f"Score: {run.scores.meaning} ({run.scores.method}). Order: the graph's canonical order."
    if len(ranked) < len(edges):
        note = f"The {len(ranked):,} strongest of {len(edges):,}; all are in circuit.json. {note}"
    table = data_table(columns, rows, searchable=len(rows) > 12)
    return el("div", el("p", note, class_="note"), table)


def _kept_row(
    edge: Edge,
    score: float,
    largest: float,
    order: int,
    tested: dict[Edge, int],
    groups: NodeGroups,
) -> Markup:
    share = 100 * abs(score) / largest if largest else 0.0
    bar = el("i", style=f"width:{share:.1f}%", class_="negative" if score < 0 else None)
    place = tested.get(edge)
    return el(
        "tr",
        el("td", el("code", edge.name)),
        el("td", _enters(edge)),
        el("td", _between(edge, groups)) if groups.members else None,
        num(score),
        el("td", bar, class_="bar"),
        num(order, f"{order:,}"),
        num(place, None if place is None else f"{place:,}") if tested else None,
        data_name=edge.name,
    )


def _between(edge: Edge, groups: NodeGroups) -> str:
    """From which group to which; nodes without one by their own names."""
    ends = (edge.sender, edge.receiver.node)
    named = [groups.of(node) for node in ends]
    if named == [None, None] or edge.is_switch:
        return named[0] or ""
    return " → ".join(group or node.name for group, node in zip(named, ends, strict=True))


def _enters(edge: Edge) -> Markup:
    slot = edge.receiver.slot
    words = {"q": "query", "k": "key", "v": "value"}
    kind = words[slot] if slot else edge.receiver.node.kind
    text = f"{kind} switch" if edge.is_switch else kind
    return el("span", text, class_=f"tag {slot or 'plain'}")


def decisions(run: Run) -> Markup | None:
    """Every decision in order, folded away; None for a method that leaves no trace."""
    if not run.trace:
        return None
    shown = run.trace[:MOST_DECISIONS]
    columns = [
        ("test", "num"),
        ("edge", ""),
        ("change of the loss", "num"),
        ("decision", ""),
        ("running loss", "num"),
    ]
    rows = [_decision_row(place, decision) for place, decision in enumerate(shown, start=1)]
    heading = f"All {count(len(run.trace), 'decision')}, in order"
    note = None
    if len(shown) < len(run.trace):
        text = f"First {len(shown):,} of {len(run.trace):,}; the full trace is in trace.jsonl."
        note = el("p", text, class_="note")
    table = data_table(columns, rows, searchable=True)
    return el("details", el("summary", heading), note, table)


def _decision_row(place: int, decision: Decision) -> Markup:
    fate = "kept" if decision.kept else "removed"
    return el(
        "tr",
        num(place, f"{place:,}"),
        el("td", el("code", decision.edge.name)),
        num(decision.delta),
        el("td", fate, class_=fate),
        num(decision.loss),
        data_name=decision.edge.name,
    )


def groups_table(groups: NodeGroups) -> Markup | None:
    """The groups of a circuit's nodes, and what was measured of their heads, where it was.

    None where no node is in a group.
    """
    if not groups.members:
        return None
    measured = {head["head"]: head for head in groups.heads}
    columns = [("group", ""), ("node", "")]
    if measured:
        columns += [("attention there", "num"), ("direct effect (logits)", "num")]
    rows = [
        el(
            "tr",
            el("td", el("span", name, class_=f"tag {groups.colour(name)}")),
            el("td", el("code", node)),
            *(_measures(measured.get(node, {})) if measured else ()),
        )
        for name, nodes in groups.members.items()
        for node in nodes
    ]
    heading = f"Groups of nodes ({len(groups.members):,})"
    note = el("p", groups.source, class_="note") if groups.source else None
    return el("details", el("summary", heading), note, data_table(columns, rows))


def _measures(head: Mapping[str, Any]) -> tuple[Markup, Markup]:
    share, effect = head.get("attention"), head.get("effect")
    return (
        num(share, None if share is None else percent(share)),
        num(effect, None if effect is None else f"{effect:+.2f}"),
    )


def facts(pairs: list[tuple[str, str | Markup]]) -> Markup:
    """A two-column table of names and values."""
    rows = (el("tr", el("th", name, scope="row"), el("td", value)) for name, value in pairs)
    return el("div", el("table", el("tbody", *rows), class_="facts"), class_="scroll")


# --- tables of results


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
