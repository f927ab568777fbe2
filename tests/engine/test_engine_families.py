"""The incremental engine on what only some families have: soft caps, norms over all heads."""

from dataclasses import replace

import pytest
import torch

import edgewise as ew
from edgewise.evaluation import minimality
from edgewise.metrics import METRICS
from engine_problems import (
    ABLATIONS,
    CAPS,
    MIXED,
    check_against_plain,
    decisions,
    mixed_problem,
    threshold_of,
)
from models import SHAPES, random_circuit, random_model, random_pairs

# With -m slow, every case at every granularity.
SLOW = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 14)]


@pytest.mark.parametrize("metric", METRICS)
def test_every_loss_of_capped_logits(metric):
    seed = list(METRICS).index(metric)
    shape = list(SHAPES.values())[seed % len(SHAPES)]
    model = random_model(seed, **{**shape, **CAPS, "attention_cap": 2.0 * (seed % 2)})
    pairs = random_pairs(model, seed, lengths=[6, 3, 5])
    problem = ew.Problem(model, pairs, metric, ABLATIONS[seed % 2])
    check_against_plain(problem, threshold=threshold_of(problem, seed))


def test_answers_of_several_tokens_are_capped_one_by_one():
    model = random_model(2, **CAPS)
    pairs = random_pairs(model, 2, n=3)
    pairs = ew.PromptPairs.from_tokens(
        pairs.clean, pairs.corrupted, answers=[[1, 2], [3], [4, 5, 6]], wrong=[[7], [8, 9], [0]]
    )
    problem = ew.Problem(model, pairs, "logit-diff", "corrupted")
    assert check_against_plain(problem, threshold=threshold_of(problem, 1)).n_edges
    exact = ew.exact(problem, edges=1).scores
    full = problem.loss(ew.Circuit.full(problem.graph))
    for edge in problem.graph.edges[::5]:
        alone = problem.loss(ew.Circuit.full(problem.graph).without(edge)) - full
        assert exact.of(edge) == pytest.approx(alone, abs=1e-10)


def test_exponentials_that_overflow_are_as_without_a_cap():
    """A cap so high that it does nothing, on logits that exp cannot take."""
    model = random_model(1)
    weights = {**model.weights, "unembed.W_U": 1e3 * model.weights["unembed.W_U"]}
    capped = ew.Model(replace(model.config, logit_cap=1e9), weights)
    plain = ew.Model(model.config, weights)
    pairs = random_pairs(model, 1)
    ours, theirs = (ew.exact(ew.Problem(m, pairs, "kl"), edges=1).scores for m in (capped, plain))
    assert theirs.values.isfinite().all()
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("seed", [0, *SLOW])
def test_decisions_behind_one_norm_are_the_plain_evaluators(case, seed):
    problem = mixed_problem(case, seed + list(MIXED).index(case))
    order = ("descending", "ascending")[seed % 2]
    check_against_plain(problem, threshold=threshold_of(problem, seed), head_order=order)


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("seed", [1, *SLOW])
def test_removals_that_begin_at_a_circuit_are_the_plain_evaluators(case, seed):
    problem = mixed_problem(case, seed + list(MIXED).index(case))
    circuit = random_circuit(problem.graph, seed, share=0.4)
    effects, loss = minimality(problem, circuit).effects, problem.loss(circuit)
    for edge in circuit.edges[:: 1 + circuit.n_edges // 40]:
        expected = problem.loss(circuit.without(edge)) - loss
        assert effects[edge.name] == pytest.approx(expected, abs=1e-10), edge.name


def test_estimates_and_sweeps_behind_one_norm_decide_as_full_precision():
    problem = mixed_problem("olmo 2", 0)
    thresholds = [threshold_of(problem, 1) * factor for factor in (1, 4)]
    runs = ew.sweep(problem, threshold=thresholds, precision="reduced")
    for run, threshold in zip(runs, thresholds, strict=True):
        assert decisions(run) == decisions(ew.acdc(problem, threshold=threshold))


def test_float32_behind_one_norm_with_every_decision_verified():
    model = random_model(3, dtype=torch.float32, **MIXED["olmo 2"])
    problem = ew.Problem(model, random_pairs(model, 3), "kl", "zero")
    run = ew.acdc(problem, threshold=0.01, verify=True)
    assert run.circuit == ew.acdc(problem, threshold=0.01, engine="plain").circuit


def test_an_edge_that_no_answer_hears_of_has_no_effect():
    """OLMoE's values of a head that nothing reads: in ACDC's order still a candidate."""
    model = random_model(0, n_heads=2, n_layers=1, **MIXED["olmoe"])
    graph = model.graph
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted", graph=graph)
    circuit = ew.Circuit.of(graph, ["a0.h0->logits", "input->a0.h1.v", "input->a0.h1.q"])
    effects = minimality(problem, circuit).effects
    assert effects["input->a0.h1.v"] == pytest.approx(0, abs=1e-12)
    assert abs(effects["input->a0.h1.q"]) > 1e-6
