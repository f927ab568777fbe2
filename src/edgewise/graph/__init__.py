"""What can talk to what: nodes, ports, edges, their names, and the graph at a granularity."""

from edgewise.graph.graph import Graph, Site
from edgewise.graph.names import SLOTS, Edge, Node, NodeKind, Port, Slot

__all__ = ["SLOTS", "Edge", "Graph", "Node", "NodeKind", "Port", "Site", "Slot"]
