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

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from edgewise.arguments import chance, check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.errors import SettingError, unknown_name
from edgewise.evaluation.hypothesis_results import (
    Correction,
    EdgeMinimality,
    HypothesisTest,
    HypothesisTests,
    TestName,
)
from edgewise.evaluation.random_circuits import CircuitSampler
from edgewise.evaluation.resampling import AboutProblem
from edgewise.graph import Edge
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.methods.sequential import StagedT
from edgewise.problem import Problem, problem_and_circuit, run_circuit

Values = NDArray[np.float64]  # of each prompt


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
    p_values = {test.name: test.p_value for test in tests if test.p_value is not None}
    adjusted = dict(zip(p_values, corrected(list(p_values.values()), correction), strict=True))
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
        places = random.choice(len(edges), whole("max_edges", most, 1), replace=False)
        return [edges[place] for place in sorted(places.tolist())]


# --- equivalence


def equivalence_p_value(better: float, n: int, epsilon: float) -> float:
    """P(|K/n - 1/2| >= |better/n - 1/2|) for K binomial with probability 1/2 + epsilon."""
    from scipy.stats import binom

    distance = abs(better / n - 0.5) - 1e-12
    low, high = np.floor(n * (0.5 - distance)), np.ceil(n * (0.5 + distance))
    tails = binom.cdf(low, n, 0.5 + epsilon) + binom.sf(high - 1, n, 0.5 + epsilon)
    return min(1.0, float(tails))


def _equivalence(losses: CircuitLosses, epsilon: float) -> HypothesisTest:
    n = len(losses.full)
    if losses.measure_distance:
        return _kept_effect(losses, epsilon)
    better = float((losses.own < losses.full).sum() + 0.5 * (losses.own == losses.full).sum())
    return HypothesisTest(
        "equivalence",
        f"circuit and model outperform each other equally often, up to {epsilon:g}",
        "one of circuit and model outperforms the other more often",
        better / n,
        equivalence_p_value(better, n, epsilon),
        n,
        "prompts",
        reject_is_good=False,
    )


def _kept_effect(losses: CircuitLosses, epsilon: float) -> HypothesisTest:
    n, empty = len(losses.full), losses.of(Circuit.empty(losses.circuit.graph))
    lost = (losses.own - losses.full) - epsilon * (empty - losses.full)
    effect = float((empty - losses.full).mean())
    return HypothesisTest(
        "equivalence",
        f"the circuit loses at most {epsilon:g} of what the empty circuit loses",
        f"the circuit loses more than {epsilon:g} of what the empty circuit loses",
        float((losses.own - losses.full).mean()) / effect if effect else 0.0,
        StagedT((n,), 0.0, 0.05).evidence(lost).p_above,
        n,
        "prompts",
        reject_is_good=False,
        note="The metric is a distance to the model, which cannot be outperformed.",
    )


# --- independence


def _independence(losses: CircuitLosses, n_permutations: int) -> HypothesisTest:
    model, rest, what = losses.full, losses.without, "score"
    if losses.measure_distance:
        graph = losses.circuit.graph
        model = _outputs(losses.problem, Circuit.full(graph))
        rest = _outputs(losses.problem, losses.circuit.complement())
        what = "output"
    random = np.random.default_rng([losses.seed, 0])
    hsic, p_value = hsic_test(model, rest, random, n_permutations=n_permutations)
    note = ""
    if _kernel(model) is None:
        note = f"The model's {what} is the same on every prompt: nothing can depend on it."
    elif _kernel(rest) is None:
        note = f"Without the circuit every prompt has the same {what}."
    return HypothesisTest(
        "independence",
        f"the {what} without the circuit is independent of the model's",
        f"the {what} without the circuit still depends on the model's",
        hsic,
        p_value,
        len(model),
        "prompts",
        reject_is_good=False,
        note=note,
    )


def _outputs(problem: Problem, circuit: Circuit) -> Values:
    """Each prompt's logits at its answer positions, one after the other; 0 where it has fewer."""
    ablation, rows = problem.ablation.over(problem.pairs), list[torch.Tensor]()
    for pairs in problem.pairs.batches(problem.batch_size or 16):
        part = problem.with_(pairs=pairs, ablation=ablation)
        logits = run_circuit(part, circuit).double().cpu()
        rows += [row[at].flatten() for row, at in zip(logits, pairs.answer_at, strict=True)]
    values: Values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).numpy()
    return values


def hsic_test(
    first: Values, second: Values, random: np.random.Generator, *, n_permutations: int
) -> tuple[float, float]:
    """HSIC of rows of `first` [n, ...] and of `second` [n, ...], and its p-value by permutation.

    tr(K H L H) / (n - 1)^2 with kernels K and L and H = I - 1/n. Under independence the pairs may
    be matched anew at random: p = (1 + how many of B such matches are at least as large) / (1 + B).
    What does not vary is independent of all: 0 and 1.
    """
    n, kernel, rest = len(first), _kernel(first), _kernel(second)
    if kernel is None or rest is None:
        return 0.0, 1.0
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    observed = float((centred * rest).sum()) / (n - 1) ** 2
    at_least = 0
    for _ in range(n_permutations):
        order = random.permutation(n)
        matched = float((centred * rest[np.ix_(order, order)]).sum()) / (n - 1) ** 2
        at_least += matched >= observed - 1e-12 * abs(observed)
    return observed, (1 + at_least) / (1 + n_permutations)


