"""Greater-Than in GPT-2 small (Hanna et al. 2305.00586; spec 6.2).

MLPs 4 to 7 are in for the queries of the middle heads alone ("clean query" in the ACDC paper).
"""

from __future__ import annotations

from edgewise.circuit import Circuit
from edgewise.graph import Edge, Graph
from edgewise.tasks.circuits.rules import Groups, heads, ports, switches, wire

GREATER_THAN_GROUPS: Groups = {
    "early head": heads("0.3", "0.5"),
    "early head, to MLPs": heads("0.1"),
    "early MLP": ("m0", "m1", "m2", "m3"),
    "middle head": heads("5.5", "6.1", "6.9", "7.10", "8.11", "9.1"),
    "query MLP": ("m4", "m5", "m6", "m7"),
    "late MLP": ("m8", "m9", "m10", "m11"),
}


def greater_than() -> Circuit:
    """Greater-Than of the ACDC paper: 235 edges and 27 switches."""
    graph = Graph.build(12, 12, switches=True)
    g = GREATER_THAN_GROUPS
    to_mlps, middle = g["early head, to MLPs"], g["middle head"]
    early = g["early head"] + to_mlps
    early_mlps, late_mlps = g["early MLP"], g["late MLP"]
    mlps = early_mlps + g["query MLP"] + late_mlps
    edges: list[Edge] = [
        *wire(graph, ["input"], [*ports(early, "qkv"), *early_mlps]),
        *wire(graph, to_mlps, early_mlps),
        *wire(graph, early, ports(middle, "qkv")),
        *wire(graph, early_mlps, ports(middle, "kv")),
        *wire(graph, mlps, ports(middle, "q")),
        *wire(graph, middle, late_mlps),
        *wire(graph, mlps[:9], mlps[:9]),
        *wire(graph, late_mlps, late_mlps),
        *wire(graph, middle + late_mlps, ["logits"]),
        *switches(early + middle),
    ]
    return Circuit.of(graph, edges)
