"""The page of a comparison: how alike the circuits are, what they share, who sees what."""

from __future__ import annotations

from edgewise.evaluation import Comparison, GroupPresence
from edgewise.graph import Edge
from edgewise.reporting.heatmap import Cell, heatmap
from edgewise.reporting.markup import Markup, el, join
from edgewise.reporting.page import document
from edgewise.reporting.side_by_side import side_by_side
from edgewise.reporting.tables import MOST_EDGES, data_table, num
from edgewise.tables import count, measured, number, percent

_PROMPTS = {
    "held-out": "held-out prompts",
    "discovery": "the prompts it was found on",
    "given": "the prompts given",
}


def comparison_page(comparison: Comparison) -> str:
    """The whole HTML document."""
    n = len(comparison.names)
    sections = [
        _agreement(comparison),
        _cross(comparison),
        _groups(comparison),
        _section("Circuits side by side", side_by_side(comparison)),
        _edges(comparison),
    ]
    return document(
        f"{n} circuits compared",
        join(
            el("h1", f"{n} circuits compared"),
            el("p", _verdict(comparison), class_="verdict"),
            *(el("p", f"Note: {note}", class_="note") for note in comparison.notes),
            _circuits(comparison),
        ),
        [section for section in sections if section is not None],
    )


def _section(title: str, *content: Markup | None) -> Markup:
    return el("section", el("h3", title), *content)


def _verdict(comparison: Comparison) -> str:
    shared, union, n = comparison.shared.n_edges, comparison.union.n_edges, len(comparison.names)
    most, least = (
        choose(comparison.pairs, key=lambda pair: pair.edge_jaccard) for choose in (max, min)
    )
    both, nodes = "both" if n == 2 else "all", count(len(comparison.shared_nodes), "node")
    common = f"{shared:,} of these and {nodes} are" if shared else "no edge is"
    if not shared and comparison.shared_nodes:
        common = f"no edge, but {nodes}, is"
    together = f"Together the {n} circuits have {count(union, 'edge')}; {common} in {both} of them."
    if n == 2:
        return f"{together} The Jaccard index of their edges is {number(most.edge_jaccard, 2)}."
    if most.edge_jaccard == least.edge_jaccard:
        return f"{together} Every two of them have Jaccard {number(most.edge_jaccard, 2)} of edges."
    return (
        f"{together} Most alike are {most.first} and {most.second} (Jaccard of edges "
        f"{number(most.edge_jaccard, 2)}), least {least.first} and {least.second} "
        f"({number(least.edge_jaccard, 2)})."
    )


# --- the circuits


def _circuits(comparison: Comparison) -> Markup:
    columns = [("circuit", ""), ("edges", "num"), ("nodes", "num"), ("edges only here", "num")]
    if comparison.judgements:
        columns += [("metric", ""), ("circuit", "num"), ("full", "num"), ("empty", "num")]
        columns += [("effect kept", "num"), ("measured on", "")]
    rows = [_circuit_row(comparison, *row) for row in enumerate(comparison.names, start=1)]
    return data_table(columns, rows, style="overview")


def _circuit_row(comparison: Comparison, place: int, name: str) -> Markup:
    circuit, only = comparison.circuits[name], comparison.only(name).n_edges
    return el(
        "tr",
        el("td", f"{place}. {name}"),
        num(circuit.n_edges, f"{circuit.n_edges:,} of {circuit.graph.n_edges:,}"),
        num(len(circuit.nodes), f"{len(circuit.nodes):,}"),
        num(only, f"{only:,}"),
        *(_own(comparison, name) if comparison.judgements else ()),
    )


def _own(comparison: Comparison, name: str) -> list[Markup]:
    own = comparison.own(name)
    if own is None:
        return [el("td", "–"), *[num(None)] * 4, el("td", "–")]
    scale = max(abs(own.full), abs(own.empty))
    unit = f" ({own.unit})" if own.unit else ""
    values = (own.value, own.full, own.empty)
    return [
        el("td", f"{own.metric}{unit}"),
        *(num(value, measured(value, "", scale=scale)) for value in values),
        num(own.normalized, None if own.normalized is None else percent(own.normalized)),
        el("td", _PROMPTS[own.prompts], class_="settings"),
    ]


# --- how alike they are


def _agreement(comparison: Comparison) -> Markup:
    maps = [
        _matrix(comparison, "edge_jaccard", "edges", "Jaccard of edges"),
        _matrix(comparison, "node_jaccard", "nodes", "Jaccard of nodes"),
    ]
    if any(pair.rank_correlation is not None for pair in comparison.pairs):
        maps.append(_matrix(comparison, "rank_correlation", "", "Rank correlation of scores"))
    note = (
        "Jaccard: what both circuits have, of what either has. Rank correlation (Spearman): "
        "whether the scores of all edges, kept or not, put them in the same order."
    )
    return _section(
        "How alike they are",
        el("p", note, class_="note"),
        el("div", *maps, class_="heatmaps"),
    )


