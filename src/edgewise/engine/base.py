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


def made_together(graph: Graph, config: ModelConfig, node: Node) -> tuple[Sender, ...]:
    """The nodes that are made live with a node, positions together, itself among them.

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


class _Remembering:
    """Another reader, and what the nodes that matter read: by site, and node if theirs differ."""

    def __init__(self, reader: Reader, circuit: Circuit | None, config: ModelConfig) -> None:
        self._reader = reader
        self.at: dict[Site | tuple[Site, int], Float[Tensor, "batch pos d_model"]] = {}
        self._heads: dict[int | None, set[int]] = {}  # by layer, those made live by a kept edge
        if circuit is not None:
            graph, fed = circuit.graph, circuit.keep.any(dim=0).tolist()
            for port, is_fed in zip(graph.receivers, fed, strict=True):
                for node in made_together(graph, config, port.node) if is_fed else ():
                    if node.head is not None:
                        self._heads.setdefault(node.layer, set()).add(node.head)
            self._n_heads = graph.n_heads

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "_port batch pos d_model"]:
        found = self._reader.read(outputs, site)
        if len(found) == 1:
            self.at[site] = found[0]
        else:  # a stream for each head: copies, so that those of the others are freed
            each = self._n_heads // len(found)  # heads that share a port
            for head in self._heads.get(site.layer, ()):
                self.at[site, head] = found[head // each].clone()
        return found

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        return self._reader.vector(site, fresh)


@dataclass(frozen=True, eq=False)
class Base:
    """A micro-batch before any removal: what the output port read, and all that senders wrote."""

    circuit: Circuit | None  # None: the full model
    full: Float[Tensor, "batch pos d_model"]  # what the full model's output port reads
    final: Float[Tensor, "batch pos d_model"]  # what this one's reads
    senders: SenderOutputs
    _read: dict[Site | tuple[Site, int], Float[Tensor, "batch pos d_model"]]

    @classmethod
    def of(
        cls,
        model: Model,
        graph: Graph,
        batch: Batch,
        real: Bool[Tensor, "batch pos"],
        circuit: Circuit | None,
    ) -> Base:
        """Run it: the full model, and the circuit if there is one."""
        tokens = batch.pairs.clean.to(model.device)
        reader = _Remembering(CleanReader(), None, model.config)
        full, outputs = run(model, tokens, real, graph=graph, reader=reader)
        if circuit is None:
            return cls(None, full, full, outputs.senders, reader.at)
        own = CircuitReader(circuit, batch.ablation, batch.pairs, model.dtype, model.device)
        reader = _Remembering(own, circuit, model.config)
        final, outputs = run(model, tokens, real, graph=graph, reader=reader)
        return cls(circuit, full, final, outputs.senders, reader.at)

    def read(self, node: Node, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """What a node's port of a site reads; of the circuit's nodes, those that an edge feeds."""
        if node.head is not None and (site, node.head) in self._read:
            return self._read[site, node.head]
        return self._read[site]

    def without_switch(self, node: Node) -> Iterator[Port]:
        """The ports of a node, at each span, whose switch is not kept."""
        if self.circuit is None or not self.circuit.graph.switches:
            return
        graph = self.circuit.graph
        lacking = (graph.is_switch & ~self.circuit.keep).any(dim=0).tolist()
        for port, lacks in zip(graph.receivers, lacking, strict=True):
            if lacks and replace(port.node, span=None) == node:
                yield port
