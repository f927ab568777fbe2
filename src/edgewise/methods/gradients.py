"""The gradient of the loss at every port, and what it says of every edge.

To first order, removing s->r raises the loss by

    score(s, r) = sum over prompts, positions, channels of (ablated(s) - live(s)) dL/d input(r).

One backward pass gives dL/d vector for the q, k and v vectors of all heads, and dL/d input for MLPs
and the output. A head's port gradients follow from its vectors' alone, through its own projection
and norm, one site at a time: no gradients for weights, and no copy of the stream for each head
during the pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.data import PromptPairs
from edgewise.errors import MetricError
from edgewise.graph import SLOTS, Site
from edgewise.metrics import Metric
from edgewise.model.blocks import Vectors
from edgewise.model.outputs import Outputs, Part, mixed_heads
from edgewise.model.runtime import logits_of, run
from edgewise.patching import AblatedValues, answer_rows
from edgewise.problem import Problem

# What all embeddings, a layer's heads or one MLP, from their row on, write in place of their own.
Replaced = Mapping[int, Float[Tensor, "sender batch pos d_model"]]


class MethodRun(Outputs, ABC):
    """One run on clean prompts: where senders write, and what receivers read of it."""

    @abstractmethod
    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "port batch pos d_model"]:
        """The input of every port of `site`; `outputs` is the run itself."""

    @abstractmethod
    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        """The q, k or v vectors that the heads go on with."""

    def logits_on(self, problem: Problem, pairs: PromptPairs) -> Float[Tensor, "row vocab"]:
        """Make the run; the logits where answers are."""
        final = self.run_on(problem, pairs)
        return logits_of(problem.model, final[pairs.answer_at.to(final.device)])

    def run_on(
        self, problem: Problem, pairs: PromptPairs, order: Sequence[int] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """Make the run; what the output reads. `order` permutes position embeddings."""
        model = problem.model
        graph = problem.graph
        final, _ = run(
            model,
            pairs.clean.to(model.device),
            pairs.real.to(model.device),
            graph=graph,
            reader=self,
            position_permutation=None if order is None else torch.tensor(order),
            outputs=self,
        )
        problem.evaluator(graph).work.forward_passes += 1
        return final


class WatchedRun(MethodRun):
    """An ordinary run: what it wrote, and where ports read the gradients of its loss, if any."""

    logits: Float[Tensor, "row vocab"]
    steepness = 0.0  # the largest |dL / d logit| of a prompt

    def __init__(
        self, problem: Problem, pairs: PromptPairs, replaced: Replaced | None = None
    ) -> None:
        super().__init__(problem.graph)
        self.pairs = pairs
        self.spans = pairs.at_spans(problem.graph.spans).to(problem.model.device)
        self.inputs: dict[int, Float[Tensor, "batch pos d_model"]] = {}  # of heads, by layer
        self.vectors: dict[Site, Float[Tensor, "head batch pos d_head"]] = {}
        self.mlps: list[Float[Tensor, "batch pos d_model"]] = []  # what they wrote
        self.gradients: dict[Site, Tensor] = {}  # by vectors at q, k and v, else by input
        self.mlp_gradients: dict[int, Float[Tensor, "batch pos d_model"]] = {}
        self.mixed_gradients: dict[int, Float[Tensor, "head batch pos d_head"]] = {}
        self._replaced = replaced or {}
        self._n_rows = 0
        self._n_mixed = 0

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        """The stream so far."""
        x = self.residual
        if torch.is_grad_enabled():
            # What came before the first port has no gradient that anybody asks for.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        if site.what == "q" and site.layer is not None:
            self.inputs[site.layer] = x.detach()
        if site.what in ("mlp", "logits"):
            _watch(x, self.gradients, site)
        return x[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        """The vectors as they are."""
        self.vectors[site] = fresh.detach()
        _watch(fresh, self.gradients, site)
        return fresh

    def mixed(self, z: Float[Tensor, "head batch pos d_head"]) -> None:
        """Watch what a layer's heads mixed."""
        _watch(z, self.mixed_gradients, self._n_mixed)
        self._n_mixed += 1

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, and keep it."""
        _watch(value, self.mlp_gradients, len(self.mlps))
        self.mlps.append(value.detach())
        super().write_mlp(value)

    def append(self, part: Part) -> None:
        """Take the next senders, or what is to replace them."""
        super().append(self._replaced.get(self._n_rows, part))
        self._n_rows += len(part)

    def changes(self, ablation: AblatedValues) -> RemovalChanges:
        """What each removal changes of this run."""
        ablated = ablation.senders
        live = self.senders.mapped(torch.Tensor.detach)
        change = live.mapped(torch.neg) if ablated is None else ablated.minus(live)
        vectors = {site: x - self.vectors[site] for site, x in ablation.vectors.items()}
        return RemovalChanges(ablation, change.dense(), vectors)


@dataclass(frozen=True, eq=False)
class RemovalChanges:
    """Ablation - live of what senders write, and of switched vectors; and the ablation."""

    ablation: AblatedValues
    senders: Float[Tensor, "sender batch pos d_model"]
    vectors: Mapping[Site, Tensor]


def _watch(x: Tensor, gradients: dict[Any, Tensor], key: Any) -> None:
    """Put the gradient of x into `gradients` when there is one."""
    if x.requires_grad:
        x.register_hook(lambda gradient: gradients.__setitem__(key, gradient))


@torch.no_grad()
def clean_run(problem: Problem, pairs: PromptPairs) -> WatchedRun:
    """An ordinary run on the clean prompts of a micro-batch."""
    watched = WatchedRun(problem, pairs)
    watched.logits = watched.logits_on(problem, pairs)
    return watched


def run_with_gradients(
    problem: Problem,
    pairs: PromptPairs,
    *,
    clean_logits: Tensor | None = None,
    replaced: Replaced | None = None,
) -> WatchedRun:
    """Run a micro-batch once forward and once backward, from its prompts' summed loss.

    Without `clean_logits` the run's own are what the metric takes for the full model's; a problem's
    target comes before both. Raises `MetricError` if the metric has no gradient, or is not finite.
    """
    metric = problem.metric
    evaluator = problem.evaluator(problem.graph)
    if problem.target is not None:
        clean_logits = evaluator.target_logits(pairs)
    watched = WatchedRun(problem, pairs, replaced)
    with torch.enable_grad():
        logits = watched.logits_on(problem, pairs)
        watched.logits = logits.detach()
        leaf = logits.detach().requires_grad_()
        rows = answer_rows(pairs, watched.logits if clean_logits is None else clean_logits)
        values = metric.per_prompt(leaf, rows, len(pairs))
        if not values.isfinite().all():
            raise _not_finite(problem, pairs, values)
        if not values.requires_grad:
            raise no_gradient(metric)
        (metric.loss_sign * values.sum()).backward()
        assert leaf.grad is not None  # it is what the loss was computed from
        logits.backward(leaf.grad)
    evaluator.work.backward_passes += 1
    watched.steepness = float(leaf.grad.abs().max())
    return watched


@torch.no_grad()
def edge_scores(
    problem: Problem, watched: WatchedRun, changes: RemovalChanges
) -> Float[Tensor, "sender port"]:
    """The first-order effect of removing each edge, summed over prompts, in float64 on the CPU."""
    graph = problem.graph
    whole = graph.whole
    spans = watched.spans
    additive = whole.exists & ~whole.is_switch
    is_switch = whole.is_switch
    scores = torch.zeros(len(spans), *whole.exists.shape, dtype=torch.float64)
    apart = graph.spans is not None
    of_spans = [changes.senders[:, at] if apart else changes.senders for at in spans]
    flat = [change.flatten(1) for change in of_spans]
    for columns, gradients in _port_gradients(problem, watched):
        n = int(additive[:, columns].any(dim=1).nonzero().max()) + 1  # who may send here
        for span, (change, at) in enumerate(zip(flat, spans, strict=True)):
            own = gradients[:, at] if apart else gradients
            # One product for q, k and v: three of a third the width take twice as long.
            product = change[:n] @ own.flatten(1).T
            scores[span, :n, columns] = product.double().cpu()
    scores = scores.where(additive, 0.0)
    for site, change in changes.vectors.items():
        if site not in watched.gradients:
            continue  # something else was written in the place of what these heads give
        by_position = (change * watched.gradients[site]).sum(dim=3).double()
        effects = torch.einsum("hbp,sbp->sh", by_position, spans.double()).cpu()
        columns = whole.columns[site]
        effects = effects if whole.split_heads else effects.sum(dim=1, keepdim=True)
        scores[:, :, columns] += is_switch[:, columns] * effects[:, None]
    return graph.of_spans(scores)


def _port_gradients(
    problem: Problem, watched: WatchedRun
) -> Iterator[tuple[slice, Float[Tensor, "port batch pos d_model"]]]:
    """dL / d input of all ports, by the columns of those that read the same senders."""
    graph = problem.graph.whole
    for site, gradient in watched.gradients.items():
        if site.what in ("mlp", "logits"):
            yield graph.columns[site], gradient[None]
    for layer in range(graph.n_layers):
        if not any(Site(layer, slot) in watched.gradients for slot in SLOTS):
            continue  # something else was written in the place of what these heads give
        first, *_, last = [graph.columns[Site(layer, slot)] for slot in SLOTS]
        yield slice(first.start, last.stop), _at_heads(problem, watched, layer)


def _at_heads(
    problem: Problem, watched: WatchedRun, layer: int
) -> Float[Tensor, "port batch pos d_model"]:
    """dL / d input of a layer's q ports, k ports and v ports; joined ports add theirs up.

    All of them read the same stream here, so one norm does for all.
    """
    block = problem.model.blocks[layer]
    graph = problem.graph.whole
    read = watched.inputs[layer]
    x = read.to(block.device)
    sites = [graph.columns[Site(layer, slot)] for slot in SLOTS]
    sizes = [site.stop - site.start for site in sites]
    at_norm = x.new_empty(sum(sizes), *x.shape)
    for slot, out in zip(SLOTS, at_norm.split(sizes), strict=True):
        gradient = watched.gradients.get(Site(layer, slot))
        if gradient is None:
            out.zero_()
            continue
        gradient = gradient.to(x.device)
        weight = problem.model.weights[f"blocks.{layer}.attn.W_{slot.upper()}"].mT.to(x.dtype)
        if not graph.split_heads:
            out[0] = mixed_heads(gradient, weight)
            continue
        if len(weight) < len(gradient):  # every head has a port of its own to shared keys, values
            weight = block.of_heads(slot, weight, slice(None))
        torch.bmm(gradient.flatten(1, 2), weight, out=out.flatten(1, 2))
    result = block.ln1.pullback(x, at_norm).to(read.device)
    return result if graph.split_qkv else result.unflatten(0, (3, -1)).sum(dim=0)


# --- errors


def no_gradient(metric: Metric) -> MetricError:
    """The error for a metric that cannot be differentiated."""
    return MetricError(
        f"metric {metric.name!r} has no gradient with respect to the logits. Use kl, logit-diff, "
        "prob-diff, nll or l2, or a method without gradients: acdc, exact."
    )


def _not_finite(problem: Problem, pairs: PromptPairs, values: Tensor) -> MetricError:
    """The error for a micro-batch, naming the prompt by its number among all."""
    bad = int((~values.isfinite()).nonzero()[0])
    same = (problem.pairs.clean == pairs.clean[bad]).all(dim=1)
    return MetricError(
        f"metric {problem.metric.name!r} is {values[bad].item()} on prompt "
        f"{int(same.nonzero()[0])}, where a gradient is taken. Check the prompt, its answers and "
        "the model's dtype."
    )


def is_flat(problem: Problem, steepness: float) -> bool:
    """Whether |dL / d logit| is no more than rounding at every point where it was taken."""
    dtype = problem.model.compute_dtype  # metrics compute in no less
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