def _matrix(comparison: Comparison, measure: str, what: str, title: str) -> Markup:
    def cell(row: str, column: str) -> Cell:
        if row == column:
            return Cell(None, "", row)
        pair = comparison.pair(row, column)
        value = getattr(pair, measure)
        tip = f"{row} and {column}\n{title}: {'–' if value is None else number(value, 3)}"
        if what:
            both = pair.shared_edges if what == "edges" else pair.shared_nodes
            tip += f"\n{both:,} {what} in both"
        return Cell(value, "–" if value is None else f"{value:.2f}".replace("-", "−"), tip)

    names = comparison.names
    grid = [[cell(row, column) for column in names] for row in names]
    return heatmap(title, names, [str(i + 1) for i in range(len(names))], grid)


def _cross(comparison: Comparison) -> Markup | None:
    """Every circuit on every problem; None where each was judged on one."""
    problems = list(dict.fromkeys(j.owners for j in comparison.judgements))
    if len(problems) < 2 or all(j.is_own for j in comparison.judgements):
        return None
    found = {(j.circuit, j.owners): j for j in comparison.judgements}

    def cell(name: str, owners: tuple[str, ...]) -> Cell:
        judged = found[name, owners]
        tip = (
            f"{name} on the problem of {judged.problem}, {_PROMPTS[judged.prompts]}\n"
            f"{judged.metric} {number(judged.value, 4)}; full model {number(judged.full, 4)}, "
            f"empty circuit {number(judged.empty, 4)}"
        )
        share = judged.normalized
        return Cell(share, "–" if share is None else number(float(round(100 * share))), tip)

    names = comparison.names
    places = {name: str(i + 1) for i, name in enumerate(names)}
    heads = ["=".join(places[owner] for owner in owners) for owners in problems]
    grid = [[cell(name, owners) for owners in problems] for name in names]
    note = (
        "The share of the effect, in percent, that the circuit of each row keeps on the problem of "
        "each column: 100 is the full model, 0 the empty circuit."
    )
    return _section(
        "Each circuit on each problem",
        el("p", note, class_="note"),
        heatmap("Effect kept (%)", names, heads, grid),
    )


def _groups(comparison: Comparison) -> Markup | None:
    if not comparison.groups:
        return None
    names = comparison.names

    def cell(group: GroupPresence, name: str) -> Cell:
        there = group.present[name]
        tip = f"{group.name} in {name}\n{', '.join(there) or 'none of its nodes'}"
        return Cell(len(there) / len(group.nodes), str(len(there)), tip)

    grid = [[cell(group, name) for name in names] for group in comparison.groups]
    rows = [f"{group.name} ({len(group.nodes)})" for group in comparison.groups]
    heads = [str(i + 1) for i in range(len(names))]
    note = "How many nodes of each group of the published circuit an edge of the circuit touches."
    key = el("p", "; ".join(f"{i + 1} {n}" for i, n in enumerate(names)) + ".", class_="note")
    grid_map = heatmap("Nodes there, by circuit", rows, heads, grid, numbered=False)
    return _section("Groups", el("p", note, class_="note"), grid_map, key)


# --- which edges


def _edges(comparison: Comparison) -> Markup | None:
    presence = comparison.presence()
    if not presence:
        return None
    names = comparison.names
    shown = presence[:MOST_EDGES]
    columns = [("edge", ""), ("in", "num"), *((str(i + 1), "mark") for i in range(len(names)))]
    rows = [_edge_row(edge, holders, names) for edge, holders in shown]
    key = "; ".join(f"{i + 1} {name}" for i, name in enumerate(names))
    note = f"{key}. Those that most circuits have come first, then the graph's canonical order."
    if len(shown) < len(presence):
        note = f"The first {len(shown):,} of {len(presence):,}. {note}"
    table = data_table(columns, rows, searchable=len(rows) > 12)
    return _section(f"Edges by circuit ({len(presence):,})", el("p", note, class_="note"), table)


def _edge_row(edge: Edge, holders: tuple[str, ...], names: tuple[str, ...]) -> Markup:
    kind = "only" if len(holders) == 1 else "all" if len(holders) == len(names) else "some"
    marks = (
        el("td", "●" if name in holders else "", class_=f"mark {kind}", data_v=int(name in holders))
        for name in names
    )
    return el(
        "tr",
        el("td", el("code", edge.name)),
        num(len(holders), f"{len(holders)}"),
        *marks,
        data_name=edge.name,
    )
