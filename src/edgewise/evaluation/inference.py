"""Statistics of numbers: p-values, intervals and how alike sets and orders are.

Nothing here knows a model or a circuit; scipy, which is slow to import, is imported where it is
used.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from edgewise.arguments import check_choice

Values = NDArray[np.float64]  # of each prompt
Correction = Literal["holm", "benjamini-hochberg", "none"]
Interval = Literal["wilson", "clopper-pearson"]


# --- p-values


def equivalence_p_value(better: float, n: int, epsilon: float) -> float:
    """P(|K/n - 1/2| >= |better/n - 1/2|) for K binomial with probability 1/2 + epsilon."""
    from scipy.stats import binom

    distance = abs(better / n - 0.5) - 1e-12
    low, high = np.floor(n * (0.5 - distance)), np.ceil(n * (0.5 + distance))
    tails = binom.cdf(low, n, 0.5 + epsilon) + binom.sf(high - 1, n, 0.5 + epsilon)
    return min(1.0, float(tails))


def binomial_p_value(n_with: int, n: int, quantile: float, *, alternative: str) -> float:
    """Of a binomial test that the probability behind `n_with` of `n` is `quantile`."""
    from scipy.stats import binomtest

    return float(binomtest(n_with, n, quantile, alternative=alternative).pvalue)


def hsic_test(
    first: Values, second: Values, random: np.random.Generator, *, n_permutations: int
) -> tuple[float, float]:
    """HSIC of rows of `first` [n, ...] and of `second` [n, ...], and its p-value by permutation.

    tr(K H L H) / (n - 1)^2 with kernels K and L and H = I - 1/n. Under independence the pairs may
    be matched anew at random: p = (1 + how many of B such matches are at least as large) / (1 + B).
    What does not vary is independent of all: 0 and 1.
    """
    n, kernel, rest = len(first), gaussian_kernel(first), gaussian_kernel(second)
    if kernel is None or rest is None:
        return 0.0, 1.0
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    observed = float((centred * rest).sum()) / (n - 1) ** 2
    at_least = 0
    for _ in range(n_permutations):
        order = random.permutation(n)
        matched = float((centred * rest[np.ix_(order, order)]).sum()) / (n - 1) ** 2
        at_least += matched >= observed - 1e-12 * abs(observed)
    return observed, (1 + at_least) / (1 + n_permutations)


def gaussian_kernel(values: Values) -> Values | None:
    """The Gaussian kernel of rows; None if they are all the same, up to rounding."""
    rows = np.asarray(values, float).reshape(len(values), -1)
    squares = (rows**2).sum(axis=1)
    distances = (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clip(min=0)
    apart = distances[np.triu_indices(len(rows), 1)]
    apart = apart[apart > 1e-10 * max(float(squares.max()), 1e-30)]
    if not len(apart):
        return None
    kernel: Values = np.exp(-distances / (2 * np.median(apart)))
    return kernel


def corrected(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Adjusted p-values: reject those at most alpha.

    Holm: any wrong rejection at all has probability at most alpha, however the tests depend on
    each other. Benjamini and Hochberg: at most a share alpha of the rejections is wrong on
    average, for independent tests or ones that lean the same way.

    >>> corrected([0.01, 0.04, 0.03], "holm")
    (0.03, 0.06, 0.06)
    """
    check_choice("correction", correction, get_args(Correction))
    p = np.asarray(p_values, dtype=float)
    if correction == "none" or not len(p):
        return tuple(p.tolist())
    if correction == "benjamini-hochberg":
        from scipy.stats import false_discovery_control

        return tuple(false_discovery_control(p).tolist())
    order = p.argsort(kind="stable")
    result = np.empty(len(p))
    result[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return tuple(result.tolist())


# --- intervals


@cache
def proportion_interval(
    count: int, n: int, level: float, *, kind: Interval = "wilson"
) -> tuple[float, float]:
    """Where the probability behind `count` of `n` lies, two-sided.

    Wilson's score interval covers `level` on average over probabilities; Clopper and Pearson's at
    every one of them.

    >>> proportion_interval(20, 20, 0.95)
    (0.838..., 1.0)
    """
    from scipy.stats import binomtest

    method = "exact" if kind == "clopper-pearson" else "wilson"
    ends = binomtest(count, n).proportion_ci(level, method=method)
    return float(ends.low), float(ends.high)


def mean_interval(values: Float[Tensor, "draw"], level: float = 0.95) -> tuple[float, float] | None:
    """Where the mean behind at least two values lies, by Student's t; None for fewer."""
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2)) * values.std().item() / n**0.5
    return values.mean().item() - half, values.mean().item() + half


@dataclass(frozen=True)
class JaccardSpread:
    """The Jaccard index of every pair of circuits: its mean, with an interval.

    `low` to `high` is an interval for the mean over pairs of endlessly many replicates: pairs share
    circuits, so its width is the jackknife's over circuits (Student's t), which counts n circuits
    and not n (n - 1) / 2 pairs. Where all circuits are equal it has no width, which n replicates
    cannot show.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, circuits: Sequence[Sequence[int]], level: float) -> JaccardSpread:
        """Of at least two circuits of one graph, by the places of their edges."""
        from scipy.sparse import csr_array
        from scipy.special import stdtrit

        n, places = len(circuits), [place for circuit in circuits for place in circuit]
        rows = [row for row, circuit in enumerate(circuits) for _ in circuit]
        kept = csr_array(([1.0] * len(places), (rows, places)), (n, max(places, default=0) + 1))
        both = torch.from_numpy((kept @ kept.T).toarray())
        sizes = both.diagonal()
        either = sizes[:, None] + sizes[None, :] - both
        index = torch.where(either > 0, both / either, 1.0)
        pairs = index[torch.triu_indices(n, n, 1).unbind()]
        mean, half = float(pairs.mean()), 0.0
        if n > 2:
            # The mean over the pairs without one circuit, for each of them.
            without = (pairs.sum() - (index.sum(dim=1) - 1)) / ((n - 1) * (n - 2) / 2)
            variance = (n - 1) / n * (without - without.mean()).square().sum()
            half = float(stdtrit(n - 1, (1 + level) / 2)) * float(variance.sqrt())
        return cls(mean, max(0.0, mean - half), min(1.0, mean + half))


# --- how alike


def jaccard(first: Set[Any], second: Set[Any]) -> float:
    """|first and second| / |first or second|; 1 for two empty sets, which are equal.

    >>> jaccard({1, 2}, {2, 3})
    0.3333333333333333
    """
    together = len(first | second)
    return len(first & second) / together if together else 1.0


def spearman(first: Float[Tensor, "edge"], second: Float[Tensor, "edge"]) -> float | None:
    """Spearman's rank correlation; None where all values of one are equal: there is no order.

    >>> import torch
    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0]))
    0.5
    """
    from scipy.stats import spearmanr

    if any(len(values.unique()) < 2 for values in (first, second)):
        return None
    return float(spearmanr(first.numpy(), second.numpy()).statistic)
