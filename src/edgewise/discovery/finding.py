"""What a discovery method returns, and how it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgewise.circuit import Circuit, EdgeScores
from edgewise.graph import Edge


@dataclass(frozen=True)
class Decision:
    """One tested edge: how much its removal raised the loss, and whether it was kept.

    `loss` is the running loss after the decision, in the metric's unit, lower is better.
    """

    edge: Edge
    delta: float
    kept: bool
    loss: float

    def to_json(self) -> dict[str, Any]:
        """A line of a trace file."""
        return {**asdict(self), "edge": self.edge.name}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        """The decision of a line. Raises `KeyError`, `TypeError`, `ValueError`."""
        kept = data["kept"]
        if not isinstance(kept, bool):
            raise TypeError(f"kept is {kept!r}, neither true nor false")
        return cls(Edge.parse(data["edge"]), float(data["delta"]), kept, float(data["loss"]))


@dataclass(frozen=True, eq=False)
class Finding:
    """A circuit, the scores and decisions behind it, and the numbers the method itself knows."""

    circuit: Circuit
    scores: EdgeScores
    trace: tuple[Decision, ...] = ()
    edge_tests: int = 0  # edges whose removal was evaluated
    edges_skipped: int = 0  # edges removed without a test, because nothing reads their receiver
    variants: int = 0  # removals evaluated, some of them in vain
    margin: float | None = None  # smallest distance of a delta to the threshold
    notes: tuple[str, ...] = ()  # what a user should know before trusting the result
    worst_error: float | None = None  # of estimates, as a part of the bound given for it


@dataclass(frozen=True)
class Progress:
    """How far a method is: `done` of `total` steps."""

    done: int
    total: int
    message: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """For callers who do not want to know."""
