"""Are two things that are measured on the same prompts independent? HSIC, by permutation.

The Hilbert-Schmidt independence criterion (Gretton et al. 2007) of n pairs (x_i, y_i) is
tr(K H L H) / (n - 1)^2, with Gaussian kernels K of x and L of y, and H = I - 1/n. Under
independence the pairs may be matched anew at random, so p = (1 + how many of B such matches are at
least as large) / (1 + B): exact at every n and B. A kernel's width is the median distance of its
values that differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Independence:
    """HSIC and its p-value; `constant` names what does not vary, and so is independent of all."""

    hsic: float
    p_value: float
    n: int
    n_permutations: int
    constant: str | None = None


def independence(
    first: Values, second: Values, *, n_permutations: int, random: np.random.Generator
) -> Independence:
    """Test that rows of `first` [n, …] are independent of those of `second` [n, …]."""
    n = len(first)
    kernels = [_kernel(np.asarray(values, float).reshape(n, -1)) for values in (first, second)]
    constant = [name for name, k in zip(("first", "second"), kernels, strict=True) if k is None]
    if constant:
        return Independence(0.0, 1.0, n, n_permutations, constant[0])
    one, other = kernels
    assert one is not None
    assert other is not None
    centred = one - one.mean(axis=0) - one.mean(axis=1)[:, None] + one.mean()
    found = float((centred * other).sum()) / (n - 1) ** 2
    at_least = 0
    for _ in range(n_permutations):
        order = random.permutation(n)
        matched = float((centred * other[np.ix_(order, order)]).sum()) / (n - 1) ** 2
        at_least += matched >= found - 1e-12 * abs(found)
    return Independence(found, (1 + at_least) / (1 + n_permutations), n, n_permutations)


def _kernel(values: Values) -> Values | None:
    """The Gaussian kernel of rows; None if they are all the same, up to rounding."""
    squares = (values**2).sum(axis=1)
    distances = (squares[:, None] + squares[None, :] - 2 * values @ values.T).clip(min=0)
    apart = distances[np.triu_indices(len(values), 1)]
    apart = apart[apart > 1e-10 * max(float(squares.max()), 1e-30)]
    if not len(apart):
        return None
    kernel: Values = np.exp(-distances / (2 * np.median(apart)))
    return kernel
