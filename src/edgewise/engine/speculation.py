"""Decide a row of candidates one after the other, evaluating many of them at once.

    1. Predict for each candidate whether it will be removed: at first, that all will be.
    2. Evaluate, in one batch, every candidate's removal on top of the predicted ones before it.
    3. Go through the results in order. Each is exactly what the sequential algorithm would see, as
       long as all predictions before it were right. At the first wrong one, stop after it.
    4. What was measured beyond that point predicts the next batch.

The decisions are the sequential ones; predictions only cost or save evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_FIRST_BATCH = 32


@dataclass(frozen=True)
class Outcome:
    """One decided candidate: the loss without it minus the loss with it, and the running loss."""

    index: int
    delta: float
    kept: bool
    loss: float


def decide(
    n: int,
    loss: float,
    *,
    losses_of: Callable[[Float[Tensor, "variant candidate"]], list[float]],
    keeps: Callable[[int, float], tuple[float, bool]],
    predicted_to_stay: Callable[[float], bool],
    most: int,
) -> Iterator[Outcome]:
    """Decide candidates 0 to n-1 in order, starting from the running loss.

    `losses_of(removed)` evaluates variants, each a row of 0 and 1 over candidates. `keeps(index,
    delta)` is the rule; it returns the delta it used (it may look closer) and whether to keep.
    `predicted_to_stay(delta)` is the rule as a guess. `most` bounds the variants evaluated at once.
    """
    removed = torch.zeros(n)
    goes = [True] * n  # the prediction
    start, size = 0, min(_FIRST_BATCH, most)
    while start < n:
        stop = min(n, start + size)
        losses = losses_of(_path(removed, goes, start, stop))
        expected = _deltas_along(losses, goes[start:stop], loss)
        done = stop
        for index in range(start, stop):
            without = losses[index - start]
            delta, kept = keeps(index, without - loss)
            if not kept:
                removed[index], loss = 1.0, without
            yield Outcome(index, delta, kept, loss)
            if kept == goes[index]:  # predicted to go and kept, or the other way round
                done = index + 1
                break
        for index in range(done, stop):
            goes[index] = not predicted_to_stay(expected[index - start])
        size = min(most, 2 * size) if done == stop else size
        start = done


def _path(
    removed: Float[Tensor, "candidate"], goes: list[bool], start: int, stop: int
) -> Float[Tensor, "variant candidate"]:
    """Row i removes candidate start + i, what is removed already, and what is predicted to go."""
    path = removed.repeat(stop - start, 1)
    for i, index in enumerate(range(start, stop)):
        path[i, index] = 1.0
        if goes[index]:
            path[i + 1 :, index] = 1.0
    return path


def _deltas_along(losses: list[float], goes: list[bool], loss: float) -> list[float]:
    """Each candidate's delta on the predicted path."""
    deltas = []
    for without, going in zip(losses, goes, strict=True):
        deltas.append(without - loss)
        if going:
            loss = without
    return deltas
