"""What hypothesis tests of a circuit found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgewise.circuit import Circuit
from edgewise.documents import write_json
from edgewise.errors import SettingError
from edgewise.evaluation.proportions import Correction
from edgewise.graph import Edge

TestName = Literal["equivalence", "independence", "minimality", "sufficiency", "partial necessity"]
FORMAT, VERSION = "edgewise-hypothesis-tests", 2


@dataclass(frozen=True)
class HypothesisTest:
    """One test: its statistic, its p-value, and what rejecting it means for the circuit.

    `p_value` is None where the test does not apply; `note` then says why. `adjusted` is corrected
    for the number of tests. `passed`: whether the circuit looks as it should.
    """

    name: TestName
    null: str
    alternative: str
    statistic_name: str
    statistic: float | None
    p_value: float | None
    n: int
    n_of: str  # "prompts", "random circuits"
    reject_is_good: bool
    adjusted: float | None = None
    rejected: bool | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        return None if self.rejected is None else self.rejected == self.reject_is_good

    @property
    def verdict(self) -> str:
        """In words."""
        if self.rejected is None:
            return f"{self.name} cannot be tested: {self.note}"
        what = self.alternative if self.rejected else f"not shown: {self.alternative}"
        return f"{'passed' if self.passed else 'failed'}; {what}"


@dataclass(frozen=True)
class EdgeTest:
    """Minimality of one edge: small p-values say that it matters no more than random ones."""

    edge: Edge
    effect: float  # how far removing it moves the mean loss
    larger_than: int  # so many of the random removals
    n: int
    p_value: float
    adjusted: float


@dataclass(frozen=True, eq=False)
class HypothesisTests:
    """The five tests of one circuit, and those of its edges behind minimality."""

    about: Mapping[str, Any]
    circuit: Circuit
    alpha: float
    epsilon: float
    quantile: float
    correction: Correction
    seed: int
    split: str
    tests: tuple[HypothesisTest, ...]
    edges: tuple[EdgeTest, ...] = field(default=())

    def of(self, name: str) -> HypothesisTest:
        """One test by its name."""
        for test in self.tests:
            if test.name == name:
                return test
        raise SettingError(f"no test {name!r}; there are {', '.join(t.name for t in self.tests)}.")

    @property
    def superfluous(self) -> Circuit:
        """The edges shown to matter no more than random ones, at `alpha` over all edges."""
        found = [test.edge for test in self.edges if test.adjusted <= self.alpha]
        return Circuit.of(self.circuit.graph, found)

    def to_json(self) -> dict[str, Any]:
        plain = ("alpha", "epsilon", "quantile", "correction", "seed", "split")
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: getattr(self, name) for name in plain},
            "about": dict(self.about),
            "circuit": self.circuit.to_json(),
            "tests": [{**asdict(t), "passed": t.passed, "verdict": t.verdict} for t in self.tests],
            "edges": [{**asdict(test), "edge": test.edge.name} for test in self.edges],
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, all of it or nothing. Raises `OutputError`."""
        return write_json(self.to_json(), Path(path))
