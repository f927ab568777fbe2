"""Docstring in attn-only-4l (Heimersheim and Janiak 2023; spec 6.3)."""

from __future__ import annotations

from edgewise.circuit import Circuit
from edgewise.graph import Edge, Graph
from edgewise.tasks.circuits.rules import Groups, heads, ports, switches, wire

DOCSTRING_GROUPS: Groups = {
    "argument mover": heads("3.0", "3.6"),
    "fuzzy previous token": heads("2.0"),
    "induction and fuzzy previous token": heads("1.4"),
    "duplicate token": heads("0.5", "1.2"),
}


def docstring() -> Circuit:
    """Docstring of the ACDC paper: 24 edges and 13 switches."""
    graph = Graph.build(4, 8, mlps=False, switches=True)
    movers = DOCSTRING_GROUPS["argument mover"]
    early, duplicate, mixed, previous = heads("0.5", "1.2", "1.4", "2.0")
    source = ["input", early]
    edges: list[Edge] = [
        *wire(graph, movers, ["logits"]),
        *wire(graph, [mixed], ports(movers, "q")),
        *wire(graph, [previous, duplicate], ports(movers, "k")),
        *wire(graph, source, ports(movers, "v")),
        *wire(graph, source, ports([previous], "qk")),
        *wire(graph, [mixed], ports([previous], "v")),
        *wire(graph, source, ports([duplicate], "qk")),
        *wire(graph, source, ports([mixed], "v")),
        *wire(graph, ["input"], ports([early], "v")),
        *switches([*movers, previous]),
        *switches([duplicate], "qk"),
        *switches([mixed, early], "v"),
    ]
    return Circuit.of(graph, edges)
