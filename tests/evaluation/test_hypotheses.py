"""Hypothesis tests of circuits: their rate on null circuits, their power on planted faults."""

import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest

import edgewise as ew
from edgewise.evaluation.hypotheses import CircuitLosses, against_random
from edgewise.evaluation.inference import corrected, equivalence_p_value, hsic_test
from edgewise.evaluation.random_circuits import CircuitSampler
from edgewise.methods import ignore_progress


def most_rejections(repetitions, rate):
    """As many as a test that holds its rate exceeds once in a thousand such experiments."""
    return binom.ppf(0.999, repetitions, rate)


def test_corrections_are_their_definitions():
    """Holm steps down: reject in order while the k-th smallest is at most alpha / (n - k)."""
    for seed in range(5):
        p_values = np.random.default_rng(seed).beta(0.3, 1, size=1 + 3 * seed)
        adjusted = corrected(p_values.tolist(), "holm")
        for alpha in (0.01, 0.05, 0.2):
            rejected = set()
            for k, index in enumerate(np.argsort(p_values)):
                if p_values[index] > alpha / (len(p_values) - k):
                    break
                rejected.add(int(index))
            assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    p = [0.01, 0.02, 0.03, 0.5]
    assert corrected(p, "benjamini-hochberg") == pytest.approx((0.04, 0.04, 0.04, 0.5))
    assert corrected(p, "none") == tuple(p)


# --- nominal rates, simulated


@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_equivalence_holds_its_rate_at_the_edge_of_the_null(ties):
    random = np.random.default_rng(0)
    n, epsilon, rejected = 60, 0.1, 0
    for _ in range(300):
        tied = random.random(n) < ties
        # The mean of the halves that ties count as, and of wins, is 1/2 + epsilon.
        win = random.random(n) < (0.6 - 0.5 * ties) / (1 - ties)
        rejected += equivalence_p_value(float(np.where(tied, 0.5, win).sum()), n, epsilon) <= 0.05
    assert rejected <= most_rejections(300, 0.05)


def test_equivalence_is_the_binomial_tail_and_has_power():
    tail = [binom.pmf(k, 60, 0.6) for k in range(61) if abs(k / 60 - 0.5) >= 0.25 - 1e-9]
    assert equivalence_p_value(45, 60, 0.1) == pytest.approx(sum(tail))
    assert equivalence_p_value(30, 60, 0.1) == 1
    assert equivalence_p_value(55, 60, 0.1) < 1e-5


def test_independence_holds_its_rate_and_sees_what_correlation_does_not():
    random = np.random.default_rng(1)
    rejected = powerful = 0
    for _ in range(80):
        x, y = random.normal(size=40), random.exponential(size=40)
        rejected += hsic_test(x, y, random, n_permutations=39)[1] <= 0.05
        bent = x**2 + 0.2 * random.normal(size=40)
        powerful += hsic_test(x, bent, random, n_permutations=39)[1] <= 0.05
    assert rejected <= most_rejections(80, 0.05)
    assert powerful > 70


def test_hsic_is_its_definition():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(12, 2)), random.normal(size=12)
    found = hsic_test(x, y, random, n_permutations=5)
    centre, kernels = np.eye(12) - 1 / 12, []
    for values in (x, y[:, None]):
        squares = ((values[:, None] - values[None]) ** 2).sum(-1)
        width = np.median(squares[np.triu_indices(12, 1)])
        kernels.append(np.exp(-squares / (2 * width)))
    by_hand = np.trace(kernels[0] @ centre @ kernels[1] @ centre) / 11**2
    assert found[0] == pytest.approx(by_hand)
    assert hsic_test(x, np.ones(12), random, n_permutations=5) == (0.0, 1.0)


def test_random_circuits_are_rarely_found_sufficient(small_problem):
    """Null circuits: drawn like those they are compared with. The null is true of nine in ten."""
    problem = small_problem(3, "kl", n=8, n_layers=1)
    sampler = CircuitSampler(problem.graph, 99)
    losses = sorted(problem.loss(sampler.paths(12)) for _ in range(40))
    rejected, wrong, n = 0, 0, 8
    for seed in range(n):
        circuit = sampler.paths(12)
        losses_of = CircuitLosses(problem, circuit, seed, 30, ignore_progress)
        reject = next(iter(against_random(losses_of, 0.9))).p_value <= 0.05
        rejected += reject
        wrong += reject and problem.loss(circuit) > losses[4]  # not of the best tenth
    assert rejected <= most_rejections(n, 0.15)
    assert wrong <= most_rejections(n, 0.05)


# --- planted faults


@pytest.fixture(scope="module")
def program():
    return ew.load_task("tracr-xproportion")


