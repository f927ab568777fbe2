"""Two ways to test the edges into a receiver: from scratch, and incrementally. Same decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine import Outcome, Removals, decide
from edgewise.errors import VerificationFailed
from edgewise.graph import Edge, Port
from edgewise.problem import Problem
from edgewise.settings import ACDCSettings


@dataclass(frozen=True)
class Rule:
    """ACDC's decision: remove an edge if that raises the loss by less than the threshold."""

    threshold: float
    absolute: bool

    @classmethod
    def of(cls, settings: ACDCSettings) -> Rule:
        return cls(settings.threshold, settings.absolute)

    def compared(self, delta: float) -> float:
        """What is compared with the threshold."""
        return abs(delta) if self.absolute else delta

    def keeps(self, delta: float) -> bool:
        return not self.compared(delta) < self.threshold

    def distance(self, delta: float) -> float:
        """How far a decision is from falling the other way."""
        return abs(self.compared(delta) - self.threshold)


class EdgeTests(Protocol):
    """Decides the candidate edges into one receiver after the other, from the output backwards."""

    @property
    def variants(self) -> int:
        """Removals evaluated so far, some of them in vain."""
        ...

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: float,
    ) -> Iterator[Outcome]:
        """The outcomes in order. The caller clears `keep` for each removed edge as it comes."""
        ...


class PlainTests:
    """One run of the whole circuit per edge."""

    def __init__(self, problem: Problem, settings: ACDCSettings) -> None:
        self._problem, self._rule = problem, Rule.of(settings)
        self._n = 0

    @property
    def variants(self) -> int:
        return self._n

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: float,
    ) -> Iterator[Outcome]:
        for index, edge in enumerate(candidates):
            self._n += 1
            without = loss_without(self._problem, keep, edge)
            delta = without - loss
            kept = self._rule.keeps(delta)
            loss = loss if kept else without
            yield Outcome(index, delta, kept, loss)


class IncrementalTests:
    """Many edges at once, only what they change; decisions within rounding are taken from scratch.

    Sums of floats differ in their last bits between the two ways, so a delta closer to the
    threshold than that is computed again by the plain evaluator. With `verify` all of them are, and
    a decision that differs is an error.
    """

    def __init__(self, problem: Problem, settings: ACDCSettings) -> None:
        self._problem, self._rule, self._verify = problem, Rule.of(settings), settings.verify
        self._removals = Removals(problem)
        self._eps = torch.finfo(problem.model.dtype).eps

    @property
    def variants(self) -> int:
        return self._removals.variants

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: float,
    ) -> Iterator[Outcome]:
        self._removals.enter(receiver.node, keep)
        # What rounding can do, with room to spare: see docs/log for measured differences.
        noise = 64 * self._eps * max(1.0, abs(loss))

        def keeps(index: int, delta: float) -> tuple[float, bool]:
            near = not math.isfinite(delta) or self._rule.distance(delta) <= noise
            if not (near or self._verify):
                return delta, self._rule.keeps(delta)
            edge = candidates[index]
            plain = loss_without(self._problem, keep, edge) - loss_without(self._problem, keep)
            if not near and self._rule.keeps(plain) != self._rule.keeps(delta):
                raise VerificationFailed(
                    f"{edge.name}: removing it raises the loss by {delta:.9g} incrementally and by "
                    f"{plain:.9g} from scratch, on different sides of {self._rule.threshold:g}. "
                    "Please report this; engine='plain' gives the right circuit."
                )
            return plain, self._rule.keeps(plain)

        removed = [False] * len(candidates)
        for outcome in decide(
            len(candidates),
            loss,
            losses_of=lambda rows: self._removals.losses(receiver, candidates, rows),
            keeps=keeps,
            predicted_to_stay=self._rule.keeps,
            most=self._removals.most_at_once(),
        ):
            removed[outcome.index] = not outcome.kept
            yield outcome
        self._removals.remove(receiver, candidates, removed)


def loss_without(
    problem: Problem, keep: Bool[Tensor, "sender receiver"], edge: Edge | None = None
) -> float:
    """The loss of the kept edges, without `edge` if one is given, by the plain evaluator."""
    kept = keep.clone()
    if edge is not None:
        kept[problem.graph.index(edge)] = False
    return problem.loss(Circuit(problem.graph, kept))
