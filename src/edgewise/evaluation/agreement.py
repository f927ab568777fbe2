"""How far two circuits, or two sets of scores, agree: one number between 0 (or -1) and 1."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from jaxtyping import Float
from torch import Tensor


def jaccard(first: Set[Any], second: Set[Any]) -> float:
    """|first and second| / |first or second|; 1 for two empty sets, which are equal.

    >>> jaccard({1, 2}, {2, 3})
    0.3333333333333333
    """
    together = len(first | second)
    return len(first & second) / together if together else 1.0


def spearman(first: Float[Tensor, "edge"], second: Float[Tensor, "edge"]) -> float | None:
    """Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing theirs.

    None where all values of one are equal, so that there is no order to compare.

    >>> import torch
    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0]))
    0.5
    """
    a, b = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = (a.square().sum() * b.square().sum()).sqrt().item()
    return (a @ b).item() / scale if scale else None


def _ranks(values: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """From 1 for the least; equal values have the mean of the ranks they take up."""
    _, which, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[which]
