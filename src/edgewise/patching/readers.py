"""The readers that make a circuit run out of a model run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.graph import SLOTS, Site
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import Reader, Vectors
from edgewise.model.sent import Sent


@dataclass(frozen=True, eq=False)
class ReferenceValues:
    """What removed edges carry on one batch.

    `senders` has the graph's rows; its batch and pos may be 1, and None means zero. `vectors` are
    the q, k and v vectors that removed switches carry.
    """

    senders: Sent | None
    vectors: Mapping[Site, Vectors]


class CircuitReader:
    """input(r) = constants + sum of reference(s) over s->r, and of live - reference over kept s->r.

    The first sum is the same for every port of a site, so one product does for all of them; the
    three sites of a layer's heads, which see the same senders, share it too. A site that has all
    its edges reads the plain residual stream, as in a clean run.
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
        additive = circuit.graph.exists & ~circuit.graph.is_switch
        self._kept = (circuit.keep & additive).to(device=device, dtype=dtype)
        # On the CPU, so that asking it does not wait for a GPU.
        self._some_removed = (additive & ~circuit.keep).any(dim=0)
        switches = circuit.keep & circuit.graph.is_switch
        self._switch_kept = switches.to(device).any(dim=0)
        self._ready: dict[Site, Tensor] = {}  # what the other sites of a layer will read
        self._differences: Tensor | None = None  # live - reference, [sender batch pos d_model]
        self._base: Tensor | None = None  # the sum of references so far
        self._n = 0  # senders in both, and
        self._n_parts = 0  # the parts they make up

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        if not self._some_removed[self._graph.columns(site)].any():
            return outputs.residual[None]
        if site not in self._ready:
            self._mix(outputs, site)
        return self._ready.pop(site)

    def _mix(self, outputs: Outputs, site: Site) -> None:
        """Make ready what a site reads, and the others that see the same senders."""
        together = _same_senders(site) if self._graph.split_qkv else (site,)
        wanted = [s for s in together if self._some_removed[self._graph.columns(s)].any()]
        columns = [self._graph.columns(s) for s in wanted]
        differences = self._up_to_now(outputs)
        weights = torch.cat([self._kept[: len(differences), c] for c in columns], dim=1)
        total = _weighted(weights, differences)
        for base in (self._base, outputs.constant):
            if base is not None:
                total += base
        parts = total.split([c.stop - c.start for c in columns])
        self._ready = dict(zip(wanted, parts, strict=True))

    def _up_to_now(self, outputs: Outputs) -> Float[Tensor, "sender batch pos d_model"]:
        """live - reference of the senders that have written, and their references' sum."""
        reference = self._reference.senders
        new_parts = slice(self._n_parts, len(outputs.parts))
        live = Sent(outputs.parts[new_parts])
        known = None if reference is None else Sent(reference.parts[new_parts])
        new = range(len(live))
        if new:
            if self._differences is None:
                embeddings = outputs.parts[0]
                assert isinstance(embeddings, Tensor)  # only heads are kept before a projection
                shape = (len(self._graph.senders), *embeddings.shape[1:])
                self._differences = embeddings.new_empty(shape)
            live.minus(known).into(self._differences[self._n : self._n + len(new)], new)
            if known is not None:
                total = known.total(new)
                self._base = total if self._base is None else self._base + total
            self._n, self._n_parts = self._n + len(new), len(outputs.parts)
        assert self._differences is not None  # embeddings are written before anything reads
        return self._differences[: self._n]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        if not self._graph.switches:
            return fresh
        live = self._switch_kept[self._graph.columns(site)]
        return torch.where(live[:, None, None, None], fresh, self._reference.vectors[site])


def _same_senders(site: Site) -> tuple[Site, ...]:
    """The sites that read at the same moment as this one, this one first."""
    if site.what not in SLOTS:
        return (site,)
    return (site, *(Site(site.layer, slot) for slot in SLOTS if slot != site.what))


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
