"""Where removals begin: the full model or a circuit, run once, and what every port read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.graph import Graph, Node, Port, Sender, Site
from edgewise.model import Model
from edgewise.model.attention import Vectors
from edgewise.model.config import ModelConfig
from edgewise.model.outputs import Outputs, SenderOutputs
from edgewise.model.runtime import CleanReader, Reader, run
from edgewise.patching import Batch, CircuitReader


def activated_with(graph: Graph, config: ModelConfig, node: Node) -> tuple[Sender, ...]:
    """Nodes that must be activated together with `node`, itself among them, at all positions.

    Heads that share keys and values read these at the same positions; behind a norm over all heads
    of a layer, what one of them reads changes what all others write.
    """
    graph, layer = graph.whole, node.layer
    if layer is None or node.kind == "mlp":
        return graph.group(node)
    if config.mixes_heads:
        return graph.attention_nodes(layer)
    if graph.kv_heads is None:
        return graph.group(node)
    assert node.head is not None  # only heads share keys and values
    size = 1 if node.kind == "kv" else graph.n_heads // graph.kv_heads
    return graph.group(graph.kv_nodes(layer)[node.head // size])


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
        own = CircuitReader(circuit, batch.ablation, batch.pairs, model.dtype, model.device)
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
