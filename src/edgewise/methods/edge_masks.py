"""A run with a mask on every edge, made so that a training step costs little.

    input(r) = constants + sum over s of ablated(s)
                         + sum over s of m(s, r) (live(s) - ablated(s))

The ablation's sum is the same in every step and computed once per site. What is left is one
product per layer for all its q, k and v ports, [port sender] @ [sender (batch pos d_model)], and
two of the same size on the way back. Differences are written to one buffer, and their gradients
add up in another: autograd would keep a copy of all senders for every site. A token that goes from
each write to the next and to the reads between them tells autograd that the gradient of what was
written is complete only after everybody who may read it has been through.

A mask on a switch mixes the vector itself with the ablation's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from edgewise.graph import SLOTS, Edge, Graph, Site
from edgewise.methods.gradients import MethodRun
from edgewise.methods.masking import Masking
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, Part, SenderOutputs
from edgewise.patching import Batch
from edgewise.problem import Problem

AblationSums = dict[int, Tensor]  # of a site, by how many senders it may read
# The positions of each span, in batch and pos as one; None for all of them.
Positions = list[Tensor | None]


class EdgeMasking(Masking):
    """One mask per edge, in the order of the rows of `graph.exists`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._graph = problem.graph
        self._exists = problem.graph.exists.to(problem.model.device)
        self._edges = problem.graph.exists.nonzero().tolist()
        self.n_masks = len(self._edges)

    @cached_property
    def _sums(self) -> list[AblationSums]:
        return [
            _ablation_sums(self._graph, batch.ablation.senders) for batch in self._evaluator.batches
        ]

    def on_batch(self, number: int, masks: Float[Tensor, "mask"]) -> EdgeMaskedRun:
        """A run of a micro-batch with these masks, not yet made."""
        matrix = self.matrix(masks.to(self.problem.model.compute_dtype))
        batch = self._evaluator.batches[number]
        return EdgeMaskedRun(self._graph, matrix, batch, sums=self._sums[number])

    def matrix(self, masks: Shaped[Tensor, "mask"]) -> Shaped[Tensor, "sender receiver"]:
        """Masks, or anything that there is one of per mask, where their edges are; 0 elsewhere."""
        empty = masks.new_zeros(self._exists.shape)
        return empty.masked_scatter(self._exists.to(masks.device), masks)

    def name(self, mask: int) -> str:
        """The edge of a mask."""
        row, column = self._edges[mask]
        return Edge(self._graph.senders[row], self._graph.receivers[column]).name


class EdgeMaskedRun(MethodRun):
    """Keeps live minus ablation of every sender; every port reads its own mixture of them."""

    def __init__(
        self,
        graph: Graph,
        matrix: Float[Tensor, "sender receiver"],
        batch: Batch,
        *,
        sums: AblationSums,
    ) -> None:
        super().__init__(graph)
        self._matrix = graph.by_span(matrix)
        self._ablation = batch.ablation
        self._sums = sums
        switches = graph.by_span(matrix * graph.is_switch.to(matrix.device)).sum(dim=1)
        spans = batch.pairs.at_spans(graph.spans).to(matrix.device)
        self._switches = switches.T  # [receiver span]
        self._spans = spans.to(matrix)
        self._positions: Positions = [None]
        if graph.spans is not None:
            self._positions = [at.flatten().nonzero().flatten() for at in spans]
        self._n_rows = self._n_parts = 0
        self._buffers = _Buffers()
        self._token = torch.zeros(())
        self._layer: dict[str, Tensor] = {}  # what the q, k and v ports of a layer read

    def append(self, part: Part) -> None:
        """Take the next senders: what they write less their ablation."""
        live = SenderOutputs([part])
        if self._ablation.senders is not None:
            live = live.minus(SenderOutputs([self._ablation.senders.parts[self._n_parts]]))
        value = live.dense()
        rows = slice(self._n_rows, self._n_rows + len(value))
        if self._buffers.values is None:
            n_senders = len(self.graph.whole.senders)
            self._buffers.values = value.new_empty(n_senders, *value.shape[1:])
            self._token = value.new_zeros(())
        self._token = _written(value, self._token, self._buffers, rows)
        self._n_rows = rows.stop
        self._n_parts += 1

    def add_constant(self, bias: Float[Tensor, "d_model"]) -> None:
        """Add an output bias of attention, which is no sender's."""
        bias = bias.to(self._token.device)
        self.constant = bias if self.constant is None else self.constant + bias

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        """What every port of a site reads."""
        columns = self.graph.columns[site]
        if site.layer is None or site.what == "mlp":
            return self._inputs(columns)
        if site.what == "q":  # the first of the three: one product for them all
            sites = [self.graph.columns[Site(site.layer, slot)] for slot in SLOTS]
            start = columns.start
            together = self._inputs(slice(start, sites[-1].stop))
            parts = [together[at.start - start : at.stop - start] for at in sites]
            self._layer = dict(zip(SLOTS, parts, strict=True))
        return self._layer[site.what]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        """The vectors as far as their switches are on, else the ablation's."""
        if not self.graph.switches:
            return fresh
        masks = self._switches[self.graph.columns[site]]
        masks = torch.einsum("hs,sbp->hbp", masks, self._spans)[..., None]
        return masks * fresh + (1 - masks) * self._ablation.vectors[site]

    def _inputs(self, columns: slice) -> Float[Tensor, "port batch pos d_model"]:
        weights = self._matrix[:, : self._n_rows, columns]
        base = self._sums.get(self._n_rows)
        if self.constant is not None:
            base = self.constant if base is None else base + self.constant
        return _read(weights, self._token, self._buffers, base, self._positions)


