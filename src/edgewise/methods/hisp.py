"""HISP: rank q, k, v vectors and MLP outputs by how the loss would change with them.

Michel et al. 2019 (arXiv 1905.10650), as used by Conmy et al. 2023 (arXiv 2304.14997, spec
section 4).

    1. One run on the clean prompts and its gradients. For every unit C (each head's q, k and v
       vector after the bias, each MLP's output) and every prompt,
           paper (their equation 4)  | sum over positions, channels of (C - ablation) dF / dC |
           code (as was run)         | sum over positions, channels of C dF / dC |
       and from prompts to a score: their mean (paper), their sum (code).
    2. Divide by the L2 norm of the layer's scores, clamped at 1e-6.
    3. Remove units, least important first; scores that differ by rounding alone tie, and ties go
       in construction order: layer by layer all q, all k, all v, the MLP.
    4. From units to edges in one shot, as in Subnetwork Probing.

In the code's reading the ablation plays no part, and a head's q and k always tie: attention sees
them only through their product. With a zero ablation both readings rank alike.

Where we differ: the published sweep converts units to edges one after the other and drops a head's
outputs too early; ours converts each set of units at once. A metric whose gradient is zero at the
full model (kl, l2) is refused, because its ranking is rounding noise; `allow_zero_gradient` ranks
all the same. That reproduces the published l2 runs, whose gradients are exactly 0, but not the KL
runs: there the order is each implementation's own rounding. The published runs take every answer
position for an example of its own, which `PromptPairs.by_position` does; we average a prompt's
positions first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.errors import MetricError, SettingError
from edgewise.graph import Graph
from edgewise.methods.gradients import check_gradient, is_flat, run_with_gradients
from edgewise.methods.method_result import MethodResult
from edgewise.methods.settings import HISPSettings
from edgewise.methods.units import (
    RecordedMLPs,
    UnitAblation,
    UnitValues,
    circuit_of_units,
    unit_activations,
    unit_scores,
    unit_sites,
    units_of,
)
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress


def hisp(
    problem: Problem,
    settings: HISPSettings,
    on_progress: OnProgress = ignore_progress,
) -> MethodResult:
    """The circuit of the most important units. Raises `MetricError`, `SettingError`."""
    return hisp_together(problem, [settings], on_progress)[0]


def hisp_together(
    problem: Problem, each: Sequence[HISPSettings], on_progress: OnProgress = ignore_progress
) -> list[MethodResult]:
    """The circuits of settings that differ only in how many units they keep; gradients once.

    Raises `MetricError`, `SettingError`.
    """
    graph = problem.graph
    sizes = [_n_kept(graph, settings) for settings in each]
    values, steepness = unit_importance(problem, each[0], on_progress)
    order = _removal_order(values, problem.model.dtype)
    meaning = "importance of the units that govern the edge"
    scores = unit_scores(graph, values, "hisp", meaning)
    flat = is_flat(problem, steepness)
    notes = (f"The gradient of {problem.metric.name!r} is zero: the ranking is noise.",)
    circuits = [_without(graph, order[: len(order) - size]) for size in sizes]
    return [MethodResult(circuit, scores, notes=notes if flat else ()) for circuit in circuits]


def _n_kept(graph: Graph, settings: HISPSettings) -> int:
    n, kept = len(units_of(graph)), settings.units
    if kept is None:
        assert settings.unit_share is not None  # the settings class fills it in
        kept = round(settings.unit_share * n)
    if kept > n:
        raise SettingError(f"asked for {kept} units; the graph has {n} (q, k, v vectors and MLPs).")
    return kept


def hisp_circuits(problem: Problem, settings: HISPSettings) -> list[Circuit]:
    """The circuits of a sweep: without the 0, 1, 2, … and finally all units of least importance.

    How many units `settings` keeps plays no part. Raises `MetricError`.
    """
    order = _removal_order(unit_importance(problem, settings)[0], problem.model.dtype)
    return [_without(problem.graph, order[:k]) for k in range(len(order) + 1)]


def unit_importance(
    problem: Problem, settings: HISPSettings, on_progress: OnProgress = ignore_progress
) -> tuple[Float[Tensor, "unit"], float]:
    """Every unit's score, and the largest |dL / d logit| behind it. Raises `MetricError`."""
    graph = problem.graph
    ablation = UnitAblation(problem) if settings.reading == "paper" else None
    total = torch.zeros(len(units_of(graph)), dtype=torch.float64)
    steepness, batches, done = 0.0, problem.pairs.batches(problem.batch_size), 0
    for number, pairs in enumerate(batches, start=1):
        replaced = {} if ablation is None else ablation.values(pairs)
        effects, steep = _effects(problem, pairs, replaced)
        _check_finite(graph, effects, done)
        total += effects.abs().sum(dim=1)
        steepness, done = max(steepness, steep), done + len(pairs)
        on_progress(Progress(number, len(batches), f"{done} prompts"))
    if not settings.allow_zero_gradient:
        check_gradient(problem, "hisp", steepness)
    if settings.reading == "paper":
        total /= len(problem.pairs)
    return (_normalised(graph, total) if settings.normalise else total), steepness


