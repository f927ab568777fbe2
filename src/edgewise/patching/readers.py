"""The readers that make a circuit run out of a model run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.graph import SLOTS, Site
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, Part, SenderOutputs
from edgewise.model.runtime import Reader


@dataclass(frozen=True, eq=False)
class AblatedValues:
    """What removed edges carry on one batch.

    `senders` has the graph's rows; its batch and pos may be 1, and None means zero. `vectors` are
    the q, k and v vectors that removed switches carry.
    """

    senders: SenderOutputs | None
    vectors: Mapping[Site, Vectors]


class CircuitReader:
    """What each port reads, by what it keeps or by what it lacks: whichever has fewer senders.

        input(r) = sum of ablations and constants + sum of live - ablation over kept s->r
                 = residual stream - sum of live - ablation over removed s->r

    The first two terms are the same for every port of a site, so one product does for all of them;
    the three sites of a layer's heads, which see the same senders, share it too. A site that has
    all its edges reads the plain residual stream, as in a clean run. Where the graph tells spans of
    positions apart, each span's edges count at its own positions.
    """

    def __init__(
        self,
        circuit: Circuit,
        ablation: AblatedValues,
        pairs: PromptPairs,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        graph = circuit.graph
        self._graph, self._device, self._dtype = graph, device, dtype
        self._ablation = ablation
        additive = graph.exists & ~graph.is_switch
        # On the CPU, so that asking them does not wait for a GPU.
        self._kept = graph.by_span(circuit.keep & additive)
        self._removed = graph.by_span(additive & ~circuit.keep)
        switches = graph.by_span(circuit.keep & graph.is_switch)
        self._switch_kept = switches.to(device).any(dim=1)  # [span receiver]
        spans = pairs.at_spans(graph.spans).to(device)
        self._at = None if graph.spans is None else spans  # [span batch pos]
        self._ready: dict[Site, Tensor] = {}  # what the other sites of a layer will read
        self._differences = _Differences(len(graph.whole.senders), ablation.senders)

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        if not self._removed[:, :, self._graph.columns[site]].any():
            return outputs.residual[None]
        if site not in self._ready:
            self._mix(outputs, site)
        return self._ready.pop(site)

    def _mix(self, outputs: Outputs, site: Site) -> None:
        """Make ready what a site reads, and the others that see the same senders."""
        together = _same_senders(site) if self._graph.split_qkv else (site,)
        columns = {s: self._graph.columns[s] for s in together}
        lacking = [s for s in together if self._removed[:, :, columns[s]].any()]
        kept, removed = (
            torch.cat([edges[:, :, columns[s]] for s in lacking], dim=2)
            for edges in (self._kept, self._removed)
        )
        self._differences.take(outputs)
        if removed.any(dim=2).sum() < kept.any(dim=2).sum():
            base, edges, sign = outputs.residual, removed, -1
        else:
            base, edges, sign = self._differences.ablation_stream(outputs), kept, 1
        total = self._sum(sign * edges, base, len(outputs.senders))
        parts = total.split([columns[s].stop - columns[s].start for s in lacking])
        self._ready = dict(zip(lacking, parts, strict=True))

    def _sum(
        self,
        signs: Int[Tensor, "span _ port"],
        base: Float[Tensor, "batch pos d_model"],
        written: int,
    ) -> Float[Tensor, "port batch pos d_model"]:
        """The base, and what differs of each sender, by its sign, at the positions of its span."""
        rows = signs.any(dim=2).any(dim=0).nonzero().flatten().tolist()
        if 2 * len(rows) > written:  # nearly all: a slice is quicker than some rows
            rows = list(range(written))
        shape = (signs.shape[2], *base.shape)
        if not rows:
            return base.expand(shape)
        weights = signs[:, rows].mT.to(device=self._device, dtype=self._dtype)
        differences = self._differences.of(rows)
        if self._at is None:
            return (weights[0] @ differences.flatten(1)).view(shape).add_(base)
        total = base.repeat(shape[0], 1, 1, 1)
        for signs_at, at in zip(weights, self._at, strict=True):
            here = differences[:, at]  # [sender place d_model]
            total[:, at] += (signs_at @ here.flatten(1)).unflatten(1, here.shape[1:])
        return total

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        if not self._graph.switches:
            return fresh
        live = self._switch_kept[:, self._graph.columns[site]].T[:, :, None, None]
        if self._at is not None:
            live = (live & self._at).any(dim=1, keepdim=True)
        return torch.where(live[:, 0, :, :, None], fresh, self._ablation.vectors[site])


class _Differences:
    """live - ablation of the senders that have written, made dense when first asked for."""

    def __init__(self, n_senders: int, ablation: SenderOutputs | None) -> None:
        self._n_senders, self._ablation = n_senders, ablation
        self._parts: list[Part] = []
        self._total: Tensor | None = None  # the sum of ablations so far
        self._dense: Tensor | None = None  # [sender batch pos d_model], where filled
        self._filled: set[int] = set()

    def take(self, outputs: Outputs) -> None:
        """Note what has been written since the last time."""
        new = slice(len(self._parts), len(outputs.parts))
        live = SenderOutputs(outputs.parts[new])
        if not len(live):
            return
        known = None if self._ablation is None else SenderOutputs(self._ablation.parts[new])
        self._parts += live.minus(known).parts
        if known is not None:
            total = known.total(range(len(known)))
            self._total = total if self._total is None else self._total + total

    def ablation_stream(self, outputs: Outputs) -> Float[Tensor, "_batch _pos d_model"]:
        """What a port without edges reads: ablations and constants; zero if there are none."""
        terms = [term for term in (self._total, outputs.constant) if term is not None]
        result = torch.zeros_like(outputs.residual)
        for term in terms:
            result += term
        return result

    def of(self, rows: list[int]) -> Float[Tensor, "row batch pos d_model"]:
        """The differences of these senders."""
        new = [row for row in rows if row not in self._filled]
        if new:
            outputs, embeddings = SenderOutputs(self._parts), self._parts[0]
            assert isinstance(embeddings, Tensor)  # only heads are kept before a projection
            if self._dense is None:
                self._dense = embeddings.new_empty(self._n_senders, *embeddings.shape[1:])
            for start, stop in _runs(new):
                outputs.into(self._dense[start:stop], range(start, stop))
            self._filled.update(new)
        assert self._dense is not None  # rows are never none
        if rows == list(range(len(rows))):
            return self._dense[: len(rows)]
        return self._dense[rows]


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges: first, and one past the last."""
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield rows[start], rows[i - 1] + 1
            start = i


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
