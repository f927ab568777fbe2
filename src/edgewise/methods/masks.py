"""Hard concrete masks: numbers in [0, 1] that are often exactly 0 or 1, with a gradient.

Louizos et al. 2018, arXiv 1712.01312, with the numbers of Subnetwork Probing (spec section 3). A
mask has one parameter theta. For u uniform in (0, 1),

    s = sigmoid((log u - log(1 - u) + theta) / beta)
    m = clip(s (zeta - gamma) + gamma, 0, 1)

so that P(m > t) = sigmoid(theta - beta log((t - gamma) / (zeta - t))) for t in [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
# Where the paper starts: sigmoid(theta) = p, stretched, is 0.9.
_P = (0.9 - GAMMA) / (ZETA - GAMMA)
INITIAL_THETA = math.log(_P / (1 - _P))
_EDGE = 1e-4  # u keeps this far from 0 and 1
_POINTS = 200  # of the integral behind `mean_mask`


def uniform(
    like: Float[Tensor, "mask"], generator: torch.Generator, edge: float = 0.0
) -> Float[Tensor, "mask"]:
    """Uniform numbers, drawn on the CPU so that a seed means the same on every device."""
    drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return drawn.clamp(edge, 1 - edge).to(like)


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


@dataclass(frozen=True, eq=False)
class HardConcrete:
    """Hard concrete masks, their parameters to be trained, and what their size costs.

    The penalty is `weight` times the mean over groups of a group's mean P(m > 0); `group` says
    which group each mask belongs to. A group without masks takes its share of the mean all the
    same.
    """

    theta: Float[Tensor, "mask"]
    weight: float
    group: Tensor  # [mask], whole numbers below `n_groups`
    n_groups: int
    learning_rate: float

    @classmethod
    def start(
        cls,
        group: Tensor,
        n_groups: int,
        *,
        weight: float,
        learning_rate: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> HardConcrete:
        """Every mask where the paper starts it."""
        theta = torch.full(group.shape, INITIAL_THETA, dtype=dtype, device=device)
        return cls(theta.requires_grad_(), weight, group.to(device), n_groups, learning_rate)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained."""
        return {"theta": self.theta}

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, constant rate."""
        return torch.optim.Adam([self.theta], lr=self.learning_rate)

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        """One sample of every mask."""
        return sample(self.theta, generator)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        """lambda * R; it does not change from step to step."""
        return self.weight * self.regulariser()

    def regulariser(self) -> Float[Tensor, ""]:
        """R: the mean over groups of the mean P(m > 0) in a group."""
        counts = torch.bincount(self.group, minlength=self.n_groups)[self.group]
        return (chance_on(self.theta) / counts).sum() / self.n_groups

    def size(self) -> float:
        """How many masks are expected to be on."""
        return float(chance_on(self.theta.detach()).double().sum())