@pytest.fixture(scope="module")
def minimal(program):
    """What ACDC keeps: every edge of it matters."""
    return ew.acdc(program.problem, threshold=1e-4).circuit


@pytest.fixture(scope="module")
def result(program, minimal):
    return ew.hypothesis_tests(
        program.test, minimal, n_random=45, n_permutations=49, split="held-out"
    )


def test_the_circuit_of_a_program_passes(result, minimal):
    for name in ("equivalence", "independence", "minimality", "sufficiency"):
        assert result.of(name).passed, name
    assert result.of("sufficiency").adjusted <= 0.05
    assert result.superfluous.n_edges == 0
    assert len(result.edges) == minimal.n_edges


def test_a_dropped_edge_is_seen_by_equivalence(program, minimal):
    for edge in minimal.edges[::3]:
        found = ew.hypothesis_tests(
            program.test, minimal.without(edge), n_random=2, n_permutations=9, max_edges=1
        )
        assert found.of("equivalence").rejected, edge.name
        assert found.of("equivalence").statistic > 0.1


def test_an_added_edge_is_named_by_minimality(program, minimal):
    junk = (program.truth.complement()).edges[4]
    more = minimal | ew.Circuit.of(minimal.graph, [junk])
    found = ew.hypothesis_tests(program.test, more, n_random=45, n_permutations=9)
    assert found.of("minimality").passed is False
    assert found.superfluous.edges == (junk,)
    assert found.of("equivalence").passed


def test_work_that_is_done_outside_the_circuit_is_seen_by_independence(program, minimal):
    junk = ew.Circuit.of(minimal.graph, minimal.complement().edges[:1])
    found = ew.hypothesis_tests(program.test, junk, n_random=1, n_permutations=199)
    assert found.of("independence").rejected
    assert "still depends" in found.of("independence").verdict


def test_scores_that_can_be_outperformed_are_compared_prompt_by_prompt(small_problem):
    problem = small_problem(5, n=30)
    full = ew.Circuit.full(problem.graph)
    less = full.without("m1->logits")
    found = ew.hypothesis_tests(problem, less, n_random=3, max_edges=2)
    scores = [problem.per_prompt(c).numpy() for c in (less, full)]
    better = (scores[0] > scores[1]).sum() + (scores[0] == scores[1]).sum() / 2
    assert found.of("equivalence").statistic == pytest.approx(better / 30)
    assert found.of("independence").null.startswith("the score without the circuit")
    whole = ew.hypothesis_tests(problem, full, n_random=3, max_edges=2)
    assert whole.of("equivalence").p_value == 1  # nothing but ties
    assert whole.of("minimality").passed is None
    assert "every path" in whole.of("minimality").verdict
    assert ew.hypothesis_tests(problem, full - full, n_random=3).of("minimality").p_value is None


def test_random_tests_count_what_they_say(program, minimal):
    asked = {"n_random": 15, "n_permutations": 9, "max_edges": 2, "correction": "none"}
    found = ew.hypothesis_tests(program.test, minimal, seed=3, **asked)
    sampler = CircuitSampler(minimal.graph, 3, 1)
    model = program.test.loss(ew.Circuit.full(minimal.graph))
    own = abs(program.test.loss(minimal) - model)
    closer = sum(
        own < abs(program.test.loss(sampler.paths(minimal.n_edges)) - model) for _ in range(15)
    )
    test = found.of("sufficiency")
    assert test.statistic == closer / 15
    assert test.p_value == test.adjusted == binomtest(closer, 15, 0.9, "greater").pvalue
    again = ew.hypothesis_tests(program.test, minimal, seed=3, **asked)
    assert again.to_json() == found.to_json()


def test_results_are_json_and_words(result, tmp_path):
    document = json.loads(result.save(tmp_path / "tests.json").read_text())
    assert ew.HypothesisTests.load(tmp_path / "tests.json").to_json() == result.to_json()
    assert (document["about"]["n_prompts"], document["split"]) == (50, "held-out")
    assert len(document["tests"]) == 5
    for test in document["tests"]:
        assert test["verdict"].startswith(("passed; ", "failed; "))
        assert all(test[key] for key in ("n", "n_of", "null", "alternative"))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"epsilon": 0.5}, "epsilon is 0.5"),
        ({"quantile": 1.0}, "quantile is 1.0"),
        ({"n_random": 0}, "n_random is 0"),
        ({"max_edges": 0}, "max_edges is 0"),
    ],
)
def test_bad_settings_are_refused(program, minimal, asked, words):
    with pytest.raises(ew.EdgewiseError, match=words):
        ew.hypothesis_tests(program.test, minimal, **asked)
