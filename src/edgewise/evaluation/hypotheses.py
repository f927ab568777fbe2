"""Five hypothesis tests of a circuit (Shi et al. 2024, arXiv 2410.13032), on any task and circuit.

s is a prompt's metric (higher is better), M the model, C the circuit, not C the model without C's
edges, F(A) = |mean loss of A - mean loss of M|, and R a random circuit: paths from an embedding to
the output, put together until they have C's size.

Null hypotheses, and what tests them:

- equivalence: |P(s(C) > s(M)) - 1/2| <= `epsilon`. A binomial tail.
- independence: s(not C) is independent of s(M). HSIC, by permutation.
- minimality, of each edge e of C: with probability `quantile` at least, removing e from C moves the
  mean loss more than removing a random added edge from C with a random path added. Binomial.
- sufficiency: F(C) < F(R) with probability `quantile` at most. Binomial.
- partial necessity: F(not C) > F(not R) with probability `quantile` at most. Binomial.

The first three are ideals: a circuit that has them is not rejected. The last two are achievements:
rejecting is what the circuit is for. p-values are corrected over the five tests together
(`correction`), those of edges first among themselves by Holm.

Where we differ from the paper or its package, circuitry:
- Metrics that measure the distance to the model itself (kl, l2: every prompt of M scores the same)
  leave nothing to outperform and nothing to depend on. There *equivalence* tests that C loses at
  most the share `epsilon` of what the empty circuit loses (Student's t over prompts), and
  *independence* compares outputs at the answer positions instead of scores.
- Ties s(C) = s(M) count half, which makes the test cautious; the fraction is tested, where the
  package has the mean difference. The tail is that of p = 1/2 + epsilon, the null's worst case.
- The permutation p-value counts the data itself, so it is never 0 and exact at every n; each
  Gaussian kernel of HSIC (Gretton et al. 2007) has its own width, the median distance of its
  values that differ.
- Ties with random circuits count for the null.

Sufficiency, necessity and minimality draw circuits on these prompts: they speak of random circuits,
not of other prompts. Equivalence and independence speak of prompts drawn like these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from edgewise.arguments import chance, check_choice, check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.documents import Count, Finite
from edgewise.errors import SettingError
from edgewise.evaluation.inference import (
    Correction,
    Values,
    binomial_p_value,
    corrected,
    equivalence_p_value,
    gaussian_kernel,
    hsic_test,
)
from edgewise.evaluation.random_circuits import CircuitSampler
from edgewise.evaluation.records import Record, SavedRecord
from edgewise.evaluation.replicates import AboutProblem
from edgewise.graph import Edge
from edgewise.methods.sequential import StagedT
from edgewise.problem import Problem, problem_and_circuit, run_circuit
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.tables import Cell, Column, Table, count

TestName = Literal["equivalence", "independence", "minimality", "sufficiency", "partial necessity"]


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
    n: Count  # prompts, or random circuits
    adjusted: Finite | None = None
    rejected: bool | None = None
    note: str = ""

    _derived = ("n_of", "reject_is_good", "passed", "verdict")

    @property
    def n_of(self) -> str:
        """What there are `n` of."""
        of_prompts = self.name in ("equivalence", "independence")
        return "prompts" if of_prompts else "random circuits"

    @property
    def reject_is_good(self) -> bool:
        """Whether rejecting the null is what the circuit is for; the other nulls are ideals."""
        return self.name in ("sufficiency", "partial necessity")

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
        tests: dict[str, HypothesisTest] = {test.name: test for test in self.tests}
        check_choice("test", name, tests)
        return tests[name]

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
        sentences = [summary, *(f"{test.name}: {test.verdict}." for test in self.tests)]
        sentences += [
            f"Note on {test.name}: {test.note}"
            for test in self.tests
            if test.note and test.passed is not None
        ]
        idle = self.superfluous.edges
        if idle:
            names = ", ".join(edge.name for edge in idle[:40])
            sentences.append(f"{count(len(idle), 'edge')} matter no more than random ones: {names}")
        return tuple(sentences)

    def tables(self) -> tuple[Table, ...]:
        """The tests, and the edges by how far they move the loss."""
        words = {True: "passed", False: "failed", None: "not tested"}
        tests: list[dict[str, Cell]] = [
            {
                "test": test.name,
                "statistic": test.statistic,
                "p": test.p_value,
                f"p, {self.correction}": test.adjusted,
                "n": test.n,
                "of": test.n_of,
                "result": words[test.passed],
                "null hypothesis": test.null,
            }
            for test in self.tests
        ]
        moves = Column("moves the loss by", unit=self.about.unit).heading
        edges: list[dict[str, Cell]] = [
            {
                "edge": test.edge,
                moves: test.effect,
                "more than so many random edges": test.larger_than,
                "of": test.n,
                "p": test.p_value,
                "p, holm": test.adjusted,
            }
            for test in sorted(self.edges, key=lambda test: -abs(test.effect))
        ]
        note = f"Seed {self.seed}. Shi et al. 2024, arXiv 2410.13032; see docs/stability.md."
        of_edges = [Table.of("Edges", edges, kinds={"edge": "name"})] if edges else []
        return Table.of("Tests", tests, notes=[note]), *of_edges


def hypothesis_tests(
    problem: Problem,
    circuit: Found,
    *,
    alpha: float = 0.05,
    epsilon: float = 0.1,
    quantile: float = 0.9,
    n_random: int = 100,
    n_permutations: int = 1000,
    max_edges: int | None = None,
    correction: Correction = "holm",
    seed: int = 0,
    split: str = "given",
    on_progress: OnProgress = ignore_progress,
) -> HypothesisTests:
    """Test a circuit on the problem's prompts; give ones that discovery has not seen, as task.test.

    Costs three passes over the prompts, four for each random circuit and one for each edge (at most
    `max_edges` of them, chosen at random). `split` names the prompts in the result. See
    `edgewise.evaluation.hypotheses` for what is tested. Raises `SettingError`, `MetricError`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-xproportion")
    >>> result = hypothesis_tests(task.test, task.truth, n_random=60)
    >>> result.of("sufficiency").rejected
    True
    """
    circuit = problem_and_circuit(problem, circuit, "hypothesis_tests")
    alpha, quantile = chance("alpha", alpha), chance("quantile", quantile)
    if not 0 < epsilon < 0.5:
        raise SettingError(f"epsilon is {epsilon!r}; it must be above 0 and below 0.5.")
    n_random = whole("n_random", n_random, 1)
    n_permutations = whole("n_permutations", n_permutations, 1)
    corrected([], correction)  # refuse another word before any work
    losses = CircuitLosses(problem, circuit, check_seed(seed), n_random, on_progress)
    edges, minimality = edge_minimality(losses, losses.chosen_edges(max_edges), quantile)
    tests = [
        _equivalence(losses, epsilon),
        _independence(losses, n_permutations),
        minimality,
        *against_random(losses, quantile),
    ]
    tested = [test for test in tests if test.p_value is not None]
    p_values = corrected([test.p_value for test in tested if test.p_value is not None], correction)
    adjusted = {test.name: p_value for test, p_value in zip(tested, p_values, strict=True)}
    return HypothesisTests(
        about=AboutProblem.of(problem),
        circuit=circuit,
        alpha=alpha,
        epsilon=epsilon,
        quantile=quantile,
        correction=correction,
        seed=seed,
        split=split,
        tests=tuple(_decided(test, adjusted.get(test.name), alpha) for test in tests),
        edges=tuple(edges),
    )


def _decided(test: HypothesisTest, adjusted: float | None, alpha: float) -> HypothesisTest:
    if adjusted is None:
        return test
    return replace(test, adjusted=adjusted, rejected=adjusted <= alpha)


class CircuitLosses:
    """What the tests measure: the loss of each prompt with the model, the circuit, and the rest."""

    def __init__(
        self,
        problem: Problem,
        circuit: Circuit,
        seed: int,
        n_random: int,
        on_progress: OnProgress,
    ) -> None:
        self.problem, self.circuit, self.seed, self.n_random = problem, circuit, seed, n_random
        self._on_progress, self._done = on_progress, 0
        self.full = self.of(Circuit.full(circuit.graph))
        self.own = self.of(circuit)
        self.without = self.of(circuit.complement())

    def of(self, circuit: Circuit) -> Values:
        """The loss of each prompt with a circuit."""
        self._done += 1
        total = 4 + 4 * self.n_random + self.circuit.n_edges
        self._on_progress(Progress(min(self._done, total), total, "circuits run"))
        losses = self.problem.metric.loss_sign * self.problem.per_prompt(circuit)
        values: Values = losses.double().numpy()
        return values

    def distance(self, losses: Values) -> float:
        """How far a mean loss is from the model's."""
        return abs(float(losses.mean() - self.full.mean()))

    def effect(self, circuit: Circuit, losses: Values, edge: Edge) -> float:
        """How far removing an edge moves the mean loss of a circuit that has these losses."""
        return abs(float((self.of(circuit.without(edge)) - losses).mean()))

    @property
    def measure_distance(self) -> bool:
        """Whether the metric compares with the model, which so has the same score everywhere."""
        scale = max(1.0, float(np.abs(self.full).max()))
        return bool(np.ptp(self.full) <= 1e-6 * scale) and len(self.full) > 1

    def chosen_edges(self, most: int | None) -> list[Edge]:
        """The circuit's edges, or as many at random."""
        edges = self.circuit.edges
        if most is None or most >= len(edges):
            return list(edges)
        random = np.random.default_rng([self.seed, 3])
        chosen = random.choice(len(edges), whole("max_edges", most, 1), replace=False)
        return [edges[i] for i in sorted(chosen.tolist())]


