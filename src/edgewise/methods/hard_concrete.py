"""Hard concrete masks: numbers in [0, 1] that are often exactly 0 or 1, with a gradient.

Louizos et al. 2018, arXiv 1712.01312, with the numbers of Subnetwork Probing (spec section 3). A
mask has one parameter theta. For u uniform in (0, 1),

    s = sigmoid((log u - log(1 - u) + theta) / beta)
    m = clip(s (zeta - gamma) + gamma, 0, 1)

so that P(m > t) = sigmoid(theta - beta log((t - gamma) / (zeta - t))) for t in [0, 1).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.methods.training import LearnedMasks, uniform

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
# Where the paper starts: sigmoid(theta) = p, stretched, is 0.9.
_P = (0.9 - GAMMA) / (ZETA - GAMMA)
INITIAL_THETA = math.log(_P / (1 - _P))
_EDGE = 1e-4  # u keeps this far from 0 and 1
_POINTS = 200  # of the integral behind `mean_mask`


def sample(theta: Float[Tensor, "mask"], generator: torch.Generator) -> Float[Tensor, "mask"]:
    """One draw of every mask; its gradient is the derivative at the same u."""
    return mask_at(theta, uniform(theta, generator, _EDGE))


def mask_at(theta: Float[Tensor, "mask"], u: Float[Tensor, "mask"]) -> Float[Tensor, "mask"]:
    """The masks that `u` gives."""
    s = torch.sigmoid((u.log() - (-u).log1p() + theta) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def chance_on(theta: Float[Tensor, "mask"]) -> Float[Tensor, "mask"]:
    """P(m > 0), what regularisers count."""
    return torch.sigmoid(theta - BETA * math.log(-GAMMA / ZETA))


@torch.no_grad()
def mean_mask(theta: Float[Tensor, "mask"]) -> Float[Tensor, "mask"]:
    """E[m] = the integral of P(m > t) over t from 0 to 1, by midpoints, in float64."""
    total = torch.zeros(theta.shape, dtype=torch.float64)
    exact = theta.detach().cpu().double()
    for i in range(_POINTS):
        t = (i + 0.5) / _POINTS
        total += torch.sigmoid(exact - BETA * math.log((t - GAMMA) / (ZETA - t)))
    return total / _POINTS


class HardConcrete(LearnedMasks):
    """Hard concrete masks, and what their size costs.

    The penalty is `weight` times R, the mean over groups of a group's mean P(m > 0); `group` says
    which group each mask belongs to. A group without masks takes its share of the mean all the
    same.
    """

    def __init__(
        self, theta: Float[Tensor, "mask"], group: Tensor, n_groups: int, *, weight: float
    ) -> None:
        super().__init__(theta)
        group = group.to(theta.device)
        self._weight, self._n_groups = weight, n_groups
        self._counts = torch.bincount(group, minlength=n_groups)[group]

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        """One sample of every mask."""
        return sample(self.theta, generator)

    def chance(self) -> Float[Tensor, "mask"]:
        """P(m > 0) of every mask."""
        return chance_on(self.theta)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        """lambda R; it does not change from step to step."""
        return self._weight * ((self.chance() / self._counts).sum() / self._n_groups)
