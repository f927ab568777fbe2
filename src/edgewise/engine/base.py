"""Where removals begin: the full model or a circuit, run once, and what every port read."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.graph import Graph, Node, Site
from edgewise.model import Model
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import CleanReader, Reader, Vectors, run
from edgewise.model.sent import Sent
from edgewise.patching import Batch, CircuitReader


class _Remembering:
    """Another reader, and what every site read: one input for all of its ports, or one for each."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.at: dict[Site, Float[Tensor, "_port batch pos d_model"]] = {}

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "_port batch pos d_model"]:
        self.at[site] = self._reader.read(outputs, site)
        return self.at[site]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        return self._reader.vector(site, fresh)


@dataclass(frozen=True, eq=False)
class Base:
    """A micro-batch before any removal: what the output port read, and all that was sent."""

    circuit: Circuit | None  # None: the full model
    full: Float[Tensor, "batch pos d_model"]  # what the full model's output port reads
    final: Float[Tensor, "batch pos d_model"]  # what this one's reads
    sent: Sent
    _read: dict[Site, Float[Tensor, "_ batch pos d_model"]]

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
        reader = _Remembering(CleanReader())
        full, outputs = run(model, tokens, real, graph, reader)
        if circuit is None:
            return cls(None, full, full, outputs.sent, reader.at)
        reader = _Remembering(CircuitReader(circuit, batch.reference, model.dtype, model.device))
        final, outputs = run(model, tokens, real, graph, reader)
        return cls(circuit, full, final, outputs.sent, reader.at)

    def read(self, node: Node, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """What a node's ports of a site read."""
        inputs = self._read[site]
        return inputs[0] if len(inputs) == 1 or node.head is None else inputs[node.head]

    def lacks_switch(self, column: int) -> bool:
        """Whether a port has a switch that is not kept."""
        if self.circuit is None:
            return False
        graph = self.circuit.graph
        return bool((graph.is_switch & ~self.circuit.keep)[:, column].any())
