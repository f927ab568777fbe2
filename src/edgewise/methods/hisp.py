"""HISP: rank q, k, v vectors and MLP outputs by how the loss would change with them.

Michel et al. 2019 (arXiv 1905.10650), as used by Conmy et al. 2023 (arXiv 2304.14997).

    1. One run on the clean prompts and its gradients. For every activation C (each head's q, k
       and v vector after the bias, each MLP's output) and every prompt,
           paper (their equation 4)  | sum over positions, channels of (C - ablation) dF / dC |
           code (as was run)         | sum over positions, channels of C dF / dC |
       and from prompts to a score: their mean (paper), their sum (code).
    2. Divide by the L2 norm of the layer's scores, clamped at 1e-6.
    3. Remove activations, least important first; scores that differ by rounding alone tie, and
       ties go in construction order: layer by layer all q, all k, all v, the MLP.
    4. From activations to edges in one shot, as in Subnetwork Probing.

In the code's reading the ablation plays no part, and a head's q and k always tie: attention sees
them only through their product. With a zero ablation both readings rank alike.

Where we differ: the published sweep converts activations to edges one after the other and drops a
head's outputs too early; ours converts each set of them at once. A metric whose gradient is zero at
the full model (kl, l2) is refused, because its ranking is rounding noise; `allow_zero_gradient`
ranks all the same. That reproduces the published l2 runs, whose gradients are exactly 0, but not
the KL runs: there the order is each implementation's own rounding. The published runs take every
answer position for an example of its own, which `PromptPairs.by_position` does; we average a
prompt's positions first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import SettingError
from edgewise.methods.gradients import (
    check_gradient,
    is_flat,
    run_with_gradients,
)
from edgewise.methods.method_result import MethodResult
from edgewise.methods.node_masks import (
    ActivationAblation,
    Activations,
    activations_of,
    circuit_of_activations,
    masked_activations,
    masked_sites,
    scores_of_activations,
)
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import HISPSettings
from edgewise.problem import Problem


def hisp(problem: Problem, settings: HISPSettings, session: Session = QUIET) -> MethodResult:
    """The circuit of the most important activations. Raises `MetricError`, `SettingError`."""
    return hisp_together(problem, [settings], session)[0]


def hisp_together(
    problem: Problem, choices: Sequence[HISPSettings], session: Session = QUIET
) -> list[MethodResult]:
    """The circuits of settings that differ only in how many activations they keep.

    The gradients are taken once. Raises `MetricError`, `SettingError`.
    """
    graph = problem.graph
    n = len(masked_activations(graph))
    sizes = [_n_kept(n, settings) for settings in choices]
    values, steepness = importance(problem, choices[0], session)
    order = _removal_order(values, problem.model.compute_dtype)
    rank = order.argsort()
    meaning = "importance of the activations that govern the edge"
    scores = scores_of_activations(graph, values, method="hisp", meaning=meaning)
    if not choices[0].allow_zero_gradient:
        hint = " allow_zero_gradient=True ranks all the same."
        check_gradient(problem, "hisp", steepness, hint=hint)
    note = f"The gradient of {problem.metric.name!r} is zero: the ranking is noise."
    notes = (note,) if is_flat(problem, steepness) else ()
    circuits = [circuit_of_activations(graph, rank >= n - size) for size in sizes]
    return [MethodResult(circuit, scores, notes=notes) for circuit in circuits]


def _n_kept(n: int, settings: HISPSettings) -> int:
    kept = settings.activations
    if kept is None:
        assert settings.activation_share is not None  # the settings class fills it in
        kept = round(settings.activation_share * n)
    if kept > n:
        raise SettingError(
            f"{kept} activations are to be kept; the graph has {n} (q, k, v vectors and MLPs)."
        )
    return kept


def importance(
    problem: Problem, settings: HISPSettings, session: Session = QUIET
) -> tuple[Float[Tensor, "activation"], float]:
    """Every activation's score, and the largest |dL / d logit| behind it. Raises `MetricError`."""
    graph = problem.graph
    is_paper = settings.reading == "paper"
    ablation = ActivationAblation(problem) if is_paper else None
    total = torch.zeros(len(masked_activations(graph)), dtype=torch.float64)
    steepness = 0.0
    done = 0
    for pairs in problem.pairs.batches(problem.batch_size):
        replaced = {} if ablation is None else ablation.values(pairs)
        effects, batch_steepness = _effects(problem, pairs, replaced)
        total += effects.abs().sum(dim=1)
        steepness = max(steepness, batch_steepness)
        done += len(pairs)
        session.tell(done, len(problem.pairs), "prompts")
    if is_paper:
        total /= len(problem.pairs)
    if settings.normalise:
        layers = torch.tensor([port.node.layer for port in masked_activations(graph)])
        squares = torch.zeros(graph.n_layers, dtype=torch.float64).index_add(0, layers, total**2)
        total /= squares.sqrt().clamp(min=1e-6)[layers]
    return total, steepness


@torch.no_grad()
def _effects(
    problem: Problem, pairs: PromptPairs, ablation: Activations
) -> tuple[Float[Tensor, "activation batch"], float]:
    """Each activation's (C - ablation) dF / dC by prompt, summed over positions and channels."""
    graph = problem.graph
    # Prompts do not touch each other, so one backward pass of their sum has each one's gradient.
    watched = run_with_gradients(problem, pairs)
    live = activations_of(watched)
    spans = watched.spans.double().cpu()
    n = len(masked_activations(graph.whole))
    effects = torch.zeros(n, len(spans), len(pairs), dtype=torch.float64)
    for site in masked_sites(graph):
        # The gradient caught at an MLP's site is that of its input; ours is that of its output.
        if site.what == "mlp" and site.layer is not None:
            gradient = watched.mlp_gradients[site.layer][None]
        else:
            gradient = watched.gradients[site]
        change = live[site] - ablation[site] if site in ablation else live[site]
        effect = (change * gradient).sum(dim=3).double().cpu()
        effect = torch.einsum("hbp,sbp->hsb", effect, spans)
        own = effects[graph.columns[site]]
        own += effect if len(effect) == len(own) else effect.sum(dim=0, keepdim=True)
    return effects.flatten(0, 1), watched.steepness


def _removal_order(
    scores: Float[Tensor, "activation"], dtype: torch.dtype
) -> Int[Tensor, "activation"]:
    """Least important first. Scores that differ by rounding alone tie: the split of prompts into
    micro-batches must not decide between a head's q and k.
    """
    rounding = min(64 * torch.finfo(dtype).eps, 0.01)
    order = torch.sort(scores, stable=True).indices
    values = scores[order]
    apart = values[1:] - values[:-1] > rounding * values[1:]
    group = torch.cat([apart.new_zeros(1), apart]).cumsum(dim=0)
    return order[torch.argsort(group * len(order) + order)]
