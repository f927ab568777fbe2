"""The order in which ACDC takes receivers and tests their edges, as its authors' code does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from edgewise.circuit import Circuit
from edgewise.engine import ReceiverStep
from edgewise.graph import Edge, Graph, Node, Port, Sender
from edgewise.methods.settings import HeadOrder


def receiver_steps(graph: Graph, head_order: HeadOrder = "descending") -> Iterator[ReceiverStep]:
    """Receivers in ACDC's order, each with its candidate edges in order.

    The output; then per layer from the last: the MLP; the switches of all v, k, then q ports; the
    v, k, then q ports themselves; heads descending. With parallel blocks the MLP still comes first.
    A port's spans come one after the other, the last named first.
    """
    senders = [(graph.row[node], node) for node in _senders_in_order(graph, head_order)]

    def additive(port: Port) -> tuple[Edge, ...]:
        exists = graph.exists[:, graph.column[port]].tolist()
        return tuple(Edge(s, port) for row, s in senders if exists[row] and s != port.node)

    backwards = reversed(graph.receivers)
    for _, group in groupby(backwards, key=lambda port: (port.node.layer, port.node.kind == "mlp")):
        ports = list(group)
        if graph.switches and ports[0].node.kind in ("head", "attention"):
            for port in ports:
                yield ReceiverStep(port, (port.switch,))
        for port in ports:
            yield ReceiverStep(port, additive(port))


def shuffled_steps(graph: Graph, generator: torch.Generator) -> list[ReceiverStep]:
    """ACDC's order with the heads of each layer in random order, as senders and as receivers.

    Layers, and q, k and v, keep their order: everything that reads a node still comes before the
    edges into it.
    """
    order: dict[Node, int] = {}  # of heads, at any span
    for layer in range(graph.n_layers):
        heads = graph.attention_nodes[layer]
        drawn = torch.randperm(len(heads), generator=generator).tolist()
        order |= dict(zip(heads, drawn, strict=True))
    steps = []
    for _, alike in groupby(receiver_steps(graph), key=_kind):
        for step in sorted(alike, key=lambda step: _rank(order, step.receiver.node)):  # stable
            edges: list[Edge] = []
            for _, group in groupby(step.edges, key=lambda e: (e.sender.layer, e.sender.kind)):
                edges += sorted(group, key=lambda e: _rank(order, e.sender))
            steps.append(ReceiverStep(step.receiver, tuple(edges)))
    return steps


def is_read(circuit: Circuit, step: ReceiverStep) -> bool:
    """Whether anything reads what a candidate edge feeds: its node's output, through its switch."""
    graph = circuit.graph
    keep = circuit.keep
    receiver = step.receiver
    if receiver.node.kind == "logits":
        return True
    fed = graph.rows_fed[receiver]
    if not (keep[fed] & ~graph.is_switch[fed]).any():
        return False
    if step.is_switch or not graph.switches:
        return True
    column = graph.column[receiver]
    switches = graph.is_switch[:, column]
    return not switches.any() or bool((keep[:, column] & switches).any())


def _senders_in_order(graph: Graph, head_order: HeadOrder) -> list[Sender]:
    """Later layers first, an MLP before its layer's heads, embeddings (token first) last."""
    order: list[Sender] = []
    for layer in range(graph.n_layers - 1, -1, -1):
        if graph.mlps:
            order.append(Sender(Node(layer, "mlp")))
        heads = graph.attention_nodes[layer]
        order += heads if head_order == "ascending" else heads[::-1]
    order += [node for node in graph.whole.senders if node.layer is None]
    return [node for sender in order for node in graph.at_spans(sender)]


def _rank(order: Mapping[Node, int], node: Node) -> int:
    return order.get(replace(node, span=None), 0)


def _kind(step: ReceiverStep) -> tuple[Any, ...]:
    """What steps have in common that differ in their head alone."""
    node = step.receiver.node
    return node.layer, node.kind, step.receiver.slot, step.is_switch