def _kernel(values: Values) -> Values | None:
    """The Gaussian kernel of rows; None if they are all the same, up to rounding."""
    rows = np.asarray(values, float).reshape(len(values), -1)
    squares = (rows**2).sum(axis=1)
    distances = (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clip(min=0)
    apart = distances[np.triu_indices(len(rows), 1)]
    apart = apart[apart > 1e-10 * max(float(squares.max()), 1e-30)]
    if not len(apart):
        return None
    kernel: Values = np.exp(-distances / (2 * np.median(apart)))
    return kernel


# --- beside random circuits


def against_random(losses: CircuitLosses, quantile: float) -> list[HypothesisTest]:
    """Sufficiency and partial necessity, against the same random circuits."""
    n, size = losses.n_random, f"of {losses.circuit.n_edges} edges"
    sampler = CircuitSampler(losses.circuit.graph, losses.seed, 1)
    own, without = losses.distance(losses.own), losses.distance(losses.without)
    closer = further = 0
    for _ in range(n):
        random = sampler.paths(losses.circuit.n_edges)
        closer += own < losses.distance(losses.of(random))
        further += without > losses.distance(losses.of(random.complement()))
    claims: dict[TestName, tuple[int, str]] = {
        "sufficiency": (
            closer,
            f"the circuit is closer to the full model than a random circuit {size}",
        ),
        "partial necessity": (
            further,
            f"removing the circuit moves the model further than removing a random one {size}",
        ),
    }
    return [
        HypothesisTest(
            name,
            f"{claim} with probability at most {quantile:g}",
            f"{claim} with probability above {quantile:g}",
            count / n,
            _binomial(count, n, quantile, "greater"),
            n,
            "random circuits",
            reject_is_good=True,
        )
        for name, (count, claim) in claims.items()
    ]


def edge_minimality(
    losses: CircuitLosses, edges: list[Edge], quantile: float
) -> tuple[list[EdgeMinimality], HypothesisTest]:
    """Each edge's effect in the circuit, among those of random edges added to it."""
    circuit = losses.circuit
    test = HypothesisTest(
        "minimality",
        f"removing any edge matters more than removing a random one, for {quantile:g} of these",
        "some edge of the circuit matters no more than random ones",
        None,
        None,
        losses.n_random,
        "random circuits",
        reject_is_good=False,
    )
    if not edges:
        return [], replace(test, note="the circuit has no edges")
    random = _random_effects(losses)
    if random is None:
        return [], replace(test, note="the circuit has every path")
    effects = [abs(float((losses.of(circuit.without(e)) - losses.own).mean())) for e in edges]
    larger = [sum(effect > drawn for drawn in random) for effect in effects]
    p_values = [_binomial(n_larger, len(random), quantile, "less") for n_larger in larger]
    adjusted = corrected(p_values, "holm")
    results = [
        EdgeMinimality(edge.name, effect, n_larger, len(random), p, p_of_all)
        for edge, effect, n_larger, p, p_of_all in zip(
            edges, effects, larger, p_values, adjusted, strict=True
        )
    ]
    return results, replace(test, statistic=min(p_values), p_value=min(adjusted))


def _random_effects(losses: CircuitLosses) -> list[float] | None:
    """How far removing a random edge of a random path moves the loss; None if no path is new."""
    sampler = CircuitSampler(losses.circuit.graph, losses.seed, 2)
    effects = []
    for _ in range(losses.n_random):
        drawn = sampler.inflated(losses.circuit)
        if drawn is None:
            return None
        inflated, index = drawn
        keep = inflated.keep.clone()
        keep[index] = False
        smaller = Circuit(inflated.graph, keep)
        effects.append(abs(float((losses.of(smaller) - losses.of(inflated)).mean())))
    return effects


def _binomial(count: int, n: int, quantile: float, alternative: str) -> float:
    from scipy.stats import binomtest  # slow to import

    return float(binomtest(count, n, quantile, alternative=alternative).pvalue)


def corrected(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Adjusted p-values: reject those at most alpha.

    Holm: any wrong rejection at all has probability at most alpha, however the tests depend on
    each other. Benjamini and Hochberg: at most a share alpha of the rejections is wrong on
    average, for independent tests or ones that lean the same way.

    >>> corrected([0.01, 0.04, 0.03], "holm")
    (0.03, 0.06, 0.06)
    """
    if correction not in get_args(Correction):
        raise unknown_name("correction", correction, get_args(Correction))
    p = np.asarray(p_values, dtype=float)
    if correction == "none" or not len(p):
        return tuple(p.tolist())
    if correction == "benjamini-hochberg":
        from scipy.stats import false_discovery_control

        return tuple(false_discovery_control(p).tolist())
    order = p.argsort(kind="stable")
    result = np.empty(len(p))
    result[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return tuple(result.tolist())
