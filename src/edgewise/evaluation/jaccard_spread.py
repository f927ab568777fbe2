"""How far many circuits agree, two by two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgewise.circuit import Circuit


@dataclass(frozen=True)
class JaccardSpread:
    """The Jaccard index of every pair of circuits: its mean with an interval, and its range.

    `low` to `high` is an interval for the mean over pairs of endlessly many replicates: pairs share
    circuits, so its width is the jackknife's over circuits (Student's t), which counts n circuits
    and not n (n - 1) / 2 pairs. Where all circuits are equal it has no width, which n replicates
    cannot show.
    """

    mean: float
    low: float
    high: float
    smallest: float
    median: float
    n_pairs: int

    @classmethod
    def of(cls, circuits: Sequence[Circuit], level: float) -> JaccardSpread:
        """Of at least two circuits of one graph."""
        from scipy.special import stdtrit

        kept = torch.stack([c.keep[c.graph.exists] for c in circuits]).double()
        both = kept @ kept.T
        sizes = both.diagonal()
        either = sizes[:, None] + sizes[None, :] - both
        index = torch.where(either > 0, both / either, 1.0)
        n = len(circuits)
        pairs = index[torch.triu_indices(n, n, 1).unbind()]
        mean, half = float(pairs.mean()), 0.0
        if n > 2:
            total = pairs.sum()
            # The mean over the pairs without one circuit, for each of them.
            without = (total - (index.sum(dim=1) - 1)) / ((n - 1) * (n - 2) / 2)
            variance = (n - 1) / n * (without - without.mean()).square().sum()
            half = float(stdtrit(n - 1, (1 + level) / 2)) * float(variance.sqrt())
        return cls(
            mean=mean,
            low=max(0.0, mean - half),
            high=min(1.0, mean + half),
            smallest=float(pairs.min()),
            median=float(pairs.quantile(0.5)),
            n_pairs=len(pairs),
        )
