"""Test candidate edges one after the other, evaluating the removals of many at once.

For the candidates into one receiver:

    1. Predict for each candidate whether it will be removed: at first, that all will be.
    2. Evaluate, in one speculative batch, every candidate's removal on top of the predicted ones
       before it.
    3. Go through the results in order. Each is exactly what the sequential algorithm would see, as
       long as all predictions before it were right. At the first wrong one, stop after it.
    4. What was evaluated beyond that point predicts the next batch.

The decisions are the sequential ones; predictions only cost or save evaluations. How exactly each
removal is evaluated is the ladder's business (ladder.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from edgewise.circuit import Circuit
from edgewise.engine.ladder import EdgeTest, Ladder, Threshold
from edgewise.engine.speculation import Loss, ReceiverStep, SpeculativeBatch, Turn
from edgewise.problem import Problem

_FIRST_BATCH = 32
_LEAST_BATCH = 8


class SequentialEngine(ABC):
    """Tests the edges of one receiver step after the other, and is told every decision."""

    loss: Loss  # of the circuit that remains
    turn: Turn  # the step at hand

    def ablate_in_sequence(
        self, step: ReceiverStep, circuit: Circuit, known: Iterable[EdgeTest] = ()
    ) -> Iterator[EdgeTest]:
        """What removing each edge of a step does, on top of those removed before it.

        `circuit` is what remains when the step begins. Answer each test by `decide` before the
        next. `known` are the first of them, where an earlier run has made them.
        """
        self.turn = Turn(step, circuit, tuple(range(step.untested)), step.untested)
        for test in chain(known, self._tests()):  # `_tests` begins when all known are decided
            self._latest = test
            yield test

    def decide(self, *, keep: bool) -> None:
        """Keep or remove the edges of the test that came last."""
        turn, after = self.turn, self.turn.next + len(self._latest.edges)
        removed = turn.removed
        if keep:
            self.loss = self._latest.before
        else:
            self.loss = self._latest.without
            removed += tuple(range(turn.next, after))
        self.turn = replace(turn, removed=removed, next=after)

    @property
    @abstractmethod
    def variants(self) -> int:
        """Removals evaluated so far, those in vain included."""

    @abstractmethod
    def _tests(self) -> Iterator[EdgeTest]:
        """The tests of the step at hand from candidate `turn.next` on."""


class PlainEngine(SequentialEngine):
    """One run of the whole circuit for each edge."""

    variants = 0

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.loss = self._loss_of(Circuit.full(problem.graph))

    def _tests(self) -> Iterator[EdgeTest]:
        step = self.turn.step
        if self.turn.removed and self.turn.next == step.untested:
            self.loss = self._loss_of(self.turn.left())  # some were removed untested
        for edge in step.edges[self.turn.next :]:
            self.variants += 1
            without = self._loss_of(self.turn.left(edge))
            yield EdgeTest.of((edge,), self.loss, without)

    def _loss_of(self, circuit: Circuit) -> Loss:
        return Loss(self._problem.loss(circuit), rung="plain")


class SpeculativeEngine(SequentialEngine):
    """Many edges at once, and only what their removals change."""

    def __init__(
        self,
        problem: Problem,
        threshold: Threshold,
        *,
        estimates: bool = False,
        verify: bool = False,
    ) -> None:
        full, _ = problem.baselines()
        self.loss = Loss(problem.metric.loss_sign * full)
        self._threshold = threshold
        self._ladder = Ladder(problem, threshold, estimates=estimates, verify=verify)

    @property
    def variants(self) -> int:
        return self._ladder.removals.variants

    def _tests(self) -> Iterator[EdgeTest]:
        step, removals = self.turn.step, self._ladder.removals
        self.loss = self._ladder.start(self.turn, self.loss)
        n, size = len(step.edges), _FIRST_BATCH
        predicted = [True] * n  # to be removed
        while self.turn.next < n:
            start, loss = self.turn.next, self.loss.value
            stop = min(n, start + min(size, removals.most_at_once(step)))
            batch = SpeculativeBatch(self.turn.removed, start, tuple(predicted[start:stop]))
            losses = self._ladder.losses(step, batch)
            for index, without in enumerate(losses, start):
                edges, before = (step.edges[index],), self.loss
                yield self._ladder.test(self.turn, edges, before=before, without=without)
                if (index in self.turn.removed) != predicted[index]:
                    break
            for index, without in enumerate(losses, start):
                delta = without.value - loss
                loss = without.value if predicted[index] else loss
                if index >= self.turn.next:
                    predicted[index] = self._threshold.removes(delta)
            # Long batches pay while predictions hold; after a wrong one the rest was in vain.
            done = self.turn.next - start
            size = 2 * size if self.turn.next == stop else max(_LEAST_BATCH, min(size, 2 * done))
        removals.remove(step, self.turn.removed)
