"""Two ways to learn which edges to keep by gradient descent.

Edge Pruning (Bhaskar et al. 2024, arXiv 2406.16778).

    1. A hard concrete mask per edge (`edgewise.methods.masks`, `.edge_masks`); removed edges
       carry the ablation.
    2. The target sparsity t rises from 0 to `sparsity` linearly over the warm-up. Each step lowers
       loss + lambda1 (t - s) + lambda2 (t - s)^2 by Adam in the masks, where s is the masks'
       sparsity, and raises it in the multipliers lambda1 and lambda2, which start at 0.
    3. Keep the edges of the highest log-odds theta: exactly (1 - sparsity) of them.

Where we differ: s is the expected 1 - P(m > 0), not that of the drawn masks, as their final
threshold has it; masks start as in Subnetwork Probing, not at theta = 10, where hardly any draw has
a gradient; one rate from the first step on; no second set of masks on nodes (their scripts switch
its loss off); switches are masked where the graph has them; the loss is the problem's metric,
theirs is kl.

Uniform gradient sampling (Li and Janson 2024, arXiv 2409.09951).

    1. Every edge is kept with probability p = sigmoid(theta). The derivative of the expected loss
       by p is L(kept) - L(removed): the mean of dL/dm over m uniform in [0, 1].
    2. So each step draws every mask m as uniform in [0, 1] with probability p (1 - p), else 1 or 0
       (with probability p in the mean), and takes dL/dm as the gradient of theta where m is
       uniform. That is unbiased, because p (1 - p) is also dp/dtheta.
    3. Adam on loss + lambda sum of p. Keep the edges with p of at least 1/2.

Where we differ: removed edges carry the problem's ablation; their optimal ablation constants,
learned beside the masks, are another kind of ablation. Masks start at p = 0.98, theirs at 0.73: a
chain of 15 edges that are all needed is then whole in one draw of a hundred, and nothing is learned
of it, however many draws there are (docs/methods.md). A draw serves all prompts, and a step takes
four; they draw for every prompt, 12 times for each of 5. No extra cost for nodes, no pruning of
dangling edges in the draws, no clipping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.journal import NO_JOURNAL, Journal
from edgewise.methods.masks import INITIAL_THETA, chance_on, sample, uniform
from edgewise.methods.method_result import MethodResult
from edgewise.methods.settings import EdgePruningSettings, UGSSettings
from edgewise.methods.training import train
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress


def edge_pruning(
    problem: Problem,
    settings: EdgePruningSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """The circuit of the edges with the highest learned odds. Raises `MetricError`."""
    graph, masking = problem.graph, EdgeMasking(problem)
    theta = _parameters(problem, masking.n_masks, INITIAL_THETA)
    multipliers = theta.new_zeros(2).detach().requires_grad_()
    train(
        problem,
        masking,
        TargetSparsity(theta, multipliers, settings),
        steps=settings.steps,
        generator=torch.Generator().manual_seed(settings.seed),
        on_progress=on_progress,
        journal=journal,
    )
    values = masking.matrix(theta.detach().double().cpu())
    scores = EdgeScores(graph, values, "edge-pruning", "learned log-odds of the edge's mask")
    return MethodResult(scores.top(round((1 - settings.sparsity) * graph.n_edges)), scores)


def ugs(
    problem: Problem,
    settings: UGSSettings,
    on_progress: OnProgress = ignore_progress,
    journal: Journal = NO_JOURNAL,
) -> MethodResult:
    """The circuit of the edges that are more likely kept than not. Raises `MetricError`."""
    graph, masking = problem.graph, EdgeMasking(problem)
    theta = _parameters(problem, masking.n_masks, math.log(settings.start / (1 - settings.start)))
    train(
        problem,
        masking,
        KeepProbabilities(theta, settings),
        steps=settings.steps,
        draws=settings.draws,
        generator=torch.Generator().manual_seed(settings.seed),
        on_progress=on_progress,
        journal=journal,
    )
    values = masking.matrix(theta.detach().double().cpu().sigmoid())
    scores = EdgeScores(graph, values, "ugs", "probability that the edge is kept")
    return MethodResult(Circuit(graph, (values >= 0.5) & graph.exists), scores)


def _parameters(problem: Problem, n: int, start: float) -> Float[Tensor, "mask"]:
    dtype = torch.promote_types(problem.model.dtype, torch.float32)
    return torch.full((n,), start, dtype=dtype, device=problem.model.device).requires_grad_()


@dataclass(frozen=True, eq=False)
class TargetSparsity:
    """Hard concrete masks, held to a sparsity by two Lagrange multipliers."""

    theta: Float[Tensor, "mask"]
    multipliers: Float[Tensor, "2"]
    settings: EdgePruningSettings

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"theta": self.theta, "multipliers": self.multipliers}

    def optimiser(self) -> torch.optim.Optimizer:
        ascent = {"lr": self.settings.multiplier_rate, "maximize": True}
        return torch.optim.Adam(
            [
                {"params": [self.theta], "lr": self.settings.learning_rate},
                {"params": [self.multipliers], **ascent},
            ]
        )

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        return sample(self.theta, generator)

    def target(self, step: int) -> float:
        """The sparsity wanted in this step, counted from 0."""
        rising = self.settings.warm_up * self.settings.steps
        return self.settings.sparsity * (1.0 if step + 1 >= rising else (step + 1) / rising)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        sparsity = 1 - chance_on(self.theta).mean()
        missing = self.target(step) - sparsity
        return self.multipliers[0] * missing + self.multipliers[1] * missing**2

    def size(self) -> float:
        return float(chance_on(self.theta.detach()).double().sum())


@dataclass(frozen=True, eq=False)
class KeepProbabilities:
    """Masks of uniform gradient sampling."""

    theta: Float[Tensor, "mask"]
    settings: UGSSettings

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"theta": self.theta}

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.theta], lr=self.settings.learning_rate)

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        p = self.theta.sigmoid()
        window = (p * (1 - p)).detach().clamp(min=torch.finfo(p.dtype).tiny)
        # u moves from p - window/2, where m is 1, to p + window/2, where it is 0.
        return (0.5 + (p - uniform(p, generator)) / window).clamp(0, 1)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        return self.settings.regularisation * self.theta.sigmoid().sum()

    def size(self) -> float:
        return float(self.theta.detach().double().sigmoid().sum())
