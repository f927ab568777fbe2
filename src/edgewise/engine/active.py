"""Where removals begin, and the nodes of a micro-batch that are active so far.

The start is the full model or a circuit, run once, with what every port read. From the output
backwards nodes become active: kept at their current value where a kept consumer sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.attention_nodes import AttentionNode
from edgewise.engine.heads import Head, HeadPort
from edgewise.engine.plans import Change, Consumer, Sizes
from edgewise.graph import SLOTS, Graph, Node, Port, Sender, Site, Slot
from edgewise.model import Model
from edgewise.model.blocks import Vectors
from edgewise.model.config import ModelConfig
from edgewise.model.outputs import Outputs, SenderOutputs
from edgewise.model.positions import PromptPositions
from edgewise.model.runtime import CleanReader, Reader, run
from edgewise.patching import Batch, CircuitReader

# The spans at which an edge is kept, and the positions that its receiver reads, by its column.
Edges = Mapping[int, tuple[Bool[Tensor, "span"], Int[Tensor, "_place"]]]
# Hidden layers of more rows leave a CPU's caches, in memory fresh each time: half the speed.
_ROWS_AT_A_TIME = {"cpu": 512}


def activated_with(graph: Graph, config: ModelConfig, node: Node) -> tuple[Sender, ...]:
    """Nodes that must be activated together with `node`, itself among them, at all positions.

    Heads that share keys and values read these at the same positions; behind a norm over all heads
    of a layer, what one of them reads changes what all others write.
    """
    graph, layer = graph.whole, node.layer
    if layer is None or node.kind == "mlp":
        return graph.group(node)
    if config.mixes_heads:
        return graph.attention_nodes[layer]
    if graph.kv_heads is None:
        return graph.group(node)
    assert node.head is not None  # only heads share keys and values
    size = 1 if node.kind == "kv" else graph.n_heads // graph.kv_heads
    return graph.group(graph.kv_nodes[layer][node.head // size])


class _InputRecorder:
    """Another reader, and a record of what nodes read: by site, and by head where heads differ."""

    def __init__(self, reader: Reader, circuit: Circuit | None, config: ModelConfig) -> None:
        self._reader = reader
        self.inputs: dict[Site | tuple[Site, int], Float[Tensor, "batch pos d_model"]] = {}
        self._heads: dict[int | None, set[int]] = {}  # by layer, those that a kept edge activates
        if circuit is not None:
            graph, fed = circuit.graph, circuit.keep.any(dim=0).tolist()
            for port, is_fed in zip(graph.receivers, fed, strict=True):
                for node in activated_with(graph, config, port.node) if is_fed else ():
                    if node.head is not None:
                        self._heads.setdefault(node.layer, set()).add(node.head)
            self._n_heads = graph.n_heads

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "_port batch pos d_model"]:
        inputs = self._reader.read(outputs, site)
        if len(inputs) == 1:
            self.inputs[site] = inputs[0]
        else:  # a stream for each head: copies, so that those of the others are freed
            heads_per_port = self._n_heads // len(inputs)
            for head in self._heads.get(site.layer, ()):
                self.inputs[site, head] = inputs[head // heads_per_port].clone()
        return inputs

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        return self._reader.vector(site, fresh)


@dataclass(frozen=True, eq=False)
class Base:
    """A micro-batch before any removal: what the ports read, and what all senders wrote."""

    model: Model
    graph: Graph
    circuit: Circuit | None  # None: the full model
    full: Float[Tensor, "batch pos d_model"]  # what the full model's output port reads
    final: Float[Tensor, "batch pos d_model"]  # what this one's reads
    sender_outputs: SenderOutputs
    _inputs: dict[Site | tuple[Site, int], Float[Tensor, "batch pos d_model"]]

    @classmethod
    def of(
        cls,
        model: Model,
        graph: Graph,
        batch: Batch,
        *,
        real: Bool[Tensor, "batch pos"],
        circuit: Circuit | None,
    ) -> Base:
        """Run it: the full model, and the circuit if there is one."""
        tokens = batch.pairs.clean.to(model.device)
        reader = _InputRecorder(CleanReader(), None, model.config)
        full, outputs = run(model, tokens, real, graph=graph, reader=reader)
        if circuit is None:
            return cls(model, graph, None, full, full, outputs.senders, reader.inputs)
        own = CircuitReader(circuit, batch.ablation, batch.pairs, model.compute_dtype, model.device)
        reader = _InputRecorder(own, circuit, model.config)
        final, outputs = run(model, tokens, real, graph=graph, reader=reader)
        return cls(model, graph, circuit, full, final, outputs.senders, reader.inputs)

    def read(self, node: Node, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """What a node's port of a site reads; of the circuit's nodes, those that an edge feeds."""
        if node.head is not None and (site, node.head) in self._inputs:
            return self._inputs[site, node.head]
        return self._inputs[site]

    def without_switch(self, node: Node) -> Iterator[Port]:
        """The ports of a node, at each span, whose switch is not kept."""
        if self.circuit is None or not self.graph.switches:
            return
        lacking = (self.graph.is_switch & ~self.circuit.keep).any(dim=0).tolist()
        for port, lacks in zip(self.graph.receivers, lacking, strict=True):
            if lacks and replace(port.node, span=None) == node:
                yield port


class MlpNode:
    """An MLP at the positions that matter. It is the only one of its layer: a stack of one."""

    def __init__(
        self,
        model: Model,
        layer: int,
        column: int,
        consumers: tuple[Consumer, ...],
        read: Float[Tensor, "batch place d_model"],
    ) -> None:
        self._block = model.blocks[layer]
        self.columns, self.consumers = ((column,),), (consumers,)
        self.like = ("mlp", layer, ())
        self._read, self._wrote = read, self._block.mlp(read)

    def stacked(self, nodes: Sequence[MlpNode], changed: Mapping[int, tuple[int, ...]]) -> MlpNode:
        """The node itself."""
        return self

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        return Sizes(result=self._read[0].numel(), passing=self._read[0].numel())

    def change(self, more: Mapping[int, Change]) -> Change:
        """How the output changes when the port reads `more`; the node stays as it is."""
        (change,) = more[0]
        result = torch.empty_like(change)
        rows = change.shape[1] * change.shape[2]
        step = max(1, _ROWS_AT_A_TIME.get(change.device.type, change.numel()) // rows)
        for part, out in zip(change.split(step), result.split(step), strict=True):
            x = self._read + part
            flat = self._block.mlp(x.flatten(0, 1))
            out.copy_(flat.unflatten(0, x.shape[:2]) - self._wrote)
        return result[None]

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the node's current value."""
        self._read = self._read + more[0][0, 0]
        wrote = self._block.mlp(self._read)
        change, self._wrote = wrote - self._wrote, wrote
        return change[None, None]


