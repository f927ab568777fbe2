"""Counts as probabilities: intervals, and p-values corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import numpy as np

from edgewise.errors import unknown_name

Interval = Literal["wilson", "clopper-pearson"]
Correction = Literal["holm", "benjamini-hochberg", "none"]


@cache
def proportion_interval(
    count: int, n: int, level: float, kind: Interval = "wilson"
) -> tuple[float, float]:
    """Where the probability behind `count` of `n` lies, two-sided.

    Wilson's score interval covers `level` on average over probabilities; Clopper and Pearson's at
    every one of them.

    >>> proportion_interval(20, 20, 0.95)
    (0.838..., 1.0)
    """
    from scipy.stats import binomtest  # slow to import

    method = "exact" if kind == "clopper-pearson" else "wilson"
    found = binomtest(count, n).proportion_ci(level, method=method)
    return float(found.low), float(found.high)


def corrected(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Adjusted p-values: reject those at most alpha.

    Holm: any wrong rejection at all has probability at most alpha, however the tests depend on
    each other. Benjamini and Hochberg: at most a share alpha of the rejections is wrong on
    average, for independent tests or ones that lean the same way.

    >>> corrected([0.01, 0.04, 0.03], "holm")
    (0.03, 0.06, 0.06)
    """
    if correction not in get_args(Correction):
        raise unknown_name("correction", correction, get_args(Correction))
    p = np.asarray(p_values, dtype=float)
    if correction == "none" or not len(p):
        return tuple(p.tolist())
    order = p.argsort(kind="stable")
    rank = np.arange(1, len(p) + 1)
    if correction == "holm":
        adjusted = np.maximum.accumulate(p[order] * (len(p) + 1 - rank))
    else:
        adjusted = np.minimum.accumulate((p[order] * len(p) / rank)[::-1])[::-1]
    result = np.empty(len(p))
    result[order] = adjusted.clip(max=1)
    return tuple(result.tolist())
