"""What the senders of a run wrote: the residual stream, taken apart.

Heads are kept before their output projection (d_head numbers each, not d_model) and projected one
by one only where single senders are read, so a run that reads the plain residual stream costs no
more than an ordinary forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.graph import Graph


@dataclass(frozen=True, eq=False)
class Heads:
    """What a layer's heads wrote: z times weight, a sender each or all of them one sender.

    The product is made where the weight lies, and comes back to where z is.
    """

    z: Float[Tensor, "head batch pos d_head"]
    weight: Float[Tensor, "head d_head d_model"]
    apart: bool

    def __len__(self) -> int:
        return len(self.z) if self.apart else 1

    def dense(self) -> Float[Tensor, "sender batch pos d_model"]:
        """Every sender, in the size it has on the stream."""
        if not self.apart:
            return self.sum()[None]
        z = self.z.to(self.weight.device).flatten(1, 2)
        return (z @ self.weight.to(z.dtype)).unflatten(1, self.z.shape[1:3]).to(self.z.device)

    def sum(self, dim: int = 0) -> Float[Tensor, "batch pos d_model"]:
        """The sum of the senders, in one product."""
        return mixed_heads(self.z.to(self.weight.device), self.weight).to(self.z.device)

    def __getitem__(self, rows: slice | list[int]) -> Heads:
        """The senders of these rows."""
        return replace(self, z=self.z[rows], weight=self.weight[rows]) if self.apart else self


def mixed_heads(
    z: Float[Tensor, "head batch pos d_head"], weight: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """The sum of all heads' outputs, without bias, in one product."""
    return z.permute(1, 2, 0, 3).flatten(2) @ weight.flatten(0, 1).to(z.dtype)


# Neighbouring senders: [sender batch pos d_model], or heads.
Part = Float[Tensor, "_ _ _ _"] | Heads