@torch.no_grad()
def _effects(
    problem: Problem, pairs: PromptPairs, ablation: UnitValues
) -> tuple[Float[Tensor, "unit batch"], float]:
    """Each unit's (C - ablation) dF / dC on each prompt, summed over positions and channels."""
    graph, outputs = problem.graph, RecordedMLPs(problem.graph)
    # Prompts do not touch each other, so one backward pass of their sum has each one's gradient.
    run = run_with_gradients(problem, pairs, outputs=outputs)
    live, spans = unit_activations(run.caught.vectors, outputs), pairs.at_spans(graph.spans)
    effects = torch.zeros(len(units_of(graph.whole)), len(spans), len(pairs), dtype=torch.float64)
    for site in unit_sites(graph):
        # The gradient caught at an MLP's site is that of its input; ours is that of its output.
        if site.what == "mlp" and site.layer is not None:
            gradient = outputs.gradients[site.layer][None]
        else:
            gradient = run.caught.gradients[site]
        change = live[site] - ablation[site] if site in ablation else live[site]
        effect = (change * gradient).sum(dim=3).double().cpu()
        effect = torch.einsum("hbp,sbp->hsb", effect, spans.double())
        columns = graph.columns(site)
        n = columns.stop - columns.start
        effects[columns] += effect if len(effect) == n else effect.sum(dim=0, keepdim=True)
    return effects.flatten(0, 1), run.steepness


def _normalised(graph: Graph, scores: Float[Tensor, "unit"]) -> Float[Tensor, "unit"]:
    layers = torch.tensor([port.node.layer for port in units_of(graph)])
    squares = torch.zeros(graph.n_layers, dtype=torch.float64).index_add(0, layers, scores**2)
    return scores / squares.sqrt().clamp(min=1e-6)[layers]


def _removal_order(scores: Float[Tensor, "unit"], dtype: torch.dtype) -> Int[Tensor, "unit"]:
    """Least important first. Scores that differ by rounding alone tie: the split of prompts into
    micro-batches must not decide between a head's q and k.
    """
    rounding = min(64 * torch.finfo(dtype).eps, 0.01)
    order = torch.sort(scores, stable=True).indices
    values = scores[order]
    apart = values[1:] - values[:-1] > rounding * values[1:]
    group = torch.cat([apart.new_zeros(1), apart]).cumsum(dim=0)
    return order[torch.argsort(group * len(order) + order)]


def _without(graph: Graph, removed: Int[Tensor, "_unit"]) -> Circuit:
    kept = torch.ones(len(units_of(graph)), dtype=torch.bool)
    kept[removed] = False
    return circuit_of_units(graph, kept)


def _check_finite(graph: Graph, effects: Float[Tensor, "unit batch"], done: int) -> None:
    bad = (~effects.isfinite()).nonzero()
    if len(bad):
        unit, prompt = bad[0].tolist()
        raise MetricError(
            f"the importance of {units_of(graph)[unit].name} is {effects[unit, prompt].item()} on "
            f"prompt {done + prompt}. Check the prompt, its answers and the model's dtype."
        )
