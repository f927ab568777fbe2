"""Sequential tests of a mean against a threshold, on values that come in random order.

Two null hypotheses about the mean mu of independent values, a threshold tau, an error rate alpha:

    low:   mu <= tau     rejected: the mean is shown to be above
    high:  mu >= tau     rejected: the mean is shown to be below

Each is rejected, at any look, with probability at most alpha while it is true.

**Staged t.** Looks at n_1 < … < n_K values, fixed in advance. Look k spends alpha_k =
alpha (n_k - n_(k-1)) / n_K on Student's t-test of the first n_k values, so that the errors of all
looks add up to at most alpha (the union bound: nothing about their joint distribution is needed).
Exact for normal values. For others as good as the t-test: near nominal for 30 or so values, on the
safe side for "above" and not for "below" if the values have a long tail upwards. Values that are
all equal tell nothing of their spread: they decide nothing before the last look, and then by the
sign test, p = 2^-n, which is about the median and needs six values or more at an error rate of 5 %.

**Betting** (Waudby-Smith and Ramdas 2024, arXiv 2010.09686). For values within [-B, B] a gambler
who bets a share l of his capital against "low" has, after n values, the product of
1 + l (x_i - tau), l in (0, 1/(B + tau)), which on average does not grow while mu <= tau. The mean
of such products over a grid of l is such a capital as well, and by Ville's inequality it ever
reaches 1/alpha with probability at most alpha: no look costs anything, no distribution is assumed.
Against "high" likewise with 1 - l (x_i - tau).

p-values are valid at every look: min over looks of p_k alpha / alpha_k, and 1 / (largest capital).
The interval holds every threshold that neither test would have rejected: it covers mu with
probability 1 - 2 alpha at least, whenever looking stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from edgewise.errors import SettingError
from edgewise.methods.method_result import Evidence, Verdict

Values = NDArray[np.float64]
_STAKES = np.geomspace(0.01, 0.99, 24)  # shares of the largest stake that cannot ruin


def looks(n: int, first: int) -> tuple[int, ...]:
    """Sizes of the looks at n values: `first`, doubled until n; no last step of a few.

    >>> looks(100, 16)
    (16, 32, 64, 100)
    """
    sizes = []
    size = first
    while size < 0.75 * n:
        sizes.append(size)
        size *= 2
    return (*sizes, n)


def shares_spent(sizes: Sequence[int]) -> tuple[float, ...]:
    """The share of the error rate that each look of a staged test spends; they add up to 1.

    >>> shares_spent((16, 32, 64))
    (0.25, 0.25, 0.5)
    """
    steps = zip((0, *sizes), sizes, strict=False)
    return tuple((size - before) / sizes[-1] for before, size in steps)


def verdict_of(p_above: float, p_below: float, error_rate: float) -> Verdict:
    """What two p-values show at an error rate."""
    if p_above <= error_rate:
        return "above"
    return "below" if p_below <= error_rate else "undecided"


@dataclass(frozen=True)
class StagedT:
    """Student's t-test at each of several looks, the error rate spent over them."""

    sizes: tuple[int, ...]
    threshold: float
    error_rate: float

    def evidence(self, values: Values) -> Evidence:
        """What the looks show that these values suffice for."""
        low = -np.inf
        high = np.inf
        p_above = 1.0
        p_below = 1.0
        for size, share in zip(self.sizes, shares_spent(self.sizes), strict=True):
            if size > len(values):
                break
            sample = values[:size]
            mean = float(sample.mean())
            error = float(sample.std(ddof=1)) / size**0.5
            if error <= 1e-12 * abs(mean):
                if size < self.sizes[-1]:
                    continue
                sign = 0.5**size
                p_above = sign / share if mean > self.threshold else 1.0
                p_below = sign / share if mean < self.threshold else 1.0
                if sign / share <= self.error_rate:
                    low = high = mean
                break
            t = (mean - self.threshold) / error
            p_above = min(p_above, float(stdtr(size - 1, -t)) / share)
            p_below = min(p_below, float(stdtr(size - 1, t)) / share)
            half = -float(stdtrit(size - 1, self.error_rate * share)) * error
            low = max(low, mean - half)
            high = min(high, mean + half)
        return _evidence(len(values), (p_above, p_below), (low, high), self.error_rate)


@dataclass(frozen=True)
class Betting:
    """A test by betting, for values of at most `bound` in size."""

    bound: float
    threshold: float
    error_rate: float

    def evidence(self, values: Values) -> Evidence:
        """What these values show. Raises `SettingError` for one beyond the bound."""
        largest = float(np.abs(values).max())
        if largest > self.bound:
            raise SettingError(
                f"a prompt's loss changes by {largest:.4g}, which is more than bound "
                f"{self.bound:.4g}. Set bound to what the metric can change at most."
            )
        p_values = self._p_value(values, self.threshold), self._p_value(-values, -self.threshold)
        ends = self._lowest(values), -self._lowest(-values)
        return _evidence(len(values), p_values, ends, self.error_rate)

    def _p_value(self, values: Values, threshold: float) -> float:
        """Against a mean of at most the threshold."""
        stakes = _STAKES / (self.bound + threshold)
        growth = np.log1p(stakes * (values[:, None] - threshold)).cumsum(axis=0)
        capital = np.logaddexp.reduce(growth, axis=1) - np.log(len(stakes))
        return float(np.exp(-max(capital.max(), 0.0)))

    def _lowest(self, values: Values) -> float:
        """The lowest mean that the values leave open, by bisection: p rises with the threshold."""
        low = -self.bound
        high = float(values.mean())
        if self._p_value(values, low + 1e-9 * self.bound) > self.error_rate:
            return low
        for _ in range(24):
            middle = (low + high) / 2
            if self._p_value(values, middle) <= self.error_rate:
                low = middle
            else:
                high = middle
        return low


def _evidence(
    n: int, p_values: tuple[float, float], ends: tuple[float, float], error_rate: float
) -> Evidence:
    p_above, p_below = (min(1.0, p) for p in p_values)
    low, high = (float(end) if math.isfinite(end) else None for end in ends)
    return Evidence(p_above, p_below, low, high, n, verdict_of(p_above, p_below, error_rate))
