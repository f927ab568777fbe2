"""What is evaluated together: removals of edges into one receiver, and the losses they give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from edgewise.circuit import Circuit
from edgewise.graph import Edge, Port

Rung = Literal["estimate", "engine", "plain"]


class Loss(NamedTuple):
    """A loss, how far from it the exact one may be, and how it was computed."""

    value: float
    bound: float = 0.0
    rung: Rung = "engine"


@dataclass(frozen=True)
class ReceiverStep:
    """A receiver and its candidate edges in order; the first `untested` are removed at once."""

    receiver: Port
    edges: tuple[Edge, ...]
    untested: int = 0

    @cached_property
    def is_switch(self) -> bool:
        """Whether the step is about the receiver's own switch, and nothing else."""
        return self.edges[0].is_switch


@dataclass(frozen=True)
class Turn:
    """How far a step has come: `next` is the candidate to be tested, by its index.

    `circuit` is what remained when the step began, `removed` the candidates removed since then.
    """

    step: ReceiverStep
    circuit: Circuit
    removed: tuple[int, ...]
    next: int

    @property
    def removed_edges(self) -> tuple[Edge, ...]:
        """The candidates removed so far, those without a test included."""
        return tuple(self.step.edges[index] for index in self.removed)

    def left(self, *but: Edge) -> Circuit:
        """The circuit that remains now, and without these edges too."""
        return self.circuit.without(*self.removed_edges, *but)


@dataclass(frozen=True)
class SpeculativeBatch:
    """A prefix of removals of candidates into one receiver, and one variant for each of a window.

    Variant i removes what is `removed` already, candidate `start + i`, and of the window's earlier
    candidates those `predicted` to be removed.
    """

    removed: tuple[int, ...]
    start: int
    predicted: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def window(self) -> slice:
        """The candidates that have a variant of their own."""
        return slice(self.start, self.start + len(self))

    def halves(self) -> tuple[SpeculativeBatch, SpeculativeBatch]:
        """The same variants in two parts."""
        half = len(self) // 2
        earlier = [self.start + i for i in range(half) if self.predicted[i]]
        first = replace(self, predicted=self.predicted[:half])
        removed = (*self.removed, *earlier)
        return first, SpeculativeBatch(removed, self.start + half, self.predicted[half:])

    @classmethod
    def of(cls, removed: tuple[int, ...]) -> SpeculativeBatch:
        """A single variant: the removal of all of these candidates, of at least one."""
        return cls(removed[:-1], removed[-1], (True,))
