"""Two ways to test the edges into a receiver: from scratch, and incrementally. Same decisions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine import EdgeTest, Estimate, Path, Removals, decide
from edgewise.errors import VerificationFailed
from edgewise.graph import Edge, Port
from edgewise.methods.settings import ACDCSettings
from edgewise.problem import Problem

_VAGUE = 0.05  # of the threshold
_UNCHECKED = 8  # receivers


@runtime_checkable
class Judge(Protocol):
    """Decides from a delta; told of the loss without the edge, which goes on if it is removed."""

    def keeps(self, index: int, delta: float, without: Estimate) -> bool: ...
    def guess(self, delta: float) -> bool:
        """What `keeps` would probably say."""
        ...

    def distance(self, delta: float) -> float:
        """How far the decision is from falling the other way."""
        ...

    def alike(self, one: float, other: float) -> bool:
        """Whether two deltas are decided alike, by every threshold."""
        ...


@runtime_checkable
class EdgeTests(Protocol):
    """Decides the candidate edges into one receiver after the other, from the output backwards."""

    @property
    def variants(self) -> int:
        """Removals evaluated so far, some of them in vain."""
        ...

    @property
    def worst_error(self) -> float | None:
        """The largest error seen of an estimate, as a part of its bound; None without estimates."""
        ...

    def fork(self) -> EdgeTests:
        """The same state, which then goes its own way."""
        ...

    def loss(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        gone: tuple[int, ...],
    ) -> Estimate:
        """The loss at the beginning of a visit, when candidates `gone` are removed already."""
        ...

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: Estimate,
        judge: Judge,
        gone: tuple[int, ...],
        start: int,
    ) -> Iterator[EdgeTest]:
        """The outcomes from `start` on, in order, when the candidates `gone` are removed already.

        The caller clears `keep` for each removed edge as it comes.
        """
        ...


class PlainTests:
    """One run of the whole circuit per edge."""

    worst_error = None

    def __init__(self, problem: Problem) -> None:
        self._problem, self._n = problem, 0

    @property
    def variants(self) -> int:
        return self._n

    def fork(self) -> PlainTests:
        return copy.copy(self)

    def loss(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        gone: tuple[int, ...],
    ) -> Estimate:
        return Estimate(loss_without(self._problem, keep))

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: Estimate,
        judge: Judge,
        gone: tuple[int, ...],
        start: int,
    ) -> Iterator[EdgeTest]:
        for index in range(start, len(candidates)):
            self._n += 1
            without = Estimate(loss_without(self._problem, keep, candidates[index]))
            delta = without.loss - loss.loss
            kept = judge.keeps(index, delta, without)
            loss = loss if kept else without
            yield EdgeTest(index, delta, kept, loss.loss)


class IncrementalTests:
    """Many edges at once, only what they change; close decisions are looked at more closely.

    Sums of floats differ in their last bits between the two ways, so a delta closer to the
    threshold than that is computed again by the plain evaluator. With `precision="reduced"` most
    deltas are estimates by bfloat16 products, and one whose bound reaches the threshold is first
    computed again in full precision. With `verify` the plain evaluator takes every decision too,
    and one that differs is an error.
    """

    def __init__(self, problem: Problem, settings: ACDCSettings) -> None:
        self._problem, self._verify = problem, settings.verify
        self._reduced = settings.precision == "reduced"
        self._removals = Removals(problem, reduced=self._reduced)

    @property
    def variants(self) -> int:
        return self._removals.effort.variants

    @property
    def worst_error(self) -> float | None:
        return self._removals.worst_error if self._reduced else None

    def fork(self) -> IncrementalTests:
        other = copy.copy(self)
        other._removals = self._removals.fork()
        return other

    def loss(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        gone: tuple[int, ...],
    ) -> Estimate:
        self._removals.enter(receiver.node, keep)
        path = Path.one(gone[:-1], gone[-1])
        return self._removals.losses(receiver, candidates, path)[0]

    def decide(
        self,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        loss: Estimate,
        judge: Judge,
        gone: tuple[int, ...],
        start: int,
    ) -> Iterator[EdgeTest]:
        removals = self._removals
        removals.enter(receiver.node, keep)
        look = _Look(self._problem, removals, judge, keep, receiver, candidates, self._verify)
        for outcome in decide(
            len(candidates),
            look.settled(loss, gone) if self._reduced else Estimate(loss.loss),
            losses_of=look.estimates if self._reduced else look.losses,
            rule=look,
            most=partial(removals.most_at_once, receiver, candidates),
            start=start,
            gone=gone,
        ):
            if not outcome.kept:
                gone = (*gone, outcome.index)
            yield outcome
        removals.remove(receiver, candidates, gone)


class _Look:
    """Takes each decision into one receiver as closely as it needs to be taken."""

    def __init__(
        self,
        problem: Problem,
        removals: Removals,
        judge: Judge,
        keep: Bool[Tensor, "sender receiver"],
        receiver: Port,
        candidates: list[Edge],
        verify: bool,
    ) -> None:
        self._problem, self._removals, self._judge, self._keep = problem, removals, judge, keep
        self._receiver, self._candidates, self._verify = receiver, candidates, verify
        self._eps = torch.finfo(problem.model.dtype).eps

    def guess(self, delta: float) -> bool:
        return self._judge.guess(delta)

    def decide(
        self, index: int, before: Estimate, without: Estimate, gone: tuple[int, ...]
    ) -> tuple[float, bool]:
        delta, noise = without.loss - before.loss, before.noise + without.noise
        if noise and self._is_near(delta, noise):
            delta = self._exactly((*gone, index)).loss - self._exactly(gone).loss
        # What rounding can do, with room to spare: see docs/log for measured differences.
        near = self._is_near(delta, 64 * self._eps * max(1.0, abs(before.loss)))
        if near or self._verify:
            delta = self._plain_delta(index, delta, near)
        return delta, self._judge.keeps(index, delta, without)

    def _is_near(self, delta: float, noise: float) -> bool:
        return not math.isfinite(delta + noise) or self._judge.distance(delta) <= noise

    def losses(self, path: Path) -> list[Estimate]:
        """The loss of each variant, exact up to rounding."""
        return self._removals.losses(self._receiver, self._candidates, path)

    def estimates(self, path: Path) -> list[Estimate]:
        """An estimate of each loss; where that leaves a decision open, the loss itself."""
        found = self._removals.estimates(self._receiver, self._candidates, path)
        close = set[int]()
        for i, without in enumerate(found):
            before = path.before(i)
            if before is None:
                continue  # `decide` knows what was before; if it is close, it looks again
            noise = found[before].noise + without.noise
            if noise and self._is_near(without.loss - found[before].loss, noise):
                close |= {before, i}
        if close:
            chosen = sorted(close)
            paths = (path.variant(i) for i in chosen)
            exact = self._removals.losses(self._receiver, self._candidates, *paths)
            for i, loss in zip(chosen, exact, strict=True):
                found[i] = loss
        return found

    def settled(self, loss: Estimate, gone: tuple[int, ...]) -> Estimate:
        """The running loss; exactly, now and then, and if estimates are too vague to build upon."""
        limit, removals = _VAGUE * self._judge.distance(0.0), self._removals
        if max(loss.noise, removals.vague) <= limit and removals.unchecked < _UNCHECKED:
            return loss
        expected = loss if not gone else Estimate(0.0, math.inf)  # of what is removed for good
        base = self._removals.rebase(expected)
        return self._exactly(gone) if gone else base

    def _exactly(self, gone: tuple[int, ...]) -> Estimate:
        if not gone:
            return self._removals.rebase(Estimate(0.0, math.inf))
        return self.losses(Path.one(gone[:-1], gone[-1]))[0]

    def _plain_delta(self, index: int, delta: float, near: bool) -> float:
        edge = self._candidates[index]
        without = loss_without(self._problem, self._keep, edge)
        plain = without - loss_without(self._problem, self._keep)
        if not near and not self._judge.alike(plain, delta):
            raise VerificationFailed(
                f"{edge.name}: removing it raises the loss by {delta:.9g} incrementally and by "
                f"{plain:.9g} from scratch, on different sides of the threshold. "
                "Please report this; engine='plain' gives the right circuit."
            )
        return plain


def loss_without(
    problem: Problem, keep: Bool[Tensor, "sender receiver"], edge: Edge | None = None
) -> float:
    """The loss of the kept edges, without `edge` if one is given, by the plain evaluator."""
    kept = keep.clone()
    if edge is not None:
        kept[problem.graph.index(edge)] = False
    return problem.loss(Circuit(problem.graph, kept))
