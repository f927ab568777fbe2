"""Losses of removing edges into the receiver at hand, over all micro-batches of a problem."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.batch import LiveBatch
from edgewise.engine.budgets import variant_bytes
from edgewise.engine.paths import Estimate, Path
from edgewise.engine.reduced import ReducedProducts
from edgewise.graph import Edge, Node, Port
from edgewise.problem import Problem

_Answer = TypeVar("_Answer")


@dataclass
class Effort:
    """What was evaluated, by everything that shares this count."""

    variants: int = 0  # removals
    most: int | None = None  # variants that fit into memory at once; set when it ran out


class Removals:
    """A model from which edges are removed receiver by receiver, from the output backwards.

    It begins with all edges, or with those of the circuit `base`, every edge of which must lead on
    to the output (`base.without_unread()`).

    `losses` asks what several removals into one receiver would give, at once; `remove` makes some
    of them final. Answers are the plain evaluator's up to rounding. With `reduced`, `estimates` are
    made with products in bfloat16, each with a bound on its error.
    """

    def __init__(
        self, problem: Problem, *, reduced: bool = False, base: Circuit | None = None
    ) -> None:
        evaluator = problem.evaluator(problem.graph)
        self._graph, self._model = problem.graph, problem.model
        self._sign, self._n_prompts = problem.metric.loss_sign, len(problem.pairs)
        self._reduced = ReducedProducts(problem.model) if reduced else None
        self.effort = Effort()
        self.doubt = 1.0  # how much larger than promised errors of estimates may be
        self.vague = math.inf  # the smallest bound on an error in the latest estimates
        self.unchecked = 0  # receivers whose removals no exact loss has confirmed yet
        self.worst_error = 0.0  # the largest error of an estimate seen, as a part of its bound
        with torch.no_grad():
            self._batches = [
                LiveBatch(problem.model, problem.graph, problem.metric, batch, base)
                for batch in evaluator.batches
            ]

    def fork(self) -> Removals:
        """Another one in the same state, which then goes its own way; effort counts for both."""
        other = copy.copy(self)
        other._batches = [batch.fork() for batch in self._batches]
        return other

    def enter(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> None:
        """Begin with the ports of `node`; everything that reads it has been visited."""
        with torch.no_grad():
            for batch in self._batches:
                batch.enter(node, keep)

    def most_at_once(self, receiver: Port, candidates: list[Edge]) -> int:
        """How many removals into `receiver` fit into the memory for them, or fitted last time."""
        if self.effort.most is not None:
            return self.effort.most
        config, is_switch = self._model.config, candidates[0].is_switch
        hidden = self._batches[0].n_positions * max(4 * config.d_model, config.d_mlp)
        with torch.no_grad():
            widths = [
                len(batch) * max(hidden, batch.width(receiver, is_switch=is_switch))
                for batch in self._batches
            ]
        item = torch.finfo(self._model.dtype).bits // 8
        return max(1, variant_bytes(self._model.device) // (max(widths) * item))

    def losses(self, receiver: Port, candidates: list[Edge], *paths: Path) -> list[Estimate]:
        """The loss of each variant of removals into `receiver`, exact up to rounding."""
        return self._halving(self._losses, receiver, candidates, paths)

    def per_prompt(
        self, receiver: Port, candidates: list[Edge], *paths: Path
    ) -> list[Float[Tensor, "batch"]]:
        """The loss of each prompt, for each variant of removals into `receiver`."""
        return self._halving(self._per_prompt, receiver, candidates, paths)

    @torch.no_grad()
    def per_prompt_now(self) -> Float[Tensor, "batch"]:
        """The loss of each prompt with everything removed that `remove` removed."""
        return self._sign * torch.cat([batch.per_prompt_now() for batch in self._batches])

    def estimates(self, receiver: Port, candidates: list[Edge], path: Path) -> list[Estimate]:
        """The same by products in bfloat16, with a bound on the error. Only when `reduced`."""
        return self._halving(self._estimates, receiver, candidates, (path,))

    def _halving(
        self,
        evaluate: Callable[[Port, list[Edge], Sequence[Path]], list[_Answer]],
        receiver: Port,
        candidates: list[Edge],
        paths: Sequence[Path],
    ) -> list[_Answer]:
        """Evaluate paths, in parts if memory runs out."""
        most = self.most_at_once(receiver, candidates)
        if len(paths) > 1 and sum(map(len, paths)) > most:
            return [e for p in paths for e in self._halving(evaluate, receiver, candidates, (p,))]
        try:
            return evaluate(receiver, candidates, paths)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as reason:
            variants = sum(map(len, paths))
            if variants == 1 or not _is_out_of_memory(reason):
                raise
        # Outside the except clause, so that what the failed attempt held is free again.
        self.effort.most = variants // 2
        parts = [part for path in paths for part in (path.halves() if len(path) > 1 else (path,))]
        return [e for p in parts for e in self._halving(evaluate, receiver, candidates, (p,))]

    @torch.no_grad()
    def _losses(
        self, receiver: Port, candidates: list[Edge], paths: Sequence[Path]
    ) -> list[Estimate]:
        values = self._values(receiver, candidates, paths)
        return [Estimate(loss) for loss in self._mean(values).tolist()]

    @torch.no_grad()
    def _per_prompt(
        self, receiver: Port, candidates: list[Edge], paths: Sequence[Path]
    ) -> list[Float[Tensor, "batch"]]:
        values = self._values(receiver, candidates, paths)
        return list(self._sign * torch.cat(values, dim=1))

    def _values(
        self, receiver: Port, candidates: list[Edge], paths: Sequence[Path]
    ) -> list[Float[Tensor, "variant _batch"]]:
        """The metric of each variant and prompt, by micro-batch."""
        self._count(paths)
        if candidates[0].is_switch:
            return [batch.per_prompt_without_switch(receiver) for batch in self._batches]
        rows = self._rows(candidates)
        return [batch.per_prompt(receiver, rows, paths) for batch in self._batches]

    @torch.no_grad()
    def _estimates(
        self, receiver: Port, candidates: list[Edge], paths: Sequence[Path]
    ) -> list[Estimate]:
        if candidates[0].is_switch or self._reduced is None:
            return self._losses(receiver, candidates, paths)
        rows = self._rows(candidates)
        pairs = [
            batch.estimate_per_prompt(receiver, rows, paths[0], self._reduced)
            for batch in self._batches
        ]
        losses = self._mean([values for values, _ in pairs])
        squares = torch.stack([square.sum(dim=1) for _, square in pairs]).sum(dim=0)
        noises = self.doubt * squares.sqrt() / self._n_prompts
        self.vague = float(noises.min())
        self._count(paths)
        return [Estimate(*pair) for pair in zip(losses.tolist(), noises.tolist(), strict=True)]

    def _mean(self, values: Sequence[Float[Tensor, "variant _batch"]]) -> Float[Tensor, "variant"]:
        total = torch.stack([value.sum(dim=1) for value in values]).sum(dim=0)
        return self._sign * total / self._n_prompts

    def _count(self, paths: Sequence[Path]) -> None:
        self.effort.variants += sum(map(len, paths))

    def remove(self, receiver: Port, candidates: list[Edge], gone: tuple[int, ...]) -> None:
        """Remove candidates, by their index, from `receiver` for good."""
        if not gone:
            return
        self.unchecked += 1
        rows = self._rows(candidates)
        with torch.no_grad():
            for batch in self._batches:
                if candidates[0].is_switch:
                    batch.commit_without_switch(receiver)
                else:
                    batch.commit(receiver, rows, gone)

    @torch.no_grad()
    def rebase(self, expected: Estimate) -> Estimate:
        """The loss of the current state, exactly; estimates are relative to it from now on.

        An expectation of it that was poorer than it promised makes later estimates promise less.
        """
        values = [batch.rebase()[None] for batch in self._batches]
        loss = float(self._mean(values)[0])
        if math.isfinite(expected.noise) and expected.noise > 0:
            unavoidable = 64 * torch.finfo(self._model.dtype).eps * max(1.0, abs(loss))
            error = max(0.0, abs(expected.loss - loss) - unavoidable) / expected.noise
            self.worst_error = max(self.worst_error, error)
            if error > 0.5:
                self.doubt *= 2
        self.vague, self.unchecked = 0.0, 0
        return Estimate(loss)

    def _rows(self, candidates: list[Edge]) -> list[int]:
        """The rows of the candidates' senders, all positions together."""
        graph = self._graph.whole
        return [graph.row(replace(edge.sender, span=None)) for edge in candidates]


def _is_out_of_memory(reason: BaseException) -> bool:
    """torch raises its own error on a GPU, and a RuntimeError of many words on a CPU."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(reason, kinds) or "can't allocate memory" in str(reason)
