"""The order in which ACDC visits receivers and tests the edges into them (spec section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch

from edgewise.graph import Edge, Graph, Node, Port, Sender
from edgewise.methods.settings import HeadOrder


def visits(graph: Graph, head_order: HeadOrder) -> Iterator[tuple[Port, list[Edge]]]:
    """Receivers in ACDC's order, each with its candidate edges in order.

    The output; then per layer from the last: the MLP; the switches of all v, k, then q ports; the
    v, k, then q ports themselves; heads descending. With parallel blocks the MLP still comes first.
    A port's spans come one after the other, the last named first.
    """
    senders = [(graph.row(node), node) for node in _senders_in_order(graph, head_order)]

    def additive(port: Port) -> list[Edge]:
        exists = graph.exists[:, graph.column(port)].tolist()
        return [Edge(s, port) for row, s in senders if exists[row] and s != port.node]

    backwards = reversed(graph.receivers)
    for _, group in groupby(backwards, key=lambda port: (port.node.layer, port.node.kind == "mlp")):
        ports = list(group)
        if graph.switches and ports[0].node.kind in ("head", "attention"):
            for port in ports:
                yield port, [port.switch]
        for port in ports:
            yield port, additive(port)


def _senders_in_order(graph: Graph, head_order: HeadOrder) -> list[Sender]:
    """Later layers first, an MLP before its layer's heads, embeddings (token first) last."""
    order: list[Sender] = []
    for layer in range(graph.n_layers - 1, -1, -1):
        if graph.mlps:
            order.append(Sender(Node(layer, "mlp")))
        heads = graph.attention_nodes(layer)
        order += heads if head_order == "ascending" else heads[::-1]
    order += [node for node in graph.whole.senders if node.layer is None]
    return [node for one in order for node in graph.at_spans(one)]


def is_read(graph: Graph, keep: torch.Tensor, receiver: Port, is_switch: bool) -> bool:
    """Whether anything reads what a candidate edge feeds: its node's output, through its switch."""
    if receiver.node.kind == "logits":
        return True
    fed = [graph.row(node) for node in graph.fed_by(receiver)]
    if not (keep & ~graph.is_switch)[fed].any():
        return False
    column = graph.column(receiver)
    has_switch = bool(graph.is_switch[:, column].any())
    return is_switch or not has_switch or bool((keep & graph.is_switch)[:, column].any())
