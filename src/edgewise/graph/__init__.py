"""What can talk to what: nodes, ports, edges, their names, and the graph at a granularity."""

from edgewise.graph.graph import Graph
from edgewise.graph.names import SLOTS, Edge, Node, NodeKind, Port, Sender, Site, Slot
from edgewise.graph.shape import REST, HasShape, name_fault

__all__ = [
    "REST",
    "SLOTS",
    "Edge",
    "Graph",
    "HasShape",
    "Node",
    "NodeKind",
    "Port",
    "Sender",
    "Site",
    "Slot",
    "name_fault",
]
