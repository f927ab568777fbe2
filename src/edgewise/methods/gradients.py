"""The gradient of the loss at every port, and what it says of every edge.

To first order, removing s->r raises the loss by

    score(s, r) = sum over prompts, positions, channels of (ablated(s) - live(s)) dL/d input(r).

One backward pass gives dL/d vector for the q, k and v vectors of all heads, and dL/d input for MLPs
and the output. A head's port gradients follow from its vectors' alone, through its own projection
and norm, one site at a time: no gradients for weights, and no copy of the stream for each head
during the pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import MetricError
from edgewise.graph import SLOTS, Graph, Site
from edgewise.model import Model
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, SenderOutputs, mixed_heads
from edgewise.model.runtime import CleanReader, logits_of, run
from edgewise.patching import AblatedValues, RecordingReader, answer_rows
from edgewise.problem import Problem


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What an ordinary run on the clean prompts wrote."""

    logits: Float[Tensor, "row vocab"]
    senders: SenderOutputs
    vectors: Mapping[Site, Tensor]  # q, k and v, [head batch pos d_head]


@torch.no_grad()
def clean_run(problem: Problem, pairs: PromptPairs) -> CleanRun:
    """Run the clean prompts of a micro-batch."""
    model, reader = problem.model, RecordingReader(CleanReader())
    tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
    final, outputs = run(model, tokens, real, graph=problem.graph, reader=reader)
    problem.evaluator(problem.graph).work.forward_passes += 1
    logits = logits_of(model, final[pairs.answer_at.to(model.device)])
    return CleanRun(logits, outputs.senders, reader.vectors)


