"""Rules that circuits are written with: everyone of one group to everyone of another, if later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgewise.graph import Edge, Graph, Node, Port, Sender

Groups = Mapping[str, tuple[str, ...]]  # what a group does -> names of its nodes


def heads(*names: str) -> tuple[str, ...]:
    """Names of heads, from the papers' `9.9`."""
    return tuple(Node.parse(name).name for name in names)


def wire(graph: Graph, senders: Iterable[str], receivers: Iterable[str]) -> list[Edge]:
    """Every edge of `graph` from one of `senders` to one of `receivers`: those that come later."""
    ports = [Port.parse(name) for name in receivers]
    return [
        Edge(node, port)
        for node in (Sender(Node.parse(name)) for name in senders)
        for port in ports
        if graph.exists[graph.row(node), graph.column(port)] and port.node != node
    ]


def ports(nodes: Iterable[str], slots: str) -> list[str]:
    """The ports of heads: `ports(["a9.h9"], "kv")`."""
    return [f"{node}.{slot}" for node in nodes for slot in slots]


def switches(nodes: Iterable[str], slots: str = "qkv") -> list[Edge]:
    """The switches of heads."""
    return [Port.parse(name).switch for name in ports(nodes, slots)]
