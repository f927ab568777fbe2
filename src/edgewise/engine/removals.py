"""Losses of removing edges into the receiver at hand, over all micro-batches of a problem."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.engine.batch import LiveBatch
from edgewise.graph import Edge, Node, Port
from edgewise.problem import Problem

_VARIANT_BYTES = 256 * 2**20  # of activations alive at a time, for all variants together


class Removals:
    """The full model, from which edges are removed receiver by receiver, from the output backwards.

    `losses` asks what several removals into one receiver would give, at once; `remove` makes one of
    them final. Answers are the plain evaluator's up to rounding. Counts its own work.
    """

    def __init__(self, problem: Problem) -> None:
        evaluator = problem.evaluator(problem.graph)
        self._graph, self._model = problem.graph, problem.model
        self._sign, self._n_prompts = problem.metric.loss_sign, len(problem.pairs)
        with torch.no_grad():
            self._batches = [
                LiveBatch(problem.model, problem.graph, problem.metric, batch)
                for batch in evaluator.batches
            ]
        self._most: int | None = None  # set when memory ran out
        self.variants = 0  # removals evaluated
        self.rounds = 0  # times they were evaluated, together

    def enter(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> None:
        """Begin with the ports of `node`; everything that reads it has been visited."""
        with torch.no_grad():
            for batch in self._batches:
                batch.enter(node, keep)

    def most_at_once(self) -> int:
        """How many variants fit into the memory set aside for them, or fitted last time."""
        if self._most is not None:
            return self._most
        config = self._model.config
        pairs = max(len(batch) for batch in self._batches)
        width = max(4 * config.d_model, config.d_mlp)
        item = torch.finfo(self._model.dtype).bits // 8
        return max(1, _VARIANT_BYTES // (pairs * self._batches[0].n_positions * width * item))

    def losses(
        self, receiver: Port, candidates: list[Edge], removed: Float[Tensor, "variant candidate"]
    ) -> list[float]:
        """The loss of each variant: 1 marks the candidates it removes, all into `receiver`."""
        try:
            return self._losses(receiver, candidates, removed)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as reason:
            if len(removed) == 1 or not _is_out_of_memory(reason):
                raise
        # Outside the except clause, so that what the failed attempt held is free again.
        half = len(removed) // 2
        self._most = half
        parts = (removed[:half], removed[half:])
        return [loss for part in parts for loss in self.losses(receiver, candidates, part)]

    def _losses(
        self, receiver: Port, candidates: list[Edge], removed: Float[Tensor, "variant candidate"]
    ) -> list[float]:
        with torch.no_grad():
            if candidates[0].is_switch:
                values = [batch.per_prompt_without_switch(receiver) for batch in self._batches]
            else:
                column, rows = self._where(receiver, candidates)
                removed = removed.to(self._model.device, self._model.dtype)
                values = [batch.per_prompt(column, rows, removed) for batch in self._batches]
        self.variants += len(removed)
        self.rounds += 1
        total = torch.stack([value.sum(dim=1) for value in values]).sum(dim=0)
        return (self._sign * total / self._n_prompts).tolist()

    def remove(self, receiver: Port, candidates: list[Edge], removed: list[bool]) -> None:
        """Remove the marked ones of these edges into `receiver` for good."""
        if not any(removed):
            return
        column, rows = self._where(receiver, candidates)
        marks = torch.tensor([removed], dtype=self._model.dtype, device=self._model.device)
        with torch.no_grad():
            for batch in self._batches:
                if candidates[0].is_switch:
                    batch.commit_without_switch(receiver)
                else:
                    batch.commit(column, rows, marks)

    def _where(self, receiver: Port, candidates: list[Edge]) -> tuple[int, Tensor]:
        rows = [self._graph.row(edge.sender) for edge in candidates]
        return self._graph.column(receiver), torch.tensor(rows, device=self._model.device)


def _is_out_of_memory(reason: BaseException) -> bool:
    """torch raises its own error on a GPU, and a RuntimeError of many words on a CPU."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(reason, kinds) or "can't allocate memory" in str(reason)
