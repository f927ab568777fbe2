"""ACDC with tests: the sequential tests hold their error rate, and the search is what it says."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binom

import edgewise as ew
from edgewise.errors import FormatError
from edgewise.methods.method_result import Decision, Evidence
from edgewise.methods.sequential import Betting, StagedT, looks, shares_spent
from edgewise.methods.steps import is_read, receiver_steps
from models import random_model, random_pairs

N = 100
SIZES = looks(N, 16)


def most_rejections(repetitions, rate):
    """As many as a test that holds its rate exceeds once in a thousand such experiments."""
    return binom.ppf(0.999, repetitions, rate)


def shown(test, draws):
    """How often a test shows 'above' and 'below', stopping at the first look that shows either."""
    counts = {"above": 0, "below": 0, "undecided": 0}
    for values in draws:
        for size in SIZES:
            verdict = test.evidence(values[:size]).verdict
            if verdict != "undecided":
                break
        counts[verdict] += 1
    return counts


def test_looks_double_and_the_shares_of_the_error_rate_add_up():
    assert [looks(*size) for size in ((6, 16), (2, 2), (50, 16))] == [(6,), (2,), (16, 32, 50)]
    assert sum(shares_spent(SIZES)) == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_staged_t_test_holds_its_rate_on_normal_values(rate):
    draws = np.random.default_rng(1).normal(0.3, 1.0, (1500, N))
    counts = shown(StagedT(SIZES, 0.3, rate), draws)
    assert counts["above"] <= most_rejections(1500, rate)
    assert counts["below"] <= most_rejections(1500, rate)
    assert counts["above"] >= 0.4 * rate * 1500  # and the union bound does not waste it all


def test_a_long_tail_upwards_makes_above_safe_and_below_not():
    """What the docs say of the t-test's one weakness; betting has none."""
    draws = np.random.default_rng(2).exponential(1.0, (1500, N)).clip(max=8)
    mean = 1 - np.exp(-8)
    counts = shown(StagedT(SIZES, mean, 0.05), draws)
    assert counts["above"] <= most_rejections(1500, 0.05) < counts["below"]
    honest = shown(Betting(8.0, mean, 0.05), draws[:100])
    assert max(honest["above"], honest["below"]) <= most_rejections(100, 0.05)


def test_betting_holds_its_rate_on_two_point_values_at_every_prompt():
    """Rare large rises, looked at after every prompt: nothing like normal, and no spending."""
    draws = (np.random.default_rng(3).random((150, N)) < 0.1).astype(float)
    test = Betting(1.0, 0.1, 0.1)
    wrong = sum(test.evidence(values).p_above <= 0.1 for values in draws)
    assert wrong <= most_rejections(150, 0.1)


@pytest.mark.parametrize("test", [StagedT(SIZES, 0.2, 0.05), Betting(6.0, 0.2, 0.05)])
def test_p_values_and_intervals_agree_and_a_clear_effect_takes_few_values(test):
    rng = np.random.default_rng(5)
    for values in rng.normal(0.3, 0.6, (40, N)).clip(-6, 6):
        evidence = test.evidence(values)
        low, high = (e if e is not None else 0.2 for e in (evidence.low, evidence.high))
        assert (evidence.p_above <= 0.05) == (low > 0.2 + 1e-6)
        assert (evidence.p_below <= 0.05) == (high < 0.2 - 1e-6)
    clear = rng.normal(1.2, 0.5, (30, N)).clip(-4, 4)
    assert all(test.evidence(values[:64]).verdict == "above" for values in clear)
    assert shown(test, 0.4 - clear)["below"] == 30


def test_equal_values_wait_for_the_last_look_and_are_tested_by_sign():
    test = StagedT(SIZES, 0.1, 0.05)
    assert test.evidence(np.zeros(16)).verdict == "undecided"
    assert test.evidence(np.zeros(N)).verdict == "below"
    few = StagedT(looks(4, 16), 0.1, 0.05).evidence(np.ones(4))
    assert (few.verdict, few.p_above, few.low) == ("undecided", 2**-4, None)


# --- the search


def problem(n=40, metric="kl", **config):
    model = random_model(1, **config)
    return ew.Problem(model, random_pairs(model, 3, n=n), metric, "corrupted")


def oracle(problem, test, sizes, seed, undecided="remove"):
    """Nested loops and the plain evaluator: every edge on the prompts of each look anew."""
    graph, sign = problem.graph, problem.metric.loss_sign
    order = torch.randperm(len(problem.pairs), generator=torch.Generator().manual_seed(seed))
    circuit, trace = ew.Circuit.full(graph), []
    for step in receiver_steps(graph):
        read = is_read(circuit, step)
        for edge in step.edges:
            without, kept = circuit.without(edge), False
            if read:
                before, after = (sign * problem.per_prompt(c)[order] for c in (circuit, without))
                rises = (after - before).numpy()
                for size in sizes:
                    evidence = test.evidence(rises[:size])
                    if evidence.verdict != "undecided":
                        break
                kept = evidence.verdict == "above"
                if evidence.verdict == "undecided":
                    kept = undecided == "keep"
                trace.append((edge, kept, rises[:size].mean(), evidence))
            circuit = circuit if kept else without
    return circuit, trace


