"""How exactly a removal is evaluated before its edge is decided: as exactly as the decision needs.

A loss is a value with a bound on its error. Where two are compared, the bounds add; if the interval
of the difference does not reach the threshold, the decision is taken. Otherwise it is tested again
one rung up:

    1. estimate: the KL's second-order part by products in bfloat16 (losses.py), with "reduced"
    2. engine:   what the removals change, in the model's dtype, up to rounding
    3. plain:    the whole circuit, from scratch: by definition what it is compared with
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.engine.removals import Removals
from edgewise.engine.speculation import Loss, ReceiverStep, Rung, SpeculativeBatch, Turn
from edgewise.errors import SettingError, VerificationFailed
from edgewise.graph import Edge
from edgewise.metrics import METRICS
from edgewise.problem import Problem

_WIDE = 0.05  # of the threshold: beyond this error bound of the loss, estimates decide little
_UNCONFIRMED = 8  # steps, at most, before the loss that estimates build on is computed again


@dataclass(frozen=True)
class Threshold:
    """ACDC's rule: an edge is removed if that raises the loss by less than `value`."""

    value: float
    absolute: bool = False  # the size of the change is compared, not the rise

    def removes(self, delta: float) -> bool:
        """Whether an edge of this delta is removed: strictly less (arXiv 2304.14997, Alg. 1)."""
        return self._compared(delta) < self.value

    def keeps(self, test: EdgeTest) -> bool:
        """Whether the edges of a test are kept."""
        return not self.removes(test.delta)

    def margin(self, delta: float) -> float:
        """How far the decision about this delta is from falling the other way."""
        return abs(self._compared(delta) - self.value)

    def smallest_margin(self, deltas: Sequence[float]) -> float | None:
        """The margin of the closest decision; None if nothing was decided."""
        return min((self.margin(delta) for delta in deltas), default=None)

    def is_open(self, delta: float, bound: float) -> bool:
        """Whether the error could decide: the interval reaches the threshold, or is no number."""
        return not math.isfinite(delta + bound) or self.margin(delta) <= bound

    def _compared(self, delta: float) -> float:
        return abs(delta) if self.absolute else delta


@dataclass(frozen=True)
class EdgeTest:
    """What removing an edge, or several together, does: the loss before and without them.

    `evidence` is what a test over prompts shows beside the delta.
    """

    edges: tuple[Edge, ...]
    before: Loss
    without: Loss
    delta: float
    bound: float
    rung: Rung
    evidence: Any = None

    @classmethod
    def of(cls, edges: tuple[Edge, ...], before: Loss, without: Loss) -> EdgeTest:
        """The test that two losses are."""
        rung = "estimate" if before.rung == "estimate" else without.rung
        bound = before.bound + without.bound
        return cls(edges, before, without, without.value - before.value, bound, rung)


class Ladder:
    """Evaluates removals on the lowest rung, and again further up where a decision needs it.

    With `estimates` the lowest rung is the first, else the second. With `verify` the plain
    evaluator takes every decision too, and one that differs is an error. Raises `SettingError`
    where there are no estimates.
    """

    def __init__(
        self,
        problem: Problem,
        threshold: Threshold,
        *,
        estimates: bool = False,
        verify: bool = False,
    ) -> None:
        own_kl = problem.metric is METRICS["kl"] and problem.target is None
        if estimates and (not own_kl or problem.model.config.logit_cap):
            raise SettingError(
                "precision 'reduced' estimates the kl from the problem's own model, without a cap "
                "on logits, and nothing else. Use precision 'full'."
            )
        self.removals = Removals(problem)
        self._problem, self._threshold = problem, threshold
        self._estimates, self._verify = estimates, verify
        self._unconfirmed = _UNCONFIRMED  # steps since then; so the first step computes it

    def start(self, turn: Turn, loss: Loss) -> Loss:
        """Begin a step; returns the loss so far, on which its tests can build."""
        self.removals.start(turn.step, turn.circuit)
        if self._estimates:
            self._unconfirmed += 1
            wide = loss.bound > _WIDE * self._threshold.value
            if wide or self._unconfirmed > _UNCONFIRMED:
                base = self.removals.rebase(None if turn.removed else loss)
                loss, self._unconfirmed = base, 0
                return self._engine_loss(turn.step, turn.removed) if turn.removed else base
        if turn.removed and turn.next == turn.step.untested:  # their loss is not known yet
            return self._engine_loss(turn.step, turn.removed)
        return loss

    def losses(self, step: ReceiverStep, batch: SpeculativeBatch) -> list[Loss]:
        """The loss of each variant, on the lowest rung."""
        if self._estimates and not step.is_switch:
            return self.removals.estimates(step, batch)
        return self.removals.losses(step, batch)

    def test(self, turn: Turn, edges: tuple[Edge, ...], *, before: Loss, without: Loss) -> EdgeTest:
        """The test of edges, the candidates from `turn.next` on, as exact as it need be."""
        test = EdgeTest.of(edges, before, without)
        if test.rung == "estimate" and self._threshold.is_open(test.delta, test.bound):
            group = tuple(range(turn.next, turn.next + len(edges)))
            if before.rung == "estimate":
                before = self._engine_loss(turn.step, turn.removed)
            test = EdgeTest.of(edges, before, self._engine_loss(turn.step, turn.removed + group))
        is_open = self._threshold.is_open(test.delta, test.bound)
        return self._plain_test(turn, test, is_open) if is_open or self._verify else test

    def _engine_loss(self, step: ReceiverStep, removed: tuple[int, ...]) -> Loss:
        """The loss without these candidates, on the second rung."""
        if not removed:
            return self.removals.rebase()
        return self.removals.losses(step, SpeculativeBatch.of(removed))[0]

    def _plain_test(self, turn: Turn, test: EdgeTest, is_open: bool) -> EdgeTest:
        """The same test on the third rung."""
        before, without = (self._problem.loss(turn.left(*e)) for e in ((), test.edges))
        plain = EdgeTest(
            test.edges, test.before, test.without, without - before, bound=0.0, rung="plain"
        )
        if not is_open and self._threshold.keeps(plain) != self._threshold.keeps(test):
            raise VerificationFailed(
                f"{test.edges[0].name}: removing it raises the loss by {test.delta:.9g} "
                f"incrementally and by {plain.delta:.9g} from scratch, on different sides of the "
                "threshold. Please report this; engine='plain' gives the right circuit."
            )
        return plain
