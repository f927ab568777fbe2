"""Decide a row of candidates one after the other, evaluating many of them at once.

    1. Predict for each candidate whether it will be removed: at first, that all will be.
    2. Evaluate, in one batch, every candidate's removal on top of the predicted ones before it.
    3. Go through the results in order. Each is exactly what the sequential algorithm would see, as
       long as all predictions before it were right. At the first wrong one, stop after it.
    4. What was measured beyond that point predicts the next batch.

The decisions are the sequential ones; predictions only cost or save evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgewise.engine.paths import Estimate, Path

_FIRST_BATCH = 32
_LEAST_BATCH = 8


@dataclass(frozen=True)
class EdgeTest:
    """One decided candidate: the loss without it minus the loss with it, and the running loss."""

    index: int
    delta: float
    kept: bool
    loss: float


@runtime_checkable
class Rule(Protocol):
    """Says what stays."""

    def decide(
        self, index: int, before: Estimate, without: Estimate, gone: tuple[int, ...]
    ) -> tuple[float, bool]:
        """The delta of candidate `index`, looked at as closely as need be, and whether it stays."""
        ...

    def guess(self, delta: float) -> bool:
        """Whether a candidate of about this delta would stay."""
        ...


def decide(
    n: int,
    loss: Estimate,
    *,
    losses_of: Callable[[Path], Sequence[Estimate]],
    rule: Rule,
    most: Callable[[], int],
    start: int = 0,
    gone: tuple[int, ...] = (),
) -> Iterator[EdgeTest]:
    """Decide candidates `start` to n-1 in order, from the running loss, when `gone` are removed.

    `most()` bounds the variants evaluated at once.
    """
    goes = [True] * n  # the prediction
    size = _FIRST_BATCH
    while start < n:
        stop = min(n, start + min(size, most()))
        losses = losses_of(Path(gone, start, tuple(goes[start:stop])))
        expected = _deltas_along(losses, goes[start:stop], loss)
        done = stop
        for index in range(start, stop):
            without = losses[index - start]
            delta, kept = rule.decide(index, loss, without, gone)
            if not kept:
                gone, loss = (*gone, index), without
            yield EdgeTest(index, delta, kept, loss.loss)
            if kept == goes[index]:  # predicted to go and kept, or the other way round
                done = index + 1
                break
        for index in range(done, stop):
            goes[index] = not rule.guess(expected[index - start])
        # Long paths pay while predictions hold; after a wrong one, what was beyond it was in vain.
        size = 2 * size if done == stop else max(_LEAST_BATCH, min(size, 2 * (done - start)))
        start = done


def _deltas_along(losses: Sequence[Estimate], goes: Sequence[bool], loss: Estimate) -> list[float]:
    """Each candidate's delta on the predicted path."""
    deltas = []
    for without, going in zip(losses, goes, strict=True):
        deltas.append(without.loss - loss.loss)
        if going:
            loss = without
    return deltas
