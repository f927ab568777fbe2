"""The readers that make a circuit run out of a model run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.graph import Site
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import Reader, Vectors


@dataclass(frozen=True, eq=False)
class ReferenceValues:
    """What removed edges carry on one batch.

    `senders` has the graph's rows; its batch and pos may be 1, and None means zero. `vectors` are
    the q, k and v vectors that removed switches carry.
    """

    senders: Float[Tensor, "sender _batch _pos d_model"] | None
    vectors: Mapping[Site, Vectors]


class CircuitReader:
    """input(r) = constants + sum over kept s->r of live(s) + sum over removed s->r of reference(s).

    Kept and removed parts are summed apart, so nothing is added only to be subtracted again.
    """

    def __init__(
        self,
        circuit: Circuit,
        reference: ReferenceValues,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._graph = circuit.graph
        self._reference = reference
        keep, exists = circuit.keep.to(device), circuit.graph.exists.to(device)
        self._kept = keep.to(dtype)
        self._removed = (exists & ~keep).to(dtype)
        # On the CPU, so that asking it does not wait for a GPU.
        self._some_removed = (circuit.graph.exists & ~circuit.keep).any(dim=0)
        self._switch_kept = (keep & circuit.graph.is_switch.to(device)).any(dim=0)

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        columns, live = self._graph.columns(site), outputs.senders
        rows = slice(0, len(live))  # senders that have not written yet send nothing here
        total = _weighted(self._kept[rows, columns], live)
        if self._reference.senders is not None and self._some_removed[columns].any():
            total = total + _weighted(self._removed[rows, columns], self._reference.senders[rows])
        return total if outputs.constant is None else total + outputs.constant

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        if not self._graph.switches:
            return fresh
        live = self._switch_kept[self._graph.columns(site)]
        return torch.where(live[:, None, None, None], fresh, self._reference.vectors[site])


class RecordingReader:
    """Another reader, and a record of the q, k and v vectors that come by."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.vectors: dict[Site, Tensor] = {}

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "_port batch pos d_model"]:
        return self._reader.read(outputs, site)

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        self.vectors[site] = fresh
        return fresh


def _weighted(
    weights: Float[Tensor, "sender port"], values: Float[Tensor, "sender batch pos d_model"]
) -> Float[Tensor, "port batch pos d_model"]:
    return (weights.T @ values.flatten(1)).unflatten(1, values.shape[1:])
