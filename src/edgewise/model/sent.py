"""What senders wrote, kept small: heads before their output projection (d_head, not d_model)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.model.parts import mixed_heads, separate_heads


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
        if self.apart:
            return separate_heads(self.z.to(self.weight.device), self.weight).to(self.z.device)
        return self.total()[None]

    def total(self) -> Float[Tensor, "batch pos d_model"]:
        """The sum of the senders."""
        return mixed_heads(self.z.to(self.weight.device), self.weight).to(self.z.device)

    def some(self, indices: Sequence[int]) -> Heads:
        """Some of the senders."""
        if not self.apart:
            return self
        at = _index(indices)
        return replace(self, z=self.z[at], weight=self.weight[at])


Part = (
    Float[Tensor, "_ _ _ _"] | Heads
)  # neighbouring senders: [sender batch pos d_model], or heads


class Sent:
    """What senders wrote in one run, or differences of it, part by part in the graph's rows."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._place = [(p, i) for p, part in enumerate(parts) for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._place)

    def plus(self, other: Sent) -> Sent:
        """These and others, written by the same senders. Batch and pos of either may be 1."""
        return Sent([_joined(torch.add, *p) for p in zip(self.parts, other.parts, strict=True)])

    def minus(self, other: Sent | None) -> Sent:
        """These less others, written by the same senders; None is zero for all of them."""
        if other is None:
            return self
        return Sent([_joined(torch.sub, *p) for p in zip(self.parts, other.parts, strict=True)])

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Sent:
        """With a function applied that leaves channels and their order alone."""
        return Sent(
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
            return torch.cat([part.dense() if isinstance(part, Heads) else part for part in parts])
        values = [part.z if isinstance(part, Heads) else part for part in parts]
        shape = torch.broadcast_shapes(*(value.shape[1:3] for value in values))
        d_model = (parts[0].weight if isinstance(parts[0], Heads) else parts[0]).shape[-1]
        out = values[0].new_empty(len(rows), *shape, d_model)
        self.into(out, rows)
        return out

    def total(self, rows: Sequence[int]) -> Float[Tensor, "batch pos d_model"]:
        """The sum of some senders, in one product per layer."""
        result: Tensor | None = None
        for part in self._chosen(rows):
            one = part.total() if isinstance(part, Heads) else part.sum(dim=0)
            result = one if result is None else result + one
        assert result is not None  # nobody asks for the sum of nothing
        return result

    def into(self, out: Float[Tensor, "row _ _ d_model"], rows: Sequence[int]) -> None:
        """Write some senders, in this order, to `out`."""
        done = 0
        for part in self._chosen(rows):
            target = out[done : done + len(part)]
            if not isinstance(part, Heads):
                target.copy_(part)
            elif part.apart and _may_be_filled(target, part):
                torch.bmm(part.z.flatten(1, 2), part.weight, out=target.flatten(1, 2))
            else:
                target.copy_(part.dense())
            done += len(part)

    def _chosen(self, rows: Sequence[int]) -> Iterator[Part]:
        """The parts of these rows, in their order: neighbours of one part together."""
        start = 0
        while start < len(rows):
            at, _ = self._place[rows[start]]
            stop = start
            while stop < len(rows) and self._place[rows[stop]][0] == at:
                stop += 1
            indices, part = [self._place[row][1] for row in rows[start:stop]], self.parts[at]
            yield part.some(indices) if isinstance(part, Heads) else part[_index(indices)]
            start = stop


def _joined(function: Callable[[Tensor, Tensor], Tensor], one: Part, other: Part) -> Part:
    if isinstance(one, Heads) and isinstance(other, Heads):
        return replace(one, z=function(one.z, other.z))
    parts = [part.dense() if isinstance(part, Heads) else part for part in (one, other)]
    return function(*parts)


def _may_be_filled(target: Tensor, part: Heads) -> bool:
    """Whether the product can be written straight into `target`."""
    fits = part.z.shape[1:3] == target.shape[1:3] and part.weight.device == target.device
    return fits and target.is_contiguous()


def _index(indices: Sequence[int]) -> slice | list[int]:
    """A slice, which copies nothing, if they adjoin."""
    if list(indices) == list(range(indices[0], indices[0] + len(indices))):
        return slice(indices[0], indices[-1] + 1)
    return list(indices)
