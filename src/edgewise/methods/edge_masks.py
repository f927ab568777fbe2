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

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from edgewise.graph import SLOTS, Edge, Graph, Site
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, Part, SenderOutputs
from edgewise.patching import AblatedValues
from edgewise.problem import Problem

# A site's ablation sum, by how many senders it hears.
Bases = dict[int, Tensor]


class EdgeMasking:
    """One mask per edge, in the order of the rows of `graph.exists`."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._graph = problem.graph
        self._exists = problem.graph.exists.to(problem.model.device)
        self._places = problem.graph.exists.nonzero().tolist()
        self.n_masks = len(self._places)

    @cached_property
    def _bases(self) -> list[Bases]:
        batches = self._problem.evaluator(self._graph).batches
        return [_ablation_sums(self._graph, batch.ablation.senders) for batch in batches]

    def at(self, batch: int, masks: Float[Tensor, "mask"]) -> tuple[EdgeMaskReader, Outputs]:
        """What runs micro-batch number `batch` with these masks."""
        chosen = self._problem.evaluator(self._graph).batches[batch]
        pairs, ablation = chosen.pairs, chosen.ablation
        matrix = self.matrix(masks.to(self._problem.model.dtype))
        outputs = Differences(self._graph, ablation)
        spans = pairs.at_spans(self._graph.spans).to(matrix.device)
        return EdgeMaskReader(outputs, matrix, self._bases[batch], ablation, spans), outputs

    def matrix(self, masks: Shaped[Tensor, "mask"]) -> Shaped[Tensor, "sender receiver"]:
        """Masks, or anything that there is one of per mask, where their edges are; 0 elsewhere."""
        empty = masks.new_zeros(self._exists.shape)
        return empty.masked_scatter(self._exists.to(masks.device), masks)

    def name(self, mask: int) -> str:
        """The edge of a mask."""
        row, column = self._places[mask]
        return Edge(self._graph.senders[row], self._graph.receivers[column]).name


class Differences(Outputs):
    """Live minus ablation of every sender written so far, in one buffer."""

    def __init__(self, graph: Graph, ablation: AblatedValues) -> None:
        super().__init__(graph)
        self._ablation, self.n_rows, self._n_parts = ablation.senders, 0, 0
        self.buffers, self.token = _Buffers(), torch.zeros(())

    def append(self, part: Part) -> None:
        """Take the next senders: what they write less their ablation."""
        live = SenderOutputs([part])
        if self._ablation is not None:
            live = live.minus(SenderOutputs([self._ablation.parts[self._n_parts]]))
        value = live.dense()
        rows = slice(self.n_rows, self.n_rows + len(value))
        if self.buffers.values is None:
            n_senders = len(self.graph.whole.senders)
            self.buffers.values = value.new_empty(n_senders, *value.shape[1:])
            self.token = value.new_zeros(())
        self.token = _written(value, self.token, self.buffers, rows)
        self.n_rows, self._n_parts = rows.stop, self._n_parts + 1

    def add_constant(self, bias: Float[Tensor, "d_model"]) -> None:
        """Add an output bias of attention, which is no sender's."""
        bias = bias.to(self.token.device)
        self.constant = bias if self.constant is None else self.constant + bias


class EdgeMaskReader:
    """Every port reads its own mixture of live and ablation values."""

    def __init__(
        self,
        outputs: Differences,
        matrix: Float[Tensor, "sender receiver"],
        bases: Bases,
        ablation: AblatedValues,
        spans: Bool[Tensor, "span batch pos"],
    ) -> None:
        self._outputs, self._bases, self._ablation = outputs, bases, ablation
        self._graph = graph = outputs.graph
        self._matrix = graph.by_span(matrix)
        switches = graph.by_span(matrix * graph.is_switch.to(matrix.device)).sum(dim=1)
        self._switches = switches.T  # [receiver span]
        self._spans = spans.to(matrix)
        self._places: list[Tensor] | None = None  # of each span, in batch and pos as one
        if graph.spans is not None:
            self._places = [at.flatten().nonzero().flatten() for at in spans]
        self._layer: dict[str, Tensor] = {}  # what the q, k and v ports of a layer read

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        columns = self._graph.columns[site]
        if site.layer is None or site.what == "mlp":
            return self._inputs(columns)
        if site.what == "q":  # the first of the three: one product for them all
            last = self._graph.columns[Site(site.layer, "v")]
            together = self._inputs(slice(columns.start, last.stop))
            sites = [self._graph.columns[Site(site.layer, slot)] for slot in SLOTS]
            start = columns.start
            parts = [together[at.start - start : at.stop - start] for at in sites]
            self._layer = dict(zip(SLOTS, parts, strict=True))
        return self._layer[site.what]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        if not self._graph.switches:
            return fresh
        masks = self._switches[self._graph.columns[site]]
        if self._places is not None:
            masks = torch.einsum("hs,sbp->hbp", masks, self._spans)[..., None]
        else:
            masks = masks[:, 0, None, None, None]
        return masks * fresh + (1 - masks) * self._ablation.vectors[site]

    def _inputs(self, columns: slice) -> Float[Tensor, "port batch pos d_model"]:
        written = self._outputs
        weights = self._matrix[:, : written.n_rows, columns]
        base = self._bases.get(written.n_rows)
        if written.constant is not None:
            base = written.constant if base is None else base + written.constant
        return _read(weights, written.token, written.buffers, base, self._places)