class GradientReader:
    """An ordinary forward pass that catches gradients where ports read."""

    def __init__(self) -> None:
        self.inputs: dict[Site, Float[Tensor, "batch pos d_model"]] = {}
        self.vectors: dict[Site, Float[Tensor, "head batch pos d_head"]] = {}
        self.gradients: dict[Site, Tensor] = {}  # by vectors at q, k and v, else by input

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        x = outputs.residual
        # What came before the first port has no gradient that anybody asks for.
        x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        self.inputs[site] = x.detach()
        if site.what in ("mlp", "logits"):
            _watch(x, self.gradients, site)
        return x[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        self.vectors[site] = fresh.detach()
        _watch(fresh, self.gradients, site)
        return fresh


class WatchedOutputs(Outputs):
    """Outputs that keep what MLPs wrote, and catch gradients behind heads and MLPs, by layer."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.mlps: list[Float[Tensor, "batch pos d_model"]] = []
        self.mlp_gradients: dict[int, Float[Tensor, "batch pos d_model"]] = {}
        self.mixed_gradients: dict[int, Float[Tensor, "head batch pos d_head"]] = {}
        self._n_mixed = 0

    def mixed(self, z: Float[Tensor, "head batch pos d_head"]) -> None:
        """Watch what a layer's heads mixed."""
        _watch(z, self.mixed_gradients, self._n_mixed)
        self._n_mixed += 1

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, and keep it."""
        _watch(value, self.mlp_gradients, len(self.mlps))
        self.mlps.append(value.detach())
        super().write_mlp(value)


def _watch(x: Tensor, gradients: dict[Any, Tensor], key: Any) -> None:
    """Put the gradient of x into `gradients` when there is one."""
    if x.requires_grad:
        x.register_hook(lambda gradient: gradients.__setitem__(key, gradient))


@dataclass(frozen=True, eq=False)
class GradientRun:
    """One run with gradients: what it wrote, and the gradients where ports read."""

    clean: CleanRun
    caught: GradientReader
    steepness: float  # the largest |dL / d logit| of a prompt


def run_with_gradients(
    problem: Problem,
    pairs: PromptPairs,
    *,
    clean_logits: Tensor | None = None,
    outputs: Outputs | None = None,
) -> GradientRun:
    """Run a micro-batch once forward and once backward, from its prompts' summed loss.

    `outputs` is where senders write. Without `clean_logits` the run's own are what the metric takes
    for the full model's; a problem's target comes before both. Raises `MetricError` if the metric
    has no gradient, or is not finite.
    """
    model, metric, reader = problem.model, problem.metric, GradientReader()
    if problem.target is not None:
        clean_logits = problem.evaluator(problem.graph).target_logits(pairs)
    tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
    with torch.enable_grad():
        final, outputs = run(
            model, tokens, real, graph=problem.graph, reader=reader, outputs=outputs
        )
        logits = logits_of(model, final[pairs.answer_at.to(model.device)])
        leaf = logits.detach().requires_grad_()
        rows = answer_rows(pairs, logits.detach() if clean_logits is None else clean_logits)
        values = metric.per_prompt(leaf, rows, len(pairs))
        if not values.isfinite().all():
            raise _not_finite(problem, pairs, values)
        loss = metric.loss_sign * values.sum()
        if not loss.requires_grad:
            raise MetricError(
                f"metric {metric.name!r} has no gradient with respect to the logits. Use kl, "
                "logit-diff, prob-diff, nll or l2, or a method without gradients: acdc, exact."
            )
        loss.backward()
        assert leaf.grad is not None  # it is what the loss was computed from
        logits.backward(leaf.grad)
    work = problem.evaluator(problem.graph).work
    work.forward_passes += 1
    work.backward_passes += 1
    senders = outputs.senders.mapped(torch.Tensor.detach)
    clean = CleanRun(logits.detach(), senders, reader.vectors)
    return GradientRun(clean, reader, float(leaf.grad.abs().max()))


def _not_finite(problem: Problem, pairs: PromptPairs, values: Tensor) -> MetricError:
    """The error for a micro-batch, naming the prompt by its number among all."""
    bad = int((~values.isfinite()).nonzero()[0])
    same = (problem.pairs.clean == pairs.clean[bad]).all(dim=1)
    return MetricError(
        f"metric {problem.metric.name!r} is {values[bad].item()} on prompt "
        f"{int(same.nonzero()[0])}, where a gradient is taken. Check the prompt, its answers and "
        "the model's dtype."
    )


@dataclass(frozen=True, eq=False)
class RemovalChanges:
    """What each removal changes: ablation - live of what senders write, and of switched vectors."""

    senders: Float[Tensor, "sender batch pos d_model"]
    vectors: Mapping[Site, Tensor]

    @classmethod
    def of(cls, live: CleanRun, ablation: AblatedValues) -> RemovalChanges:
        """The changes from a run to its ablation."""
        ablated = ablation.senders
        change = live.senders.mapped(torch.neg) if ablated is None else ablated.minus(live.senders)
        vectors = {site: x - live.vectors[site] for site, x in ablation.vectors.items()}
        return cls(change.dense(), vectors)


def port_gradients(
    model: Model, graph: Graph, caught: GradientReader
) -> Iterator[tuple[slice, Float[Tensor, "port batch pos d_model"]]]:
    """dL / d input of all ports, by the columns of those that read the same senders."""
    for site, gradient in caught.gradients.items():
        if site.what in ("mlp", "logits"):
            yield graph.columns[site], gradient[None]
    for layer in range(graph.n_layers):
        if not any(Site(layer, slot) in caught.gradients for slot in SLOTS):
            continue  # something else was written in the place of what these heads give
        first, *_, last = [graph.columns[Site(layer, slot)] for slot in SLOTS]
        yield slice(first.start, last.stop), _at_heads(model, graph, caught, layer)


def _at_heads(
    model: Model, graph: Graph, caught: GradientReader, layer: int
) -> Float[Tensor, "port batch pos d_model"]:
    """dL / d input of a layer's q ports, k ports and v ports; joined ports add theirs up.

    All of them read the same stream here, so one norm does for all.
    """
    block, x = model.blocks[layer], caught.inputs[Site(layer, "q")]
    home, there = x.device, block.device
    x = x.to(there)
    sites = [graph.columns[Site(layer, slot)] for slot in SLOTS]
    sizes = [site.stop - site.start for site in sites]
    at_norm = x.new_empty(sum(sizes), *x.shape)
    for slot, out in zip(SLOTS, at_norm.split(sizes), strict=True):
        gradient = caught.gradients.get(Site(layer, slot))
        if gradient is None:
            out.zero_()
            continue
        gradient = gradient.to(there)
        weight = model.weights[f"blocks.{layer}.attn.W_{slot.upper()}"].mT
        if not graph.split_heads:
            out[0] = mixed_heads(gradient, weight)
            continue
        if len(weight) < len(gradient):  # every head has a port of its own to shared keys, values
            weight = block.of_heads(slot, weight, slice(None))
        torch.bmm(gradient.flatten(1, 2), weight, out=out.flatten(1, 2))
    result = block.ln1.pullback(x, at_norm).to(home)
    return result if graph.split_qkv else result.unflatten(0, (3, -1)).sum(dim=0)


@torch.no_grad()
def edge_scores(
    problem: Problem,
    changes: RemovalChanges,
    caught: GradientReader,
    *,
    spans: Bool[Tensor, "span batch pos"],
) -> Float[Tensor, "sender port"]:
    """The first-order effect of removing each edge, summed over prompts, in float64 on the CPU."""
    graph, whole = problem.graph, problem.graph.whole
    additive, is_switch = whole.exists & ~whole.is_switch, whole.is_switch
    scores = torch.zeros(len(spans), *whole.exists.shape, dtype=torch.float64)
    apart = graph.spans is not None
    of_spans = [changes.senders[:, at] if apart else changes.senders for at in spans]
    flat = [change.flatten(1) for change in of_spans]
    for columns, gradients in port_gradients(problem.model, whole, caught):
        n = int(additive[:, columns].any(dim=1).nonzero().max()) + 1  # who may send here
        for span, (change, at) in enumerate(zip(flat, spans, strict=True)):
            own = gradients[:, at] if apart else gradients
            # One product for q, k and v: three of a third the width take twice as long.
            product = change[:n] @ own.flatten(1).T
            scores[span, :n, columns] = product.double().cpu()
    scores = scores.where(additive, 0.0)
    for site, change in changes.vectors.items():
        if site not in caught.gradients:
            continue  # something else was written in the place of what these heads give
        by_position = (change * caught.gradients[site]).sum(dim=3).double()
        effects = torch.einsum("hbp,sbp->sh", by_position, spans.double()).cpu()
        columns = whole.columns[site]
        effects = effects if whole.split_heads else effects.sum(dim=1, keepdim=True)
        scores[:, :, columns] += is_switch[:, columns] * effects[:, None]
    return graph.of_spans(scores)


def is_flat(problem: Problem, steepness: float) -> bool:
    """Whether |dL / d logit| is no more than rounding at every point where it was taken."""
    dtype = torch.promote_types(problem.model.dtype, torch.float32)  # metrics compute in no less
    return steepness <= 16 * torch.finfo(dtype).eps


def check_gradient(problem: Problem, method: str, steepness: float, *, hint: str = "") -> None:
    """Raise `MetricError` if a method's scores would be rounding noise."""
    if is_flat(problem, steepness):
        raise MetricError(
            f"the gradient of {problem.metric.name!r} is zero where {method} takes it (the full "
            "model is the minimum of kl and l2), so its scores would be rounding noise. Use "
            "eap-ig, clean-corrupted, exact or acdc, or another metric such as logit-diff."
            f"{hint}"
        )
