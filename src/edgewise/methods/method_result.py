"""What a discovery method returns: a circuit, scores and decisions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Count, Finite, decoded
from edgewise.engine import Rung
from edgewise.errors import FormatError, UnknownName, shortened
from edgewise.graph import Edge

Verdict = Literal["above", "below", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What a sequential test shows of the mean rise of the loss, against a threshold.

    `p_above`: against a mean of at most the threshold; `p_below`: against one of at least it.
    `low` to `high` is where the mean lies, each end with the test's error rate. Valid whenever
    looking stops; `n_prompts` were looked at.
    """

    p_above: float
    p_below: float
    low: float
    high: float
    n_prompts: int
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As a decision keeps it; an end that is not there is null, for JSON has no infinity."""
        ends = {name: getattr(self, name) for name in ("low", "high")}
        finite = {name: end if math.isfinite(end) else None for name, end in ends.items()}
        return {**asdict(self), **finite}


@dataclass(frozen=True)
class Decision:
    """One tested edge: how much its removal raised the loss, and whether it was kept.

    `loss` is the running loss after the decision, in the metric's unit, lower is better. `delta` is
    off by at most `bound`, and was computed on this `rung` of the ladder of precision
    (edgewise.engine). Where a sequential test decided there is its `evidence`; `delta` and `loss`
    are then means over the prompts that it looked at.
    """

    edge: Edge
    delta: float
    kept: bool
    loss: float
    evidence: Evidence | None = None
    bound: float = 0.0
    rung: Rung = "engine"

    def to_json(self) -> dict[str, Any]:
        """A line of a trace file."""
        line = {"edge": self.edge.name, "delta": self.delta, "kept": self.kept, "loss": self.loss}
        if self.evidence is not None:
            return {**line, "evidence": self.evidence.to_json()}
        return {**line, "bound": self.bound, "rung": self.rung}

    @classmethod
    def from_json(cls, data: Any, source: str) -> Decision:
        """The decision of a line. Raises `FormatError`, naming `source` and the field."""
        line = decoded(_Line, data, source)
        evidence = None
        if line.evidence is not None:
            fields = vars(line.evidence)
            low, high = fields["low"], fields["high"]
            ends = -math.inf if low is None else low, math.inf if high is None else high
            evidence = Evidence(**{**fields, "low": ends[0], "high": ends[1]})
        try:
            edge = Edge.parse(line.edge)
        except UnknownName as reason:
            raise FormatError(f"{source}: {shortened(str(reason), 240)}") from reason
        exactness = line.bound, line.rung
        return cls(edge, line.delta, line.kept, line.loss, evidence, *exactness)


@dataclass(frozen=True)
class _EvidenceLine:
    p_above: Finite
    p_below: Finite
    low: Finite | None
    high: Finite | None
    n_prompts: Count
    verdict: Verdict


@dataclass(frozen=True)
class _Line:
    edge: str
    delta: Finite
    kept: bool
    loss: Finite
    evidence: _EvidenceLine | None = None
    bound: Finite = 0.0
    rung: Rung = "engine"


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