class _Buffers:
    """What was written, and the gradients that have come back to it so far."""

    def __init__(self) -> None:
        self.values: Tensor | None = None  # [sender batch pos d_model]
        self.gradients: Tensor | None = None


class _Write(torch.autograd.Function):
    """Put values into the buffer; their gradient is what readers left there."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, token: Tensor, buffers: _Buffers, rows: slice) -> Tensor:
        assert buffers.values is not None
        buffers.values[rows] = value
        ctx.buffers = buffers
        ctx.rows = rows
        return token.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_values = ctx.buffers.gradients
        assert to_values is not None  # the output port reads every sender
        return to_values[ctx.rows], gradients[0], None, None


class _Read(torch.autograd.Function):
    """The mixture that each port reads of what has been written; `weights` [span sender port]."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        token: Tensor,
        buffers: _Buffers,
        base: Tensor | None,
        positions: Positions,
    ) -> Tensor:
        assert buffers.values is not None
        ctx.save_for_backward(weights)
        ctx.buffers = buffers
        ctx.positions = positions
        values = buffers.values[: weights.shape[1]]
        start = values.new_zeros(()) if base is None else base
        if positions[0] is None:  # one product that begins with the base, and no copy of it
            start = start.expand(values.shape[1:]).reshape(1, -1)
            out = torch.addmm(start, weights[0].T, values.flatten(1))
            return out.unflatten(1, values.shape[1:])
        out = start.expand(weights.shape[2], *values.shape[1:]).clone()
        _add_product(out, weights.mT, values, positions)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        buffers = ctx.buffers
        positions = ctx.positions
        if buffers.gradients is None:
            buffers.gradients = torch.zeros_like(buffers.values)
        gradient, n = gradients[0], weights.shape[1]
        pairs = zip(_at(buffers.values[:n], positions), _at(gradient, positions), strict=True)
        to_weights = torch.stack([values @ back.T for values, back in pairs])
        _add_product(buffers.gradients[:n], weights, gradient, positions)
        return to_weights, gradient.new_zeros(()), None, None, None


# `apply` has no types of its own.
_written: Callable[[Tensor, Tensor, _Buffers, slice], Tensor] = _Write.apply
_read: Callable[[Tensor, Tensor, _Buffers, Tensor | None, Positions], Tensor] = _Read.apply


def _at(x: Tensor, positions: Positions) -> Iterator[Tensor]:
    """[row batch pos d_model] at the positions of each span: [row (place d_model)]."""
    for at in positions:
        yield (x if at is None else x.flatten(1, 2)[:, at]).flatten(1)


def _add_product(out: Tensor, weights: Tensor, x: Tensor, positions: Positions) -> None:
    """Add weights @ x to `out`, at the positions of each span with its weights."""
    for at, mixture, part in zip(positions, weights, _at(x, positions), strict=True):
        if at is None:
            out.flatten(1).addmm_(mixture, part)
        else:
            out.flatten(1, 2)[:, at] += (mixture @ part).unflatten(1, (len(at), -1))


def _ablation_sums(graph: Graph, senders: SenderOutputs | None) -> AblationSums:
    """What each site would read if every edge into it carried its ablation, without constants."""
    if senders is None:
        return {}
    additive = graph.whole.exists & ~graph.whole.is_switch
    counts = sorted(set(additive.sum(dim=0).tolist()))  # a port may read the first so many
    return {n: senders.total(range(n)) for n in counts}
