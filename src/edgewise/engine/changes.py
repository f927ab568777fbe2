"""Change of a receiver's input when edges into it are ablated: their senders' ablated - clean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.engine.speculation import SpeculativeBatch
from edgewise.model.outputs import Heads, SenderOutputs


class SenderChanges:
    """How every sender's output changes when it is ablated.

    `spans` says where each span is; None if the graph does not tell them apart.
    """

    def __init__(
        self,
        difference: SenderOutputs,
        spans: Bool[Tensor, "span batch pos"] | None,
        like: Float[Tensor, "batch pos d_model"],
    ) -> None:
        self._difference = difference
        self._spans = None if spans is None else spans.to(like)

    def first(self) -> int:
        """The first position at which any sender differs from its ablation."""
        parts = [p.z if isinstance(p, Heads) else p for p in self._difference.parts]
        moved = torch.stack([(part != 0).any(dim=3).flatten(0, 1).any(dim=0) for part in parts])
        moved = moved.any(dim=0)  # [pos]
        return int(moved.to(torch.int).argmax()) if bool(moved.any()) else 0

    def where(self, span: int, positions: Int[Tensor, "place"]) -> Float[Tensor, "batch place"]:
        """1 where a span is, else 0, at some positions."""
        assert self._spans is not None  # only graphs with spans ask
        return self._spans[span][:, positions]

    def at(self, positions: Int[Tensor, "place"], span: int | None) -> SenderOutputs:
        """The changes at a port's positions, in a span if there are any; no copy if it can."""
        first, last = int(positions[0]), int(positions[-1])
        adjacent = last - first + 1 == len(positions)
        chosen = slice(first, last + 1) if adjacent else positions
        changes = self._difference.mapped(lambda x: x[:, :, chosen])
        if span is None:
            return changes
        here = self.where(span, positions)[:, :, None]
        return changes.mapped(lambda x: x * here)


class PortChanges:
    """The change of one port's input when candidate edges are ablated, at its own positions."""

    def __init__(
        self,
        changes: SenderOutputs,
        rows: Sequence[int],
        nothing: Float[Tensor, "batch place d_model"],
    ) -> None:
        """`rows` are the candidates' senders; `nothing` is a change of zero."""
        self._changes, self._rows = changes, rows
        self._summed, self._sum = frozenset[int](), nothing

    def of_batch(self, batch: SpeculativeBatch) -> Float[Tensor, "variant batch place d_model"]:
        """The change of each variant."""
        total = self.of(batch.removed)
        result = total.new_empty(len(batch), *total.shape)
        self._changes.into(result, self._rows[batch.window])
        for variant, removed in zip(result, batch.predicted, strict=True):
            variant += total
            total = variant if removed else total
        return result

    def of(self, removed: tuple[int, ...]) -> Float[Tensor, "batch place d_model"]:
        """The change when these candidates are removed; a sum that only grew is added to."""
        if not self._summed <= set(removed):
            self._summed, self._sum = frozenset(), torch.zeros_like(self._sum)
        new = [self._rows[index] for index in removed if index not in self._summed]
        if new:
            self._sum = self._sum + self._changes.total(new)
        self._summed = frozenset(removed)
        return self._sum
