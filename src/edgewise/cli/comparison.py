"""A comparison as the command line prints it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from edgewise.cli import console
from edgewise.tables import measured, percent

if TYPE_CHECKING:
    from edgewise.evaluation import Comparison, Judgement

_MOST_NAMED = 12
_PROMPTS = {
    "held-out": "held-out prompts",
    "discovery": "discovery prompts",
    "given": "prompts given",
}


_MEASURES = {
    "Jaccard of edges: what both have, of what either has": "edge_jaccard",
    "Jaccard of nodes": "node_jaccard",
    "Rank correlation of the scores of all edges (Spearman)": "rank_correlation",
}


def print_comparison(comparison: Comparison) -> None:
    """The circuits, how alike each two are, their groups, and what they share."""
    _print_circuits(comparison)
    for title, measure in _MEASURES.items():
        if any(getattr(pair, measure) is not None for pair in comparison.pairs):
            _print_matrix(comparison, title, measure)
    _print_cross(comparison)
    _print_groups(comparison)
    console.OUT.print()
    _print_shared(comparison)
    for note in comparison.notes:
        console.OUT.print(f"Note: {note}")


def _print_circuits(comparison: Comparison) -> None:
    prompts = {own.prompts for name in comparison.names if (own := comparison.own(name))}
    rows = []
    for place, (name, circuit) in enumerate(comparison.circuits.items(), start=1):
        only = f"{comparison.only(name).n_edges:,}"
        sizes = (f"{circuit.n_edges:,}", f"{len(circuit.nodes):,}", only)
        rows.append((f"{place} {name}", *sizes, *_own_cells(comparison.own(name), prompts)))
    columns = ["circuit", "edges", "nodes", "only"]
    if prompts:
        columns += ["metric", "full", "effect"]
    if len(prompts) > 1:
        columns += ["on"]
    console.table("", columns, rows)
    console.OUT.print("only: edges that no other circuit has.")
    if len(prompts) == 1:
        where = _PROMPTS[prompts.pop()]
        console.OUT.print(f"The metric, the full model's, and the effect kept: on {where}.")


def _own_cells(own: Judgement | None, prompts: Collection[str]) -> tuple[str, ...]:
    if not prompts:
        return ()
    if own is None:
        return ("–",) * (3 if len(prompts) == 1 else 4)
    scale = max(abs(own.full), abs(own.empty))
    value, full = (measured(value, "", scale=scale) for value in (own.value, own.full))
    share = "–" if own.normalized is None else percent(own.normalized)
    where = (_PROMPTS[own.prompts],) if len(prompts) > 1 else ()
    return (f"{own.metric} {value}", full, share, *where)


def _print_matrix(comparison: Comparison, title: str, measure: str) -> None:
    """Below the diagonal alone: the measures are symmetric."""
    names = comparison.names

    def cell(first: str, second: str) -> str:
        value = getattr(comparison.pair(first, second), measure)
        return "–" if value is None else f"{value:.2f}"

    rows = [
        (f"{i + 1} {names[i]}", *(cell(other, names[i]) for other in names[:i]))
        for i in range(1, len(names))
    ]
    _print_title(title)
    console.table("", ("", *map(str, range(1, len(names)))), rows)


def _print_cross(comparison: Comparison) -> None:
    """Circuits in rows, problems in columns, by the numbers of those whose own they are."""
    problems = dict.fromkeys(j.owners for j in comparison.judgements)
    if len(problems) < 2 or all(j.is_own for j in comparison.judgements):
        return
    places = {name: str(i) for i, name in enumerate(comparison.names, start=1)}
    share = {
        (j.circuit, j.owners): "–" if j.normalized is None else f"{round(100 * j.normalized)}%"
        for j in comparison.judgements
    }
    _print_title("Share of the effect that each circuit keeps on the problem of …")
    console.table(
        "",
        ("", *("=".join(places[owner] for owner in owners) for owners in problems)),
        [
            (f"{places[name]} {name}", *(share[name, owners] for owners in problems))
            for name in comparison.names
        ],
    )


def _print_groups(comparison: Comparison) -> None:
    if not comparison.groups:
        return
    _print_title("Nodes of each group of the published circuit")
    rows = [
        (group.name, len(group.nodes), *(len(group.present[n]) for n in comparison.names))
        for group in comparison.groups
    ]
    columns = ("group", "nodes", *(str(i + 1) for i in range(len(comparison.names))))
    console.table("", columns, rows)


def _print_title(title: str) -> None:
    """Not the table's own, which would be broken to its width."""
    console.OUT.print(f"\n{title}", style="italic")


def _print_shared(comparison: Comparison) -> None:
    shared, n = comparison.shared, len(comparison.names)
    edges, nodes = [e.name for e in shared.edges], [n.name for n in comparison.shared_nodes]
    console.OUT.print(f"In all {n}: {_some(edges, 'edge')}\nIn all {n}: {_some(nodes, 'node')}")
    for name in comparison.names:
        only = [edge.name for edge in comparison.only(name).edges]
        console.OUT.print(f"Only in {name}: {_some(only, 'edge')}")


def _some(names: Sequence[str], what: str) -> str:
    """How many, and the first of them."""
    count = f"{len(names):,} {what}" + ("" if len(names) == 1 else "s")
    if not names:
        return f"no {what}"
    more = ", …" if len(names) > _MOST_NAMED else ""
    return f"{count}: {', '.join(names[:_MOST_NAMED])}{more}"