class ActiveNodes:
    """Nodes, all positions together, activated from the output backwards."""

    def __init__(self, base: Base, positions: PromptPositions, first: int) -> None:
        """`first`: the first position at which anything can change."""
        self._base, self._graph = base, base.graph
        self._prompt_positions, self._first = positions, first
        self.positions: dict[int, Int[Tensor, "place"]] = {}  # by port
        # Backwards. Heads that depend on each other are one, by the first of them.
        self._nodes: dict[Node, AttentionNode | MlpNode] = {}

    def __iter__(self) -> Iterator[AttentionNode | MlpNode]:
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
            heads = [self._head(member, out, needed) for member, out in edges.items()]
            self._nodes[together[0]] = AttentionNode(heads)
            return together
        activated = tuple(member for member, out in edges.items() if out)
        for member in activated:
            self._nodes[member] = (
                self._mlp(member, edges[member], needed)
                if node.kind == "mlp"
                else AttentionNode([self._head(member, edges[member], needed)])
            )
        return activated

    def attention(self, port: Port) -> tuple[AttentionNode, Head]:
        """The attention node that a port belongs to, and its head in it."""
        node, at = replace(port.node, span=None), 0
        if self._depend_on_each_other(node):
            node, at = self._together(node)[0], port.node.head or 0
        active = self._nodes[node]
        assert isinstance(active, AttentionNode)  # only ports of attention are looked up
        return active, active.heads[at]

    def _together(self, node: Node) -> tuple[Sender, ...]:
        return activated_with(self._graph, self._base.model.config, replace(node, span=None))

    def _depend_on_each_other(self, node: Node) -> bool:
        """Whether a node is one of heads behind a norm over all of them."""
        return self._base.model.config.mixes_heads and node.kind != "mlp"

    def _edges_from(self, sender: Sender, kept: Bool[Tensor, "span _sender _receiver"]) -> Edges:
        out = kept[:, self._graph.whole.row[sender]]  # [span receiver]
        columns = out.any(dim=0).nonzero().flatten().tolist()
        return {column: (out[:, column], self.positions[column]) for column in columns}

    def _mlp(self, node: Sender, edges: Edges, needed: Int[Tensor, "place"]) -> MlpNode:
        assert node.layer is not None
        column = self._graph.whole.column[Port(node)]
        self.positions[column] = needed
        read = self._base.read(node, Site(node.layer, "mlp"))[:, needed]
        return MlpNode(self._base.model, node.layer, column, _consumers(edges, needed), read)

    def _head(self, node: Sender, edges: Edges, needed: Int[Tensor, "place"]) -> Head:
        assert node.layer is not None
        ports = self._ports(node, needed)
        for port in ports:
            self.positions[port.column] = port.positions
        return Head(
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
            return (HeadPort(self._graph.whole.column[Port(node)], SLOTS, both),)
        return tuple(
            HeadPort(self._column_of(node, slot), (slot,), needed if slot == "q" else keys)
            for slot in SLOTS
        )

    def _column_of(self, node: Node, slot: Slot) -> int:
        """The port at which a head, or its key/value head, reads."""
        columns, heads = self._graph.columns[Site(node.layer, slot)], self._graph.n_heads
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
