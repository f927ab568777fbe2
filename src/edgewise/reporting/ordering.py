"""The order of heads within their rows that makes a drawing's edges short.

Barycentre sweeps (Sugiyama, Tagawa and Toda 1981), upwards and downwards in turn: every node moves
to the mean place of its neighbours, then rows are set evenly again. On circuits of GPT-2 small's
shape this halves the number of crossings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from edgewise.graph import Edge, Node

_SWEEPS = 8

Rows = dict[int, list[Node]]


def untangled(rows: Rows, edges: Sequence[Edge], others: Mapping[Node, float]) -> Rows:
    """The rows, by layer, with their nodes reordered; `others` are the places of other nodes."""
    neighbours: dict[Node, list[Node]] = defaultdict(list)
    for edge in edges:
        neighbours[edge.sender].append(edge.receiver.node)
        neighbours[edge.receiver.node].append(edge.sender)
    best, shortest = rows, float("inf")
    places = {**others, **_places(rows.values())}
    current = dict(rows)
    for sweep in range(_SWEEPS):
        for layer in sorted(current, reverse=sweep % 2 == 0):
            means = {
                n: _mean([places[m] for m in neighbours[n]], places[n]) for n in current[layer]
            }
            # `sorted` is stable, so equal means keep their order.
            current[layer] = sorted(current[layer], key=means.__getitem__)
            places |= _places([current[layer]])
        length = sum(abs(places[e.sender] - places[e.receiver.node]) for e in edges)
        if length < shortest:
            best, shortest = dict(current), length
    return best


def _places(rows: Iterable[Sequence[Node]]) -> dict[Node, float]:
    """Nodes set side by side around 0, at distance 1."""
    return {node: i - (len(row) - 1) / 2 for row in rows for i, node in enumerate(row)}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
