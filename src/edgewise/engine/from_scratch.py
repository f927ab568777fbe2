"""The losses of removals by runs of the whole circuit, where the engine cannot compute a model.

That is so where a model is spread over several devices: what the engine mixes in one product lies
on different ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.paths import Estimate, Path
from edgewise.engine.removals import Effort, Removals
from edgewise.graph import Edge, Node, Port
from edgewise.problem import Problem


class WholeRuns:
    """As `Removals`, by the plain evaluator."""

    def __init__(self, problem: Problem, base: Circuit | None = None) -> None:
        self._problem = problem
        self._keep = problem.graph.exists if base is None else base.keep
        self.effort = Effort()

    def enter(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> None:
        """Begin with the ports of `node`; `keep` is what there is now."""
        self._keep = keep.clone()

    def most_at_once(self, receiver: Port, candidates: list[Edge]) -> int:
        """All of them: they are run one after the other."""
        return len(candidates)

    def losses(self, receiver: Port, candidates: list[Edge], *paths: Path) -> list[Estimate]:
        """The loss of each variant of removals into `receiver`."""
        every = self.per_prompt(receiver, candidates, *paths)
        return [Estimate(values.mean().item()) for values in every]

    def per_prompt(
        self, receiver: Port, candidates: list[Edge], *paths: Path
    ) -> list[Float[Tensor, "batch"]]:
        """The loss of each prompt, for each variant of removals into `receiver`."""
        variants = [path.variant(i) for path in paths for i in range(len(path))]
        self.effort.variants += len(variants)
        return [self._losses(self._without(candidates, (*v.gone, v.start))) for v in variants]

    def per_prompt_now(self) -> Float[Tensor, "batch"]:
        """The loss of each prompt with everything removed that `remove` removed."""
        return self._losses(self._keep)

    def remove(self, receiver: Port, candidates: list[Edge], gone: tuple[int, ...]) -> None:
        """Remove candidates, by their index, from `receiver` for good."""
        self._keep = self._without(candidates, gone)

    def _without(
        self, candidates: list[Edge], gone: tuple[int, ...]
    ) -> Bool[Tensor, "sender receiver"]:
        keep = self._keep.clone()
        for index in gone:
            keep[self._problem.graph.index(candidates[index])] = False
        return keep

    @torch.no_grad()
    def _losses(self, keep: Bool[Tensor, "sender receiver"]) -> Float[Tensor, "batch"]:
        values = self._problem.per_prompt(Circuit(self._problem.graph, keep)).double()
        return self._problem.metric.loss_sign * values


def removals_of(problem: Problem, base: Circuit | None = None) -> Removals | WholeRuns:
    """The quickest exact way to evaluate removals in this problem's model, or a circuit of it."""
    if is_incremental(problem):
        return Removals(problem, base=base)
    return WholeRuns(problem, base)


def is_incremental(problem: Problem) -> bool:
    """Whether the incremental evaluator knows how this problem's model computes."""
    return not problem.model.is_spread
