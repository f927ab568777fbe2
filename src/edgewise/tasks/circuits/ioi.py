"""Indirect object identification in GPT-2 small (Wang et al. 2211.00593; spec 6.1).

The heads and their groups are those of Wang et al.; the edges are how the ACDC paper joins them.
That every MLP is in and wired to everything (780 of the 963 edges) is a choice of its authors.
"""

from __future__ import annotations

from edgewise.circuit import Circuit
from edgewise.graph import Edge, Graph
from edgewise.tasks.circuits.rules import Groups, heads, ports, switches, wire

IOI_GROUPS: Groups = {
    "name mover": heads("9.9", "10.0", "9.6"),
    "backup name mover": heads("10.10", "10.6", "10.2", "10.1", "11.2", "9.7", "9.0", "11.9"),
    "negative name mover": heads("10.7", "11.10"),
    "S-inhibition": heads("7.3", "7.9", "8.6", "8.10"),
    "induction": heads("5.5", "5.8", "5.9", "6.9"),
    "duplicate token": heads("0.1", "0.10", "3.0"),
    "previous token": heads("2.2", "4.11"),
    "MLPs": tuple(f"m{layer}" for layer in range(12)),
}


def ioi() -> Circuit:
    """IOI of the ACDC paper: 963 edges and 78 switches."""
    graph = Graph.build(12, 12, switches=True)
    g = IOI_GROUPS
    movers = g["name mover"] + g["backup name mover"] + g["negative name mover"]
    inhibition, induction = g["S-inhibition"], g["induction"]
    duplicate, previous = g["duplicate token"], g["previous token"]
    every = movers + inhibition + induction + duplicate + previous
    mlps = g["MLPs"]
    edges: list[Edge] = [
        # MLPs hear everything and are heard by everyone later.
        *wire(graph, ["input", *every, *mlps], mlps),
        *wire(graph, mlps, [*ports(every, "qkv"), "logits"]),
        # What each group reads from the embedding.
        *wire(graph, ["input"], [*ports(previous + duplicate, "qkv"), "logits"]),
        *wire(graph, ["input"], [*ports(inhibition, "q"), *ports(movers, "kv")]),
        # From group to group.
        *wire(graph, previous, ports(induction, "kv")),
        *wire(graph, induction + duplicate, ports(inhibition, "kv")),
        *wire(graph, inhibition, ports(movers, "q")),
        *wire(graph, movers, ["logits"]),
        *switches(every),
    ]
    return Circuit.of(graph, edges)
