"""What hypothesis tests of a circuit found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgewise.circuit import Circuit
from edgewise.documents import Count, Finite
from edgewise.errors import SettingError
from edgewise.evaluation.records import Record, SavedRecord
from edgewise.evaluation.resampling import AboutProblem
from edgewise.tables import Column, Table, count

TestName = Literal["equivalence", "independence", "minimality", "sufficiency", "partial necessity"]
Correction = Literal["holm", "benjamini-hochberg", "none"]


@dataclass(frozen=True)
class HypothesisTest(Record):
    """One test: its statistic, its p-value, and what rejecting it means for the circuit.

    `p_value` is None where the test does not apply; `note` then says why. `adjusted` is corrected
    for the number of tests. `passed`: whether the circuit looks as it should.
    """

    name: TestName
    null: str
    alternative: str
    statistic: Finite | None
    p_value: Finite | None
    n: Count
    n_of: str  # "prompts", "random circuits"
    reject_is_good: bool
    adjusted: Finite | None = None
    rejected: bool | None = None
    note: str = ""

    _derived = ("passed", "verdict")

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
class EdgeMinimality:
    """Minimality of one edge: small p-values say that it matters no more than random ones."""

    edge: str
    effect: Finite  # how far removing it moves the mean loss
    larger_than: Count  # so many of the random removals
    n: Count
    p_value: Finite
    adjusted: Finite


@dataclass(frozen=True, eq=False)
class HypothesisTests(SavedRecord):
    """The five tests of one circuit, and those of its edges behind minimality."""

    about: AboutProblem
    circuit: Circuit
    alpha: Finite
    epsilon: Finite
    quantile: Finite
    correction: Correction
    seed: int
    split: str
    tests: tuple[HypothesisTest, ...]
    edges: tuple[EdgeMinimality, ...] = ()

    FORMAT, VERSION = "edgewise-hypothesis-tests", 2
    _derived = ("sentences",)

    def of(self, name: str) -> HypothesisTest:
        """One test by its name."""
        for test in self.tests:
            if test.name == name:
                return test
        raise SettingError(f"no test {name!r}; there are {', '.join(t.name for t in self.tests)}.")

    @property
    def superfluous(self) -> Circuit:
        """The edges shown to matter no more than random ones, at `alpha` over all edges."""
        edges = [test.edge for test in self.edges if test.adjusted <= self.alpha]
        return Circuit.of(self.circuit.graph, edges)

    @property
    def title(self) -> str:
        return f"Hypothesis tests of a circuit on {self.about.source}"

    def sentences(self) -> tuple[str, ...]:
        """How many tests speak for the circuit, and what each says."""
        passed = [test.passed for test in self.tests if test.passed is not None]
        size = f"{self.circuit.n_edges:,} of {self.circuit.graph.n_edges:,} edges"
        summary = (
            f"{sum(passed)} of {len(passed)} tests speak for the circuit ({size}), on the "
            f"{self.split} prompts at an error rate of {self.alpha:g} for all together."
        )
        tests = [f"{test.name}: {test.verdict}." for test in self.tests]
        notes = [
            f"Note on {test.name}: {test.note}"
            for test in self.tests
            if test.note and test.passed is not None
        ]
        idle = self.superfluous.edges
        names = ", ".join(edge.name for edge in idle[:40])
        random = [f"{count(len(idle), 'edge')} matter no more than random ones: {names}"]
        return summary, *tests, *notes, *(random if idle else [])

    def tables(self) -> tuple[Table, ...]:
        """The tests, and the edges by how far they move the loss."""
        columns = (
            Column("test"),
            Column("statistic", "number"),
            Column("p", "number"),
            Column(f"p, {self.correction}", "number"),
            Column("n", "count"),
            Column("of"),
            Column("result"),
            Column("null hypothesis"),
        )
        words = {True: "passed", False: "failed", None: "not tested"}
        rows = tuple(
            (t.name, t.statistic, t.p_value, t.adjusted, t.n, t.n_of, words[t.passed], t.null)
            for t in self.tests
        )
        note = f"Seed {self.seed}. Shi et al. 2024, arXiv 2410.13032; see docs/stability.md."
        tests = Table("Tests", columns, rows, (note,))
        return (tests, self._edges_table()) if self.edges else (tests,)

    def _edges_table(self) -> Table:
        columns = (
            Column("edge", "name"),
            Column("moves the loss by", "number", self.about.unit),
            Column("more than so many random edges", "count"),
            Column("of", "count"),
            Column("p", "number"),
            Column("p, holm", "number"),
        )
        ranked = sorted(self.edges, key=lambda test: -abs(test.effect))
        rows = tuple((e.edge, e.effect, e.larger_than, e.n, e.p_value, e.adjusted) for e in ranked)
        return Table("Edges", columns, rows)
