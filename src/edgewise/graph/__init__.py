"""What can talk to what: nodes, ports, edges, their names, and the graph at a granularity."""

from edgewise.graph.graph import Graph
from edgewise.graph.names import SLOTS, Edge, Node, NodeKind, Port, Sender, Slot
from edgewise.graph.shape import Site
from edgewise.graph.spans import REST, name_fault

__all__ = [
    "REST",
    "SLOTS",
    "Edge",
    "Graph",
    "Node",
    "NodeKind",
    "Port",
    "Sender",
    "Site",
    "Slot",
    "name_fault",
]
