"""What a port reads more when edges into it are removed: ablation - clean of their senders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.engine.paths import Path
from edgewise.model.outputs import Heads, SenderOutputs


class Into(NamedTuple):
    """A receiver: its column in the graph without spans, and its span, if they are told apart."""

    column: int
    span: int | None


class Changes:
    """Sums of differences at the positions of the port at hand; what was summed is used again.

    `spans` says where each span is; None if the graph does not tell them apart.
    """

    def __init__(
        self,
        difference: SenderOutputs,
        spans: Bool[Tensor, "span batch pos"] | None,
        like: Float[Tensor, "batch pos d_model"],
    ) -> None:
        self._difference, self._like = difference, like
        self._spans = None if spans is None else spans.to(like)
        self._at_port: tuple[Into, SenderOutputs] | None = None
        self._gone: tuple[object, frozenset[int], Tensor] | None = None

    def first(self) -> int:
        """The first position at which any sender differs from its ablation."""
        parts = [p.z if isinstance(p, Heads) else p for p in self._difference.parts]
        moved = torch.stack([(part != 0).any(dim=3).flatten(0, 1).any(dim=0) for part in parts])
        moved = moved.any(dim=0)  # [pos]
        return int(moved.to(torch.int).argmax()) if bool(moved.any()) else 0

    def where(self, span: int, positions: Int[Tensor, "place"]) -> Float[Tensor, "batch place"]:
        """1 where a span is, else 0, at some positions."""
        assert self._spans is not None  # or nobody speaks of spans
        return self._spans[span][:, positions]

    def along(
        self, into: Into, positions: Int[Tensor, "place"], rows: Sequence[int], path: Path
    ) -> Float[Tensor, "variant batch place d_model"]:
        """What the port reads more, for each variant of a path."""
        total = self.of(into, positions, rows, path.gone)
        result = total.new_empty(len(path), *total.shape)
        self._at(into, positions).into(result, rows[path.window])
        for one, goes in zip(result, path.goes, strict=True):
            one += total
            total = one if goes else total
        return result

    def of(
        self,
        into: Into,
        positions: Int[Tensor, "place"],
        rows: Sequence[int],
        gone: tuple[int, ...],
    ) -> Float[Tensor, "batch place d_model"]:
        """What the port reads more without the senders `gone`, by their places in `rows`."""
        at, summed = (into, tuple(rows)), frozenset[int]()
        if self._gone is not None and self._gone[0] == at and self._gone[1] <= set(gone):
            _, summed, total = self._gone
        else:
            batch, _, d_model = self._like.shape
            total = self._like.new_zeros(batch, len(positions), d_model)
        new = [index for index in gone if index not in summed]
        if new:
            total = total + self._at(into, positions).total([rows[index] for index in new])
        self._gone = at, frozenset(gone), total
        return total

    def _at(self, into: Into, positions: Int[Tensor, "place"]) -> SenderOutputs:
        """The differences at a port's positions, without a copy if it can."""
        if self._at_port is None or self._at_port[0] != into:
            first, last = int(positions[0]), int(positions[-1])
            adjacent = last - first + 1 == len(positions)
            chosen = slice(first, last + 1) if adjacent else positions
            found = self._difference.mapped(lambda x: x[:, :, chosen])
            if into.span is not None:
                here = self.where(into.span, positions)[:, :, None]
                found = found.mapped(lambda x: x * here)
            self._at_port = into, found
        return self._at_port[1]