@pytest.mark.parametrize(
    ("metric", "undecided", "shape"),
    [("kl", "remove", {}), ("kl", "keep", {}), ("logit-diff", "keep", {"attention_only": True})],
)
def test_the_search_is_nested_loops(metric, undecided, shape):
    of, sizes = problem(n=24, metric=metric, **shape), looks(24, 8)
    run = ew.acdc_test(of, threshold=0.02, first=8, undecided=undecided, seed=5)
    circuit, trace = oracle(of, StagedT(sizes, 0.02, 0.05), sizes, 5, undecided)
    assert run.circuit == circuit
    for decision, (edge, kept, mean, evidence) in zip(run.trace, trace, strict=True):
        assert (decision.edge, decision.kept) == (edge, kept)
        assert decision.delta == pytest.approx(mean, abs=1e-9)
        ours = decision.evidence
        assert (ours.verdict, ours.n_prompts) == (evidence.verdict, evidence.n_prompts)
        assert ours.p_above == pytest.approx(evidence.p_above, rel=1e-4, abs=1e-12)
    if metric == "kl":
        assert len({d.evidence.n_prompts for d in run.trace}) > 1  # some were clear early
    assert run.threshold_interval is None


def test_switches_means_and_micro_batches():
    model = random_model(2)
    graph = ew.Graph.of(model, split_embed=True, switches=True)
    pairs = random_pairs(model, 4, n=12)
    of = ew.Problem(model, pairs, "kl", "mean", graph=graph)
    run = ew.acdc_test(of, threshold=0.05, first=6)
    parts = ew.acdc_test(of.with_(batch_size=5), threshold=0.05, first=6)
    assert parts.circuit == run.circuit
    sizes = looks(12, 6)
    fixed = of.with_(ablation=of.ablation.over(pairs))
    assert run.circuit == oracle(fixed, StagedT(sizes, 0.05, 0.05), sizes, 0)[0]


def test_what_cannot_be_is_refused():
    of = problem(n=4)
    with pytest.raises(ew.EdgewiseError, match="at least 2, found 1"):
        ew.acdc_test(problem(n=1))
    for settings, words in (
        ({"error_rate": 0.6}, "below 0.5"),
        ({"threshold": -1}, "at least 0"),
        ({"test": "betting"}, "betting.*needs bound"),
        ({"bound": 1.0}, "'t' takes none"),
        ({"test": "betting", "bound": 0.1, "threshold": 0.2}, "above the threshold"),
        ({"test": "betting", "bound": 0.001}, r"->logits: a prompt's loss changes by"),
    ):
        with pytest.raises(ew.EdgewiseError, match=words):
            ew.acdc_test(of, **settings)
    assert ew.acdc_test(of, test="betting", bound=50.0, threshold=0.01).trace[0].evidence


def test_a_run_keeps_its_evidence_and_a_stopped_one_resumes(tmp_path):
    of = problem(n=12)
    run = ew.acdc_test(of, threshold=0.02)
    run.save(tmp_path / "run")
    assert ew.Run.load(tmp_path / "run").trace == run.trace

    def stop(step):
        if step.done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ew.acdc_test(of, threshold=0.02, journal=tmp_path / "j", on_progress=stop)
    again = ew.acdc_test(of, threshold=0.02, journal=tmp_path / "j")
    assert again.cost.taken_over > 15
    assert again.circuit == run.circuit
    assert [d.kept for d in again.trace] == [d.kept for d in run.trace]


def test_evidence_round_trips_and_old_lines_are_read():
    evidence = Evidence(0.01, 1.0, None, 2.0, 16, "above")
    line = Decision(ew.Edge.parse("m0->logits"), 0.1, True, 0.2, evidence).to_json()
    assert Decision.from_json(json.loads(json.dumps(line)), "a line").evidence == evidence
    with pytest.raises(FormatError, match="a line.*verdict"):
        Decision.from_json({**line, "evidence": {**line["evidence"], "verdict": "maybe"}}, "a line")
    del line["evidence"]
    assert Decision.from_json(line, "a line").evidence is None


# --- what is promised, end to end


def test_edges_without_effect_are_kept_with_at_most_the_error_rate():
    """The metric of a prompt is a random number times how far its output moves: mean rise zero."""
    shown = 0
    for seed in range(30):
        model = random_model(seed, n_layers=1, n_heads=1, attention_only=True)
        drawn = torch.randn(32, generator=torch.Generator().manual_seed(seed)).double()

        def moved(logits, rows, drawn=drawn):
            return (logits[:, 0] - rows.clean_logits[:, 0]) * drawn[: len(logits)]

        metric = ew.Metric("moved", "logits", False, moved)
        of = ew.Problem(model, random_pairs(model, seed, n=32), metric, "corrupted")
        run = ew.acdc_test(of, error_rate=0.1, first=32)
        shown += run.trace[0].evidence.verdict == "above"  # one a seed: those are independent
    assert shown <= most_rejections(30, 0.1)


def test_true_edges_of_a_program_are_kept_and_others_are_not():
    task = ew.load_task("tracr-xproportion")
    run = ew.acdc_test(task.problem)
    assert run.circuit == ew.acdc(task.problem, threshold=1e-4).circuit
    assert not (run.circuit - task.truth).n_edges
    assert "8 edges shown to be above 0" in run.notes[0]
