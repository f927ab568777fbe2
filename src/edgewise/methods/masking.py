"""Masks on a run: what every kind of mask has in common.

A mask m in [0, 1] turns x into m x + (1 - m) ablated(x), where x is what an edge carries
(edge_masks.py) or an activation (node_masks.py). One is the clean run, zero the ablated one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.methods.gradients import MethodRun, no_gradient
from edgewise.problem import Problem


class Masking(ABC):
    """How masks act on the runs of a problem."""

    n_masks: int

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._evaluator = problem.evaluator(problem.graph)

    @abstractmethod
    def on_batch(self, number: int, masks: Float[Tensor, "mask"]) -> MethodRun:
        """A run of a micro-batch with these masks, not yet made."""

    @abstractmethod
    def name(self, mask: int) -> str:
        """What mask number `mask` is about."""

    def parameters(self, start: float) -> Float[Tensor, "mask"]:
        """A parameter for each mask, all at `start`, where and as exactly as the model computes."""
        model = self.problem.model
        dtype = model.compute_dtype
        return torch.full((self.n_masks,), start, dtype=dtype, device=model.device)

    def logits(self, number: int, masks: Float[Tensor, "mask"]) -> Float[Tensor, "row vocab"]:
        """The logits of micro-batch `number` where answers are, run with these masks."""
        pairs = self._evaluator.batches[number].pairs
        return self.on_batch(number, masks).logits_on(self.problem, pairs)

    def losses(self, number: int, masks: Float[Tensor, "mask"]) -> Float[Tensor, "batch"]:
        """The loss of each prompt of micro-batch `number`."""
        metric = self.problem.metric
        batch = self._evaluator.batches[number]
        logits = self.logits(number, masks)
        clean = batch.rows.clean_logits.clone()  # a user's metric may write to it
        rows = replace(batch.rows, clean_logits=clean)
        return metric.loss_sign * metric.per_prompt(logits, rows, len(batch.pairs))

    def loss_and_gradient(
        self, masks: Float[Tensor, "mask"]
    ) -> tuple[float, Float[Tensor, "mask"]]:
        """The mean loss over prompts, and its gradient by the masks. Raises `MetricError`.

        Micro-batch by micro-batch: the gradient adds up, and nothing else is kept between them.
        """
        leaf = masks.detach().clone().requires_grad_()
        total = 0.0
        for number in range(len(self._evaluator.batches)):
            with torch.enable_grad():
                loss = self.losses(number, leaf).sum() / len(self.problem.pairs)
                if not loss.requires_grad:
                    raise no_gradient(self.problem.metric)
                loss.backward()
            total += loss.item()
            self._evaluator.work.backward_passes += 1
        assert leaf.grad is not None  # the loss requires grad, and the masks are all that does
        return total, leaf.grad
