"""Heads that depend on each other: groups that share keys and values, layers behind one norm."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from edgewise.errors import SettingError
from edgewise.graph.names import Node, Port, Sender

if TYPE_CHECKING:
    from edgewise.graph.graph import Graph


def check_fields(graph: Graph) -> None:
    """Raise `SettingError` for a field that is no number, no flag, or does not fit the others."""
    for name, value in asdict(graph).items():
        if name in ("spans", "kv_heads"):
            continue
        counted = name in ("n_layers", "n_heads")
        if type(value) is not (int if counted else bool):
            wanted = "a whole number" if counted else "True or False"
            raise SettingError(f"{name} is {value!r:.80}; it must be {wanted}.")
        if counted and value < 1:
            raise SettingError(f"{name} is {value}; a graph needs at least 1.")
    _check_kv_heads(graph)


def _check_kv_heads(graph: Graph) -> None:
    """Raise `SettingError` unless a graph can have the key/value heads it asks for."""
    n = graph.kv_heads
    if n is None:
        return
    if type(n) is not int or not 0 < n < graph.n_heads or graph.n_heads % n:
        raise SettingError(
            f"kv_heads is {n!r:.80}; it must be a divisor of the {graph.n_heads} heads, less than "
            "them, or None if every head has its own keys and values."
        )
    if not graph.split_qkv or not graph.split_heads or graph.switches:
        raise SettingError(
            "key/value heads with ports of their own need split q/k/v and single heads, and "
            "switches belong to one head: use ungroup_heads=True (kv_heads=None) here."
        )


def group_of(graph: Graph, node: Node) -> tuple[Sender, ...]:
    """The senders that write what a node computes: itself; a key/value head's heads; or none."""
    if node.kind == "logits":
        return ()
    if node.kind != "kv" or node.layer is None or node.head is None or graph.kv_heads is None:
        return (Sender(node),)
    size = graph.n_heads // graph.kv_heads
    heads = graph.attention_nodes(node.layer)[node.head * size : (node.head + 1) * size]
    return tuple(replace(head, span=node.span) for head in heads)


def fed_by(graph: Graph, port: Port) -> tuple[Sender, ...]:
    """The senders that use what a port reads; none for the output."""
    node = port.node
    if node.kind not in ("head", "kv", "attention") or node.layer is None:
        return graph.group(node)
    nodes = graph.attention_nodes(node.layer) if graph.mixed_heads else group_of(graph, node)
    if port.slot != "q":
        return tuple(at for one in nodes for at in graph.at_spans(replace(one, span=None)))
    return tuple(replace(one, span=node.span) for one in nodes)