class _Buffers:
    """What was written, and the gradients that have come back to it so far."""

    def __init__(self) -> None:
        self.values: Tensor | None = None  # [sender batch pos d_model]
        self.gradients: Tensor | None = None


class _Write(torch.autograd.Function):
    """Put values into the buffer; their gradient is what readers left there."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        token: Tensor,
        buffers: _Buffers,
        rows: slice,
    ) -> Tensor:
        assert buffers.values is not None
        buffers.values[rows] = value
        ctx.buffers, ctx.rows = buffers, rows
        return token.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_values = ctx.buffers.gradients
        assert to_values is not None  # the output port reads every sender
        return to_values[ctx.rows], gradients[0], None, None


class _Read(torch.autograd.Function):
    """The mixture that each port reads of what has been written."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        token: Tensor,
        buffers: _Buffers,
        base: Tensor | None,
        places: list[Tensor] | None,
    ) -> Tensor:
        """`weights` [span sender port]; `places` of each span, None if there is but one."""
        assert buffers.values is not None
        ctx.save_for_backward(weights)
        ctx.buffers, ctx.places = buffers, places
        values = buffers.values[: weights.shape[1]]
        flat, shape = values.flatten(1), values.shape[1:]
        if places is not None:
            out = values.new_zeros(weights.shape[2], *shape)
            if base is not None:
                out += base
            here = out.flatten(1, 2)
            for mixture, at in zip(weights, places, strict=True):
                part = values.flatten(1, 2)[:, at]
                here[:, at] += (mixture.T @ part.flatten(1)).unflatten(1, part.shape[1:])
            return out
        if base is None:
            return (weights[0].T @ flat).unflatten(1, shape)
        start = base.expand(shape).reshape(1, -1)
        return torch.addmm(start, weights[0].T, flat).unflatten(1, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weights,), buffers, places = ctx.saved_tensors, ctx.buffers, ctx.places
        if buffers.gradients is None:
            buffers.gradients = torch.zeros_like(buffers.values)
        gradient, n = gradients[0], weights.shape[1]
        values, to_values = buffers.values[:n], buffers.gradients[:n]
        if places is None:
            flat = gradient.flatten(1)
            to_weights = (values.flatten(1) @ flat.T)[None]
            to_values.flatten(1).addmm_(weights[0], flat)
        else:
            to_weights = torch.zeros_like(weights)
            for mixture, at, out in zip(weights, places, to_weights, strict=True):
                part = gradient.flatten(1, 2)[:, at]
                torch.mm(values.flatten(1, 2)[:, at].flatten(1), part.flatten(1).T, out=out)
                back = (mixture @ part.flatten(1)).unflatten(1, part.shape[1:])
                to_values.flatten(1, 2)[:, at] += back
        return to_weights, gradient.new_zeros(()), None, None, None


# `apply` has no types of its own.
_written: Callable[[Tensor, Tensor, _Buffers, slice], Tensor] = _Write.apply
_read: Callable[[Tensor, Tensor, _Buffers, Tensor | None, list[Tensor] | None], Tensor] = (
    _Read.apply
)


def _ablation_sums(graph: Graph, senders: SenderOutputs | None) -> Bases:
    """What each site would read if every edge into it carried its ablation, without constants."""
    if senders is None:
        return {}
    additive = graph.whole.exists & ~graph.whole.is_switch
    counts = sorted(set(additive.sum(dim=0).tolist()))  # whom a port hears is the first so many
    return {n: senders.total(range(n)) for n in counts}
