"""Who reads a live node, and where: the kept edges, as far as positions go; and how much it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# [node variant batch place d_model], at a port's or a node's own positions
Change = Float[Tensor, "_ _ batch _ d_model"]


class Sizes(NamedTuple):
    """Numbers that nodes hold per variant and prompt when they are computed."""

    result: int  # what they write: held as long as somebody may read it
    passing: int  # what they read, held meanwhile


@dataclass(frozen=True, eq=False)
class Consumer:
    """A port that a kept edge feeds; `places` of the sender's positions it reads, None for all.

    `spans` are those at which the edge is kept, None for everywhere.
    """

    column: int
    places: Int[Tensor, "place"] | None = None
    spans: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        column: int,
        reads: Int[Tensor, "place"],
        needed: Int[Tensor, "needed"],
        spans: tuple[int, ...] | None,
    ) -> Consumer:
        """The consumer that reads at these of the positions at which its sender is needed."""
        if len(reads) == len(needed):
            return cls(column, None, spans)
        return cls(column, torch.searchsorted(needed, reads), spans)