class SenderOutputs:
    """What senders wrote in one run, or differences of it, part by part in the graph's rows."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._part_of_row = [(p, i) for p, part in enumerate(parts) for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._part_of_row)

    def plus(self, other: SenderOutputs) -> SenderOutputs:
        """These and others, written by the same senders. Batch and pos of either may be 1."""
        return self._joined(torch.add, other)

    def minus(self, other: SenderOutputs | None) -> SenderOutputs:
        """These less others, written by the same senders; None is zero for all of them."""
        return self if other is None else self._joined(torch.sub, other)

    def _joined(
        self, function: Callable[[Tensor, Tensor], Tensor], other: SenderOutputs
    ) -> SenderOutputs:
        parts: list[Part] = []
        for left, right in zip(self.parts, other.parts, strict=True):
            if isinstance(left, Heads) and isinstance(right, Heads):
                parts.append(replace(left, z=function(left.z, right.z)))
            else:
                parts.append(function(_dense(left), _dense(right)))
        return SenderOutputs(parts)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> SenderOutputs:
        """With a function applied that leaves channels and their order alone."""
        return SenderOutputs(
            [
                replace(part, z=function(part.z)) if isinstance(part, Heads) else function(part)
                for part in self.parts
            ]
        )

    def dense(self, rows: Sequence[int] | None = None) -> Float[Tensor, "row _ _ d_model"]:
        """Some senders, or all, each in the size it has on the stream."""
        rows = range(len(self)) if rows is None else rows
        parts = list(self._chosen(rows))
        if torch.is_grad_enabled():
            return torch.cat([_dense(part) for part in parts])
        values = [part.z if isinstance(part, Heads) else part for part in parts]
        shape = torch.broadcast_shapes(*(value.shape[1:3] for value in values))
        d_model = (parts[0].weight if isinstance(parts[0], Heads) else parts[0]).shape[-1]
        out = values[0].new_empty(len(rows), *shape, d_model)
        self.into(out, rows)
        return out

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch pos d_model"]:
        """The sum of some senders, in one product per layer."""
        return reduce(torch.add, (part.sum(dim=0) for part in self._chosen(rows)))

    def into(self, out: Float[Tensor, "row _ _ d_model"], rows: Sequence[int]) -> None:
        """Write some senders, in this order, to `out`."""
        start = 0
        for part in self._chosen(rows):
            target = out[start : start + len(part)]
            if isinstance(part, Heads) and part.apart and _fits(target, part):
                weight = part.weight.to(target.dtype)
                torch.bmm(part.z.flatten(1, 2), weight, out=target.flatten(1, 2))
            else:
                target.copy_(_dense(part))
            start += len(part)

    def _chosen(self, rows: Sequence[int]) -> Iterator[Part]:
        """The parts of these rows, in their order: neighbours of one part together."""
        for part, group in groupby(rows, key=lambda row: self._part_of_row[row][0]):
            indices = [self._part_of_row[row][1] for row in group]
            first = indices[0]
            adjoining = slice(indices[0], indices[0] + len(indices))
            is_run = indices == list(range(first, first + len(indices)))
            yield self.parts[part][adjoining if is_run else indices]  # a slice copies nothing


def _dense(part: Part) -> Float[Tensor, "sender _ _ d_model"]:
    return part.dense() if isinstance(part, Heads) else part


def _fits(target: Tensor, part: Heads) -> bool:
    """Whether the product can be written straight into `target`."""
    fits = part.z.shape[1:3] == target.shape[1:3] and part.weight.device == target.device
    return fits and target.is_contiguous()


class Outputs:
    """Where one run's senders write, in the graph's rows, and the constant biases beside them.

    A subclass that keeps something else overrides `append` and `add_constant`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constant: Float[Tensor, "d_model"] | None = None  # output biases of attention, summed
        self.parts: list[Part] = []  # written so far
        self._residual: Tensor | None = None
        self._n_summed = 0

    # --- writing, in the order of the model's computation

    def write_embeddings(
        self,
        token: Float[Tensor, "batch pos d_model"],
        position: Float[Tensor, "batch pos d_model"] | None,
    ) -> None:
        """Write the embedding sender(s): apart or summed, as the graph has them."""
        if self.graph.split_embed:
            assert position is not None  # Graph.of refuses split_embed where nothing is added
            self.append(torch.stack([token, position]))
        else:
            self.append((token if position is None else token + position)[None])

    def mixed(self, z: Float[Tensor, "head batch pos d_head"]) -> None:
        """Be told what a layer's heads mixed, before a norm of what they write; nothing to do."""

    def write_heads(
        self,
        z: Float[Tensor, "head batch pos d_head"],
        weight: Float[Tensor, "head d_head d_model"],
        bias: Float[Tensor, "d_model"] | None,
    ) -> None:
        """Write a layer's heads; the output bias is no head's, it is a constant (spec 1.1)."""
        self.append(Heads(z, weight, self.graph.split_heads))
        if bias is not None:
            self.add_constant(bias)

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, its output bias included."""
        self.append(value[None])

    def append(self, part: Part) -> None:
        """Take the next neighbouring senders: all embeddings, a layer's heads, or one MLP."""
        self.parts.append(part)

    def add_constant(self, bias: Float[Tensor, "d_model"]) -> None:
        """Add a bias to the stream behind what is written so far."""
        bias = bias.to(self.residual.device)
        self.constant = bias if self.constant is None else self.constant + bias
        self._residual = self.residual + bias

    # --- reading

    @property
    def residual(self) -> Float[Tensor, "batch pos d_model"]:
        """The plain residual stream: the sum of everything written, and the constants."""
        for part in self.parts[self._n_summed :]:
            total = part.sum(dim=0)
            self._residual = total if self._residual is None else self._residual + total
        self._n_summed = len(self.parts)
        assert self._residual is not None  # embeddings are written before anything reads
        return self._residual

    @property
    def senders(self) -> SenderOutputs:
        """Every sender written so far, in the graph's rows."""
        return SenderOutputs(self.parts)
