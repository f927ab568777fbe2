"""What a discovery method returns: a circuit, scores and decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NotRequired, TypedDict

from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Count, Finite, decoded, parsed
from edgewise.engine import Rung
from edgewise.errors import FormatError, UnknownName, shortened
from edgewise.graph import Edge, Graph

Verdict = Literal["above", "below", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What a sequential test shows of the mean rise of the loss, against a threshold.

    `p_above`: against a mean of at most the threshold; `p_below`: against one of at least it.
    `low` to `high` is where the mean lies, each end with the test's error rate; None is no end.
    Valid whenever looking stops; `n_prompts` were looked at.
    """

    p_above: Finite
    p_below: Finite
    low: Finite | None
    high: Finite | None
    n_prompts: Count
    verdict: Verdict


@dataclass(frozen=True)
class Decision:
    """One tested edge: how much its removal raised the loss, and whether it was kept.

    `loss` is the running loss after the decision, in the metric's unit, lower is better. `delta` is
    off by at most `bound`, and was computed on this `rung` of the ladder of precision
    (edgewise.engine). Where a sequential test decided there is its `evidence`; `delta` and `loss`
    are then means over the prompts that it looked at.
    """

    edge: Edge
    delta: Finite
    kept: bool
    loss: Finite
    evidence: Evidence | None = None
    bound: Finite = 0.0
    rung: Rung = "engine"

    def to_json(self) -> dict[str, Any]:
        """A line of a trace file."""
        line = {"edge": self.edge.name, "delta": self.delta, "kept": self.kept, "loss": self.loss}
        if self.evidence is not None:
            return {**line, "evidence": asdict(self.evidence)}
        return {**line, "bound": self.bound, "rung": self.rung}

    @classmethod
    def from_json(cls, line: Any, source: str, graph: Graph | None = None) -> Decision:
        """The decision of a line, about an edge of `graph` if one is given.

        Raises `FormatError`, naming `source` and the field.
        """
        values: Any = decoded(_Line, line, source)
        try:
            edge = Edge.parse(values.pop("edge"))
            if graph is not None:
                graph.index(edge)
        except UnknownName as reason:
            raise FormatError(f"{source}: {shortened(str(reason), 240)}") from reason
        return cls(edge, **values)


class _Line(TypedDict):
    edge: str
    delta: Finite
    kept: bool
    loss: Finite
    evidence: NotRequired[Evidence | None]
    bound: NotRequired[Finite]
    rung: NotRequired[Rung]


def read_trace(
    lines: Iterable[str | bytes], source: str, graph: Graph | None = None
) -> tuple[Decision, ...]:
    """The decisions of a trace's lines, all about edges of `graph` if one is given.

    Raises `FormatError`, naming `source` and the line.
    """
    decisions = []
    for number, line in enumerate(lines, start=1):
        complaint = f"{source}, line {number}: not a decision"
        decisions.append(Decision.from_json(parsed(line, complaint), complaint, graph))
    return tuple(decisions)


@dataclass(frozen=True, eq=False)
class MethodResult:
    """A circuit, the scores and decisions behind it, and the numbers the method itself knows."""

    circuit: Circuit
    scores: EdgeScores
    trace: tuple[Decision, ...] = ()
    edge_tests: int = 0  # edges whose removal was evaluated
    edges_skipped: int = 0  # edges removed without a test: nothing read their receiver, or screened
    variants: int = 0  # removals evaluated, some of them in vain
    margin: float | None = None  # smallest distance of a delta to the threshold
    notes: tuple[str, ...] = ()  # what a user should know before trusting the result
