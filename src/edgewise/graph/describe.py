"""A graph in words: its shape, and what to say of an edge it does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.errors import UnknownName, unknown_name
from edgewise.graph.names import Edge

if TYPE_CHECKING:
    from edgewise.graph.graph import Graph


def describe(graph: Graph) -> str:
    """One phrase: the shape and the granularity."""
    attention = "heads" if graph.split_heads else "whole attention layers"
    parts = [f"{_count(graph.n_layers, 'layer')} of {_count(graph.n_heads, 'head')}"]
    parts.append("MLPs" if graph.mlps else "no MLPs")
    if graph.kv_heads is not None:
        parts.append(_count(graph.kv_heads, "key/value head"))
    if graph.parallel:
        parts.append("parallel blocks")
    parts.append(f"{'split' if graph.split_qkv else 'joined'} q/k/v")
    parts.append(f"{attention} as nodes")
    if graph.split_embed:
        parts.append("split embeddings")
    if graph.switches:
        parts.append("switches")
    if graph.spans is not None:
        parts.append(f"spans {', '.join(graph.spans)}")
    return ", ".join(parts)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def no_such_edge(graph: Graph, edge: Edge) -> UnknownName:
    """The error of asking for an edge that the graph does not have, with suggestions."""
    known = edge.sender in graph.senders and edge.receiver in graph.receivers
    has_ports = edge.sender.kind in ("head", "attention")
    if edge.is_switch and has_ports and not graph.switches:
        hint = "This graph has no switches; build it with switches=True to have them."
    elif known and edge.sender.span != edge.receiver.node.span:
        hint = "An edge has both ends in one span: only attention goes between positions."
    elif known:
        hint = f"{edge.sender} is computed after {edge.receiver} reads the residual stream."
    elif graph.kv_heads is not None and edge.receiver.slot in ("k", "v"):
        hint = (
            f"Here {graph.n_heads} heads share {graph.kv_heads} key/value heads, whose ports are "
            "named like 'a3.kv0.k'; ungroup_heads=True gives every head its own."
        )
    else:
        hint = f"This graph has {graph.describe()}."
    return unknown_name("edge", edge.name, _names_near(graph, edge), hint=hint)


def _names_near(graph: Graph, edge: Edge) -> list[str]:
    """Candidates for a suggestion: edges that share an end with the one asked for.

    All edges would do, but difflib over 32,491 names takes seconds.
    """
    if edge.receiver in graph.receivers:
        column = graph.column(edge.receiver)
        rows = graph.exists[:, column].nonzero().flatten().tolist()
        return [Edge(graph.senders[row], edge.receiver).name for row in rows]
    if edge.sender in graph.senders:
        row = graph.row(edge.sender)
        columns = graph.exists[row].nonzero().flatten().tolist()
        return [Edge(edge.sender, graph.receivers[column]).name for column in columns]
    return []