# --- equivalence


def _equivalence(losses: CircuitLosses, epsilon: float) -> HypothesisTest:
    n, lost = len(losses.full), losses.own - losses.full
    if losses.measure_distance:
        of_empty = losses.of(Circuit.empty(losses.circuit.graph)) - losses.full
        effect, size = float(of_empty.mean()), f"{epsilon:g} of what the empty circuit loses"
        claim = f"the circuit loses at most {size}", f"the circuit loses more than {size}"
        share = float(lost.mean()) / effect if effect else 0.0
        p_value = StagedT((n,), 0.0, 0.05).evidence(lost - epsilon * of_empty).p_above
        note = "The metric is a distance to the model, which cannot be outperformed."
    else:
        better, note = float((lost < 0).sum() + 0.5 * (lost == 0).sum()), ""
        claim = (
            f"circuit and model outperform each other equally often, up to {epsilon:g}",
            "one of circuit and model outperforms the other more often",
        )
        share, p_value = better / n, equivalence_p_value(better, n, epsilon)
    return HypothesisTest("equivalence", *claim, share, p_value, n, note=note)


# --- independence


def _independence(losses: CircuitLosses, n_permutations: int) -> HypothesisTest:
    model, rest, what = losses.full, losses.without, "score"
    if losses.measure_distance:
        graph, what = losses.circuit.graph, "output"
        model = _outputs(losses.problem, Circuit.full(graph))
        rest = _outputs(losses.problem, losses.circuit.complement())
    random, note = np.random.default_rng([losses.seed, 0]), ""
    hsic, p_value = hsic_test(model, rest, random, n_permutations=n_permutations)
    if gaussian_kernel(model) is None:
        note = f"The model's {what} is the same on every prompt: nothing can depend on it."
    elif gaussian_kernel(rest) is None:
        note = f"Without the circuit every prompt has the same {what}."
    null = f"the {what} without the circuit is independent of the model's"
    alternative = f"the {what} without the circuit still depends on the model's"
    tested = hsic, p_value, len(model)
    return HypothesisTest("independence", null, alternative, *tested, note=note)


