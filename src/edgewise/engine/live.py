"""The nodes of a micro-batch that are live so far, and where their ports read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from edgewise.engine.attention import AttentionNode, HeadPort
from edgewise.engine.base import Base, made_together
from edgewise.engine.consumers import Consumer
from edgewise.engine.layers import LayerNode
from edgewise.engine.mlps import MlpNode
from edgewise.graph import SLOTS, Graph, Node, Port, Site, Slot
from edgewise.model import Model
from edgewise.model.attention import Places


class LiveNodes:
    """Nodes, all positions together, made live from the output backwards."""

    def __init__(self, model: Model, graph: Graph, base: Base, places: Places, first: int) -> None:
        """`first`: the first position at which anything can change."""
        self._model, self._graph, self._base = model, graph, base
        self._places, self._first = places, first
        self.positions: dict[int, Int[Tensor, "place"]] = {}  # by port
        # In the order of visits. Heads that depend on each other are one, by the first of them.
        self._nodes: dict[Node, AttentionNode | LayerNode | MlpNode] = {}

    def __copy__(self) -> LiveNodes:
        other = object.__new__(type(self))
        nodes = {node: copy.copy(live) for node, live in self._nodes.items()}
        other.__dict__ = {**self.__dict__, "positions": dict(self.positions), "_nodes": nodes}
        return other

    def __iter__(self) -> Iterator[AttentionNode | LayerNode | MlpNode]:
        """In the order of the model's computation."""
        return reversed(self._nodes.values())

    def enter(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> tuple[Node, ...]:
        """Make a node live, once everything that reads it has its final edges.

        With it the heads that share its keys and values, whose ports' positions are the same, or
        all heads of its layer if they depend on each other. Returns the nodes made live.
        """
        nodes = made_together(self._graph, self._model.config, replace(node, span=None))
        if node.kind == "logits" or any(one in self._nodes for one in nodes):
            return ()
        kept = self._graph.by_span(keep & ~self._graph.is_switch)
        edges = {one: kept[:, self._graph.whole.row(one)] for one in nodes}  # [span receiver]
        reads = {
            one: {c: self.positions[c] for c in into.any(dim=0).nonzero().flatten().tolist()}
            for one, into in edges.items()
        }
        needed = torch.cat([at for each in reads.values() for at in each.values()]).unique()
        made: dict[Node, AttentionNode | MlpNode] = {
            one: self._made(
                one,
                tuple(
                    Consumer.of(c, at, needed, _some(edges[one][:, c].tolist()))
                    for c, at in each.items()
                ),
                needed,
            )
            for one, each in reads.items()
            if each or self._mixes(node)
        }
        if self._mixes(node):
            self._nodes[nodes[0]] = LayerNode([_attention(one) for one in made.values()])
        else:
            self._nodes |= made
        return tuple(made)

    def attention(self, port: Port) -> AttentionNode:
        """The attention node that a port belongs to."""
        live = self.attention_with(port)
        return live.nodes[port.node.head or 0] if isinstance(live, LayerNode) else live

    def attention_with(self, port: Port) -> AttentionNode | LayerNode:
        """The same, with the heads that depend on it."""
        node = replace(port.node, span=None)
        live = self._nodes[
            made_together(self._graph, self._model.config, node)[0] if self._mixes(node) else node
        ]
        assert not isinstance(live, MlpNode)  # nobody asks for MLPs
        return live

    def _mixes(self, node: Node) -> bool:
        """Whether a node is one of heads that depend on each other, through a norm over them."""
        return self._model.config.mixes_heads and node.kind != "mlp"

    def _made(
        self, node: Node, consumers: tuple[Consumer, ...], needed: Int[Tensor, "place"]
    ) -> AttentionNode | MlpNode:
        assert node.layer is not None  # embeddings have no ports
        if node.kind == "mlp":
            site = Site(node.layer, "mlp")
            column = self._graph.whole.column(Port(node))
            self.positions[column] = needed
            read = self._base.read(node, site)[:, needed]
            return MlpNode(self._model, node.layer, column, consumers, read)
        return self._attention(node, node.layer, consumers, needed)

    def _attention(
        self, node: Node, layer: int, consumers: tuple[Consumer, ...], needed: Tensor
    ) -> AttentionNode:
        last = int(needed.max()) + 1 if self._model.config.causal else self._base.final.shape[1]
        keys = torch.arange(min(self._first, last - 1), last, device=needed.device)
        ports, graph = [], self._graph.whole
        if graph.split_qkv:
            for slot in SLOTS:
                column = self._column_of(node, slot)
                ports.append(HeadPort(column, (slot,), needed if slot == "q" else keys))
        else:
            both = torch.cat([needed, keys]).unique()
            ports.append(HeadPort(graph.column(Port(node)), SLOTS, both))
        for port in ports:
            self.positions[port.column] = port.positions
        return AttentionNode(
            self._model,
            layer,
            heads_of(node),
            tuple(ports),
            consumers,
            needed,
            {slot: self._base.read(node, Site(layer, slot)) for slot in SLOTS},
            self._places,
        )

    def _column_of(self, node: Node, slot: Slot) -> int:
        """The port at which a head, or its key/value head, reads."""
        columns, heads = self._graph.columns(Site(node.layer, slot)), self._graph.n_heads
        if node.head is None:
            return columns.start
        return columns.start + node.head * (columns.stop - columns.start) // heads


def _attention(node: AttentionNode | LayerNode | MlpNode) -> AttentionNode:
    assert isinstance(node, AttentionNode)  # nothing else is asked for
    return node


def _some(kept: Sequence[bool]) -> tuple[int, ...] | None:
    """The spans at which an edge is kept; None for all."""
    return None if all(kept) else tuple(i for i, k in enumerate(kept) if k)


def heads_of(node: Node) -> slice:
    """Which of a layer's heads an attention node is: one, or all."""
    return slice(None) if node.head is None else slice(node.head, node.head + 1)
