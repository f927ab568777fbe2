"""Two ways to learn which edges to keep by gradient descent.

Edge Pruning (Bhaskar et al. 2024, arXiv 2406.16778).

    1. A hard concrete mask per edge (training.py); removed
       edges carry the ablation.
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

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgewise.circuit import Circuit, EdgeScores
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import EdgePruningSettings, UGSSettings
from edgewise.methods.training import INITIAL_THETA, HardConcrete, LearnedMasks, train, uniform
from edgewise.problem import Problem


def edge_pruning(
    problem: Problem, settings: EdgePruningSettings, session: Session = QUIET
) -> MethodResult:
    """The circuit of the edges with the highest learned odds. Raises `MetricError`."""
    graph = problem.graph
    masking = EdgeMasking(problem)
    masks = TargetSparsity(masking.parameters(INITIAL_THETA), settings)
    train(masking, masks, settings, session=session)
    values = masking.matrix(masks.theta.detach().double().cpu())
    scores = EdgeScores(graph, values, "edge-pruning", "learned log-odds of the edge's mask")
    return MethodResult(scores.top(round((1 - settings.sparsity) * graph.n_edges)), scores)


class TargetSparsity(HardConcrete):
    """Hard concrete masks, held to a sparsity by two Lagrange multipliers."""

    def __init__(self, theta: Float[Tensor, "mask"], settings: EdgePruningSettings) -> None:
        super().__init__(theta)
        self._settings = settings
        self.multipliers = nn.Parameter(theta.new_zeros(2))

    def optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        """Adam: descent in the masks, ascent in the multipliers."""
        ascent = {"lr": self._settings.multiplier_rate, "maximize": True}
        descent = {"lr": learning_rate}
        return torch.optim.Adam(
            [{"params": [self.theta], **descent}, {"params": [self.multipliers], **ascent}]
        )

    def target(self, step: int) -> float:
        """The sparsity to reach in this step, counted from 0."""
        rising = self._settings.warm_up * self._settings.steps
        return self._settings.sparsity * (1.0 if step + 1 >= rising else (step + 1) / rising)

    def penalty(self, step: int) -> Float[Tensor, ""]:
        """lambda1 (t - s) + lambda2 (t - s)^2."""
        missing = self.target(step) - (1 - self.chance().mean())
        return self.multipliers[0] * missing + self.multipliers[1] * missing**2


def ugs(problem: Problem, settings: UGSSettings, session: Session = QUIET) -> MethodResult:
    """The circuit of the edges that are more likely kept than not. Raises `MetricError`."""
    graph = problem.graph
    masking = EdgeMasking(problem)
    draws = settings.draws
    start = math.log(settings.start / (1 - settings.start))
    masks = KeepProbabilities(masking.parameters(start), settings)
    train(masking, masks, settings, draws=draws, session=session)
    values = masking.matrix(masks.theta.detach().double().cpu().sigmoid())
    scores = EdgeScores(graph, values, "ugs", "probability that the edge is kept")
    return MethodResult(Circuit(graph, (values >= 0.5) & graph.exists), scores)


class KeepProbabilities(LearnedMasks):
    """Masks of uniform gradient sampling."""

    def __init__(self, theta: Float[Tensor, "mask"], settings: UGSSettings) -> None:
        super().__init__(theta)
        self._weight = settings.regularisation

    def draw(self, generator: torch.Generator) -> Float[Tensor, "mask"]:
        """One sample of every mask: 1, 0, or uniform with probability p (1 - p)."""
        p = self.theta.sigmoid()
        window = (p * (1 - p)).detach().clamp(min=torch.finfo(p.dtype).tiny)
        # u moves from p - window/2, where m is 1, to p + window/2, where it is 0.
        return (0.5 + (p - uniform(p, generator)) / window).clamp(0, 1)

    def chance(self) -> Float[Tensor, "mask"]:
        """p of every mask."""
        return self.theta.sigmoid()

    def penalty(self, step: int) -> Float[Tensor, ""]:
        """lambda sum of p; it does not change from step to step."""
        return self._weight * self.chance().sum()
