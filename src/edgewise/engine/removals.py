"""Losses of removing edges into the receiver at hand, over all micro-batches of a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.batch import MicroBatch
from edgewise.engine.memory import variant_bytes
from edgewise.engine.speculation import Loss, ReceiverStep, SpeculativeBatch
from edgewise.graph import Edge
from edgewise.problem import Problem

_Value = TypeVar("_Value")
_ROUNDING = 32  # epsilons of a loss that sums in another order differ by: docs/log has measurements


class Removals:
    """A model from which edges are removed receiver by receiver, from the output backwards.

    It begins with all edges, or with those of the circuit `base`, every edge of which must lead on
    to the output (`base.without_unread()`).

    `losses` says what several removals into one receiver would give, at once; `remove` makes some
    of them final. Losses are the plain evaluator's up to rounding; `estimates`, where the metric
    has them, up to the bound that each comes with.
    """

    def __init__(self, problem: Problem, *, base: Circuit | None = None) -> None:
        evaluator = problem.evaluator(problem.graph)
        self._model, self._pairs = problem.model, problem.pairs
        self._rounding = _ROUNDING * torch.finfo(problem.model.compute_dtype).eps
        self._sign = problem.metric.loss_sign
        self._most_in_memory: int | None = None  # variants at once; known when memory ran out
        self._slack = 1.0  # how much wider than promised the bounds of estimates are
        self.variants = 0  # removals evaluated so far, those in vain included
        with torch.no_grad():
            self._batches = [
                MicroBatch(problem.model, problem.graph, problem.metric, batch=batch, base=base)
                for batch in evaluator.batches
            ]

    @torch.no_grad()
    def start(self, step: ReceiverStep, circuit: Circuit) -> None:
        """Begin with a receiver; everything that reads its node has its final edges."""
        for batch in self._batches:
            batch.activate(step.receiver.node, circuit.keep)

    @torch.no_grad()
    def most_at_once(self, step: ReceiverStep) -> int:
        """How many removals of a step fit into the memory for them, or fitted last time."""
        if self._most_in_memory is not None:
            return self._most_in_memory
        config = self._model.config
        hidden = self._pairs.n_positions * max(4 * config.d_model, config.d_mlp)
        widths = [len(batch) * max(hidden, batch.width(step)) for batch in self._batches]
        item = self._model.compute_dtype.itemsize
        return max(1, variant_bytes(self._model.device) // (max(widths) * item))

    def losses(self, step: ReceiverStep, *batches: SpeculativeBatch) -> list[Loss]:
        """The loss of each variant of removals into a receiver, exact up to rounding."""
        return self._halving(self._losses, step, batches)

    def alone(self, step: ReceiverStep) -> Iterator[tuple[Edge, float]]:
        """The loss without each edge of a step, when all others are there."""
        most = self.most_at_once(step)
        for start in range(0, len(step.edges), most):
            edges = step.edges[start : start + most]
            batch = SpeculativeBatch((), start, (False,) * len(edges))
            for edge, loss in zip(edges, self.losses(step, batch), strict=True):
                yield edge, loss.value

    def per_prompt(
        self, step: ReceiverStep, *batches: SpeculativeBatch
    ) -> list[Float[Tensor, "batch"]]:
        """The loss of each prompt, for each variant of removals into a receiver."""
        return self._halving(self._per_prompt, step, batches)

    @torch.no_grad()
    def per_prompt_now(self) -> Float[Tensor, "batch"]:
        """The loss of each prompt with everything removed that `remove` removed."""
        return self._sign * torch.cat([batch.per_prompt_now() for batch in self._batches])

    def estimates(self, step: ReceiverStep, batch: SpeculativeBatch) -> list[Loss]:
        """Estimates of the losses, on top of the last `rebase`. Only where the metric has them."""
        return self._halving(self._estimates, step, (batch,))

    @torch.no_grad()
    def rebase(self, expected: Loss | None = None) -> Loss:
        """The loss of the current state, exactly; estimates are relative to it from now on.

        If `expected`, an estimate of it, was poorer than promised, later ones promise less.
        """
        loss = self._mean([batch.rebase()[None] for batch in self._batches])[0].item()
        if expected is not None and expected.rung == "estimate":
            self._slack *= 2 if abs(expected.value - loss) > expected.bound / 2 else 1
        return self._rounded(loss)

    @torch.no_grad()
    def remove(self, step: ReceiverStep, removed: tuple[int, ...]) -> None:
        """Remove candidates of a step, by their index, for good."""
        for batch in self._batches if removed else ():
            batch.remove(step, removed)

    def _halving(
        self,
        evaluate: Callable[[ReceiverStep, Sequence[SpeculativeBatch]], list[_Value]],
        step: ReceiverStep,
        batches: Sequence[SpeculativeBatch],
    ) -> list[_Value]:
        """Evaluate batches, in parts if memory runs out."""
        variants = sum(map(len, batches))
        if len(batches) > 1 and variants > self.most_at_once(step):
            return [value for b in batches for value in self._halving(evaluate, step, (b,))]
        try:
            values = evaluate(step, batches)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as reason:
            if variants == 1 or not _is_out_of_memory(reason):
                raise
        else:
            self.variants += variants
            return values
        # Outside the except clause, so that what the failed attempt held is free again.
        self._most_in_memory = variants // 2
        parts = [part for b in batches for part in (b.halves() if len(b) > 1 else (b,))]
        return [value for part in parts for value in self._halving(evaluate, step, (part,))]

    @torch.no_grad()
    def _losses(self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]) -> list[Loss]:
        losses = self._mean(self._values(step, batches))
        return [self._rounded(loss) for loss in losses.tolist()]

    @torch.no_grad()
    def _per_prompt(
        self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]
    ) -> list[Float[Tensor, "batch"]]:
        return list(self._sign * torch.cat(self._values(step, batches), dim=1))

    def _values(
        self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]
    ) -> list[Float[Tensor, "variant _batch"]]:
        """The metric of each variant and prompt, by micro-batch."""
        return [batch.per_prompt(step, batches) for batch in self._batches]

    @torch.no_grad()
    def _estimates(self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]) -> list[Loss]:
        pairs = [batch.estimates(step, batches) for batch in self._batches]
        losses, bounds = (self._mean(values).tolist() for values in zip(*pairs, strict=True))
        return [
            Loss(loss, self._slack * abs(bound), "estimate")
            for loss, bound in zip(losses, bounds, strict=True)
        ]

    def _mean(self, values: Sequence[Float[Tensor, "variant _batch"]]) -> Float[Tensor, "variant"]:
        total = torch.stack([value.sum(dim=1) for value in values]).sum(dim=0)
        return self._sign * total / len(self._pairs)

    def _rounded(self, loss: float) -> Loss:
        """A loss that was computed in the compute dtype."""
        return Loss(loss, self._rounding * max(1.0, abs(loss)))


def _is_out_of_memory(reason: BaseException) -> bool:
    """torch raises its own error on a GPU, and a RuntimeError of many words on a CPU."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(reason, kinds) or "can't allocate memory" in str(reason)