def _outputs(problem: Problem, circuit: Circuit) -> Values:
    """Each prompt's logits at its answer positions, one after the other; 0 where it has fewer."""
    ablation, rows = problem.ablation.over(problem.pairs), list[torch.Tensor]()
    for pairs in problem.pairs.batches(problem.batch_size or 16):
        part = problem.with_(pairs=pairs, ablation=ablation)
        logits = run_circuit(part, circuit).double().cpu()
        rows += [row[at].flatten() for row, at in zip(logits, pairs.answer_at, strict=True)]
    values: Values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).numpy()
    return values


# --- beside random circuits


def against_random(losses: CircuitLosses, quantile: float) -> Iterator[HypothesisTest]:
    """Sufficiency and partial necessity, against the same random circuits."""
    n, size = losses.n_random, losses.circuit.n_edges
    sampler = CircuitSampler(losses.circuit.graph, losses.seed, 1)
    own, without = losses.distance(losses.own), losses.distance(losses.without)
    closer = further = 0
    for _ in range(n):
        random = sampler.paths(size)
        closer += own < losses.distance(losses.of(random))
        further += without > losses.distance(losses.of(random.complement()))
    near = f"the circuit is closer to the full model than a random circuit of {size} edges"
    far = f"removing the circuit moves the model further than removing a random one of {size} edges"
    tests: list[tuple[TestName, int, str]] = [
        ("sufficiency", closer, near),
        ("partial necessity", further, far),
    ]
    for name, n_with, claim in tests:
        p_value = binomial_p_value(n_with, n, quantile, alternative="greater")
        null, alternative = (
            f"{claim} with probability {x} {quantile:g}" for x in ("at most", "above")
        )
        yield HypothesisTest(name, null, alternative, n_with / n, p_value, n)


def edge_minimality(
    losses: CircuitLosses, edges: list[Edge], quantile: float
) -> tuple[list[EdgeMinimality], HypothesisTest]:
    """Each edge's effect in the circuit, among those of random edges added to it."""
    circuit, n = losses.circuit, losses.n_random
    null = f"removing any edge matters more than removing a random one, for {quantile:g} of these"
    alternative = "some edge of the circuit matters no more than random ones"
    test = HypothesisTest("minimality", null, alternative, None, None, n)
    if not edges:
        return [], replace(test, note="the circuit has no edges")
    sampler, drawn = CircuitSampler(circuit.graph, losses.seed, 2), list[float]()
    for _ in range(n):
        inflated = sampler.inflated(circuit)
        if inflated is None:
            return [], replace(test, note="the circuit has every path")
        more, added = inflated
        drawn.append(losses.effect(more, losses.of(more), added))
    effects = [losses.effect(circuit, losses.own, edge) for edge in edges]
    larger = [sum(effect > of_random for of_random in drawn) for effect in effects]
    p_values = [binomial_p_value(n_larger, n, quantile, alternative="less") for n_larger in larger]
    adjusted = corrected(p_values, "holm")
    names, sizes = [edge.name for edge in edges], [n] * len(edges)
    results = map(EdgeMinimality, names, effects, larger, sizes, p_values, adjusted)
    return list(results), replace(test, statistic=min(p_values), p_value=min(adjusted))
