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
- The permutation p-value counts the data itself, so it is never 0; each kernel has its own width.
- Ties with random circuits count for the null.

Sufficiency, necessity and minimality draw circuits on these prompts: they speak of random circuits,
not of other prompts. Equivalence and independence speak of prompts drawn like these.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edgewise.arguments import chance, check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.errors import SettingError
from edgewise.evaluation.against_random import against_random, minimality
from edgewise.evaluation.circuit_bench import Bench
from edgewise.evaluation.hypothesis_results import HypothesisTest, HypothesisTests
from edgewise.evaluation.independence import Values, independence
from edgewise.evaluation.proportions import Correction, corrected
from edgewise.evaluation.resampling import about
from edgewise.methods import OnProgress, ignore_progress
from edgewise.methods.sequential import StagedT
from edgewise.problem import Problem, problem_and_circuit, run_circuit


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
    >>> found = hypothesis_tests(task.test, task.truth, n_random=60)
    >>> found.of("sufficiency").rejected
    True
    """
    circuit = problem_and_circuit(problem, circuit, "hypothesis_tests")
    alpha, quantile = chance("alpha", alpha), chance("quantile", quantile)
    if not 0 < epsilon < 0.5:
        raise SettingError(f"epsilon is {epsilon!r}; it must be above 0 and below 0.5.")
    n_random = whole("n_random", n_random, 1)
    n_permutations = whole("n_permutations", n_permutations, 1)
    corrected([], correction)  # refuse another word before any work
    bench = Bench(problem, circuit, check_seed(seed), n_random, on_progress)
    chosen = bench.chosen_edges(max_edges)
    raw = [
        _equivalence(bench, epsilon),
        _independence(bench, n_permutations),
        *against_random(bench, quantile),
    ]
    edges, of_edges = minimality(bench, chosen, quantile)
    raw.insert(2, of_edges)
    p_values = [test.p_value for test in raw if test.p_value is not None]
    adjusted = iter(corrected(p_values, correction))
    tests = []
    for test in raw:
        if test.p_value is not None:
            p = next(adjusted)
            test = replace(test, adjusted=p, rejected=p <= alpha)
        tests.append(test)
    return HypothesisTests(
        about=about(problem),
        circuit=circuit,
        alpha=alpha,
        epsilon=epsilon,
        quantile=quantile,
        correction=correction,
        seed=seed,
        split=split,
        tests=tuple(tests),
        edges=tuple(edges),
    )


def equivalence_p_value(better: float, n: int, epsilon: float) -> float:
    """P(|K/n - 1/2| >= |better/n - 1/2|) for K binomial with probability 1/2 + epsilon."""
    from scipy.stats import binom

    distance = abs(better / n - 0.5) - 1e-12
    low, high = np.floor(n * (0.5 - distance)), np.ceil(n * (0.5 + distance))
    tails = binom.cdf(low, n, 0.5 + epsilon) + binom.sf(high - 1, n, 0.5 + epsilon)
    return min(1.0, float(tails))


def _equivalence(bench: Bench, epsilon: float) -> HypothesisTest:
    n = len(bench.full)
    if bench.is_distance:
        return _kept_effect(bench, epsilon)
    better = float((bench.own < bench.full).sum() + 0.5 * (bench.own == bench.full).sum())
    return HypothesisTest(
        "equivalence",
        f"circuit and model outperform each other equally often, up to {epsilon:g}",
        "one of circuit and model outperforms the other more often",
        "share of prompts on which the circuit does better",
        better / n,
        equivalence_p_value(better, n, epsilon),
        n,
        "prompts",
        reject_is_good=False,
    )


def _kept_effect(bench: Bench, epsilon: float) -> HypothesisTest:
    n, empty = len(bench.full), bench.losses(Circuit.empty(bench.circuit.graph))
    lost = (bench.own - bench.full) - epsilon * (empty - bench.full)
    whole_effect = float((empty - bench.full).mean())
    share = float((bench.own - bench.full).mean()) / whole_effect if whole_effect else 0.0
    return HypothesisTest(
        "equivalence",
        f"the circuit loses at most {epsilon:g} of what the empty circuit loses",
        f"the circuit loses more than {epsilon:g} of what the empty circuit loses",
        "share of the effect that is lost",
        share,
        StagedT((n,), 0.0, 0.05).judge(lost).p_above,
        n,
        "prompts",
        reject_is_good=False,
        note="The metric is a distance to the model, which cannot be outperformed.",
    )


def _independence(bench: Bench, n_permutations: int) -> HypothesisTest:
    first, second, what = bench.full, bench.without, "score"
    if bench.is_distance:
        graph = bench.circuit.graph
        first = _outputs(bench.problem, Circuit.full(graph))
        second = _outputs(bench.problem, bench.circuit.complement())
        what = "output"
    random = np.random.default_rng([bench.seed, 0])
    found = independence(first, second, n_permutations=n_permutations, random=random)
    notes = {
        "first": f"The model's {what} is the same on every prompt: nothing can depend on it.",
        "second": f"Without the circuit every prompt has the same {what}.",
    }
    note = notes[found.constant] if found.constant else ""
    return HypothesisTest(
        "independence",
        f"the {what} without the circuit is independent of the model's",
        f"the {what} without the circuit still depends on the model's",
        "HSIC",
        found.hsic,
        found.p_value,
        found.n,
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
        rows += [one[at].flatten() for one, at in zip(logits, pairs.answer_at, strict=True)]
    values: Values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).numpy()
    return values
