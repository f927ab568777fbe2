"""Nodes as the ACDC paper's code counts them (spec section 1.4), for its node ROC.

There a head is seven nodes: its output, and for q, k and v what the port reads and the vector made
of it. They are present as ends of kept edges: an edge s->a3.h7.q has s's output and the q input as
ends, the switch of that port its q input and its q vector. MLP inputs are dropped, so an MLP
counts only where it sends. GPT-2 small has 1,022 such nodes, beside 157 heads, MLPs and ends.
"""

from __future__ import annotations

from edgewise.circuit import Circuit
from edgewise.errors import SettingError
from edgewise.graph import Graph


def check_has_paper_nodes(graph: Graph) -> None:
    """Raise `SettingError` for a granularity at which the paper did not count."""
    if not (graph.split_qkv and graph.split_heads and graph.switches and graph.spans is None):
        raise SettingError(
            "nodes='paper' counts inputs and vectors of q, k and v, which only a graph of heads "
            f"with split q/k/v and switches tells apart; this one has {graph.describe()}. "
            "Use nodes='plain', or build the graph with switches=True and without spans."
        )


def paper_nodes(circuit: Circuit) -> frozenset[str]:
    """The names of the nodes that the paper's code counts as present.

    A head's are `a3.h7`, and `a3.h7.q:input` and `a3.h7.q:vector` for q, k and v.
    """
    found = set[str]()
    for edge in circuit.edges:
        if edge.is_switch:
            found |= {f"{edge.receiver.name}:input", f"{edge.receiver.name}:vector"}
            continue
        found.add(edge.sender.name)
        if edge.receiver.slot is not None:
            found.add(f"{edge.receiver.name}:input")
        elif edge.receiver.node.kind == "logits":
            found.add(edge.receiver.name)
    return frozenset(found)


def n_paper_nodes(graph: Graph) -> int:
    """How many nodes the paper's code counts in the whole graph."""
    return len(paper_nodes(Circuit.full(graph)))
