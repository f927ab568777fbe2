"""The nodes of a micro-batch that are active so far, and where their ports read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from edgewise.engine.base import Base, activated_with
from edgewise.engine.heads import AttentionNode, HeadPort
from edgewise.engine.layers import LayerNode
from edgewise.engine.mlp_nodes import MlpNode
from edgewise.engine.plans import Consumer
from edgewise.graph import SLOTS, Node, Port, Sender, Site, Slot
from edgewise.model.attention import PromptPositions

# The spans at which an edge is kept, and the positions that its receiver reads, by its column.
Edges = Mapping[int, tuple[Bool[Tensor, "span"], Int[Tensor, "_place"]]]


class ActiveNodes:
    """Nodes, all positions together, activated from the output backwards."""

    def __init__(self, base: Base, positions: PromptPositions, first: int) -> None:
        """`first`: the first position at which anything can change."""
        self._base, self._graph = base, base.graph
        self._prompt_positions, self._first = positions, first
        self.positions: dict[int, Int[Tensor, "place"]] = {}  # by port
        # Backwards. Heads that depend on each other are one, by the first of them.
        self._nodes: dict[Node, AttentionNode | LayerNode | MlpNode] = {}

    def __iter__(self) -> Iterator[AttentionNode | LayerNode | MlpNode]:
        """In the order of the model's computation."""
        return reversed(self._nodes.values())

    def activate(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> tuple[Node, ...]:
        """Make a node active, once everything that reads it has its final edges.

        With it the heads that share its keys and values, whose ports' positions are the same, or
        all heads of its layer if they depend on each other. Returns the nodes activated.
        """
        together = self._together(node)
        if node.kind == "logits" or any(member in self._nodes for member in together):
            return ()
        kept = self._graph.by_span(keep & ~self._graph.is_switch)
        edges = {member: self._edges_from(member, kept) for member in together}
        reads = [positions for out in edges.values() for _, positions in out.values()]
        needed = torch.cat(reads).unique()
        if self._depend_on_each_other(node):
            heads = [self._attention(member, out, needed) for member, out in edges.items()]
            self._nodes[together[0]] = LayerNode(heads)
            return together
        make = self._mlp if node.kind == "mlp" else self._attention
        activated = tuple(member for member, out in edges.items() if out)
        for member in activated:
            self._nodes[member] = make(member, edges[member], needed)
        return activated

    def attention(self, port: Port) -> AttentionNode:
        """The attention node that a port belongs to."""
        node = self.attention_with(port)
        return node.nodes[port.node.head or 0] if isinstance(node, LayerNode) else node

    def attention_with(self, port: Port) -> AttentionNode | LayerNode:
        """The same, with the heads that depend on it."""
        node = replace(port.node, span=None)
        active = self._nodes[self._together(node)[0] if self._depend_on_each_other(node) else node]
        assert not isinstance(active, MlpNode)  # only ports of attention are looked up
        return active

    def _together(self, node: Node) -> tuple[Sender, ...]:
        return activated_with(self._graph, self._base.model.config, replace(node, span=None))

    def _depend_on_each_other(self, node: Node) -> bool:
        """Whether a node is one of heads behind a norm over all of them."""
        return self._base.model.config.mixes_heads and node.kind != "mlp"

    def _edges_from(self, sender: Sender, kept: Bool[Tensor, "span _sender _receiver"]) -> Edges:
        out = kept[:, self._graph.whole.row(sender)]  # [span receiver]
        columns = out.any(dim=0).nonzero().flatten().tolist()
        return {column: (out[:, column], self.positions[column]) for column in columns}

    def _mlp(self, node: Sender, edges: Edges, needed: Int[Tensor, "place"]) -> MlpNode:
        assert node.layer is not None
        column = self._graph.whole.column(Port(node))
        self.positions[column] = needed
        read = self._base.read(node, Site(node.layer, "mlp"))[:, needed]
        return MlpNode(self._base.model, node.layer, column, _consumers(edges, needed), read)

    def _attention(self, node: Sender, edges: Edges, needed: Int[Tensor, "place"]) -> AttentionNode:
        assert node.layer is not None
        ports = self._ports(node, needed)
        for port in ports:
            self.positions[port.column] = port.positions
        return AttentionNode(
            self._base.model,
            node.layer,
            heads_of(node),
            ports=ports,
            consumers=_consumers(edges, needed),
            queries=needed,
            base={slot: self._base.read(node, Site(node.layer, slot)) for slot in SLOTS},
            where=self._prompt_positions,
        )

    def _ports(self, node: Sender, needed: Int[Tensor, "place"]) -> tuple[HeadPort, ...]:
        """The ports of a node whose output is needed at some positions."""
        causal, n_positions = self._base.model.config.causal, self._base.final.shape[1]
        last = int(needed.max()) + 1 if causal else n_positions
        keys = torch.arange(min(self._first, last - 1), last, device=needed.device)
        if not self._graph.split_qkv:
            both = torch.cat([needed, keys]).unique()
            return (HeadPort(self._graph.whole.column(Port(node)), SLOTS, both),)
        return tuple(
            HeadPort(self._column_of(node, slot), (slot,), needed if slot == "q" else keys)
            for slot in SLOTS
        )

    def _column_of(self, node: Node, slot: Slot) -> int:
        """The port at which a head, or its key/value head, reads."""
        columns, heads = self._graph.columns(Site(node.layer, slot)), self._graph.n_heads
        if node.head is None:
            return columns.start
        return columns.start + node.head * (columns.stop - columns.start) // heads


def _consumers(edges: Edges, needed: Int[Tensor, "place"]) -> tuple[Consumer, ...]:
    return tuple(
        Consumer.of(column, positions, needed=needed, kept=kept.tolist())
        for column, (kept, positions) in edges.items()
    )


def heads_of(node: Node) -> slice:
    """Which of a layer's heads an attention node is: one, or all."""
    return slice(None) if node.head is None else slice(node.head, node.head + 1)
