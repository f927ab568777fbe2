"""The incremental engine on what only some families have: soft caps, norms over all heads."""

import pytest
import torch

import edgewise as ew
from edgewise.metrics import METRICS
from models import SHAPES, random_model, random_pairs

CAPS = {"attention_cap": 2.0, "logit_cap": 3.0}
LENGTHS = [6, 3, 5]


def threshold_of(problem, seed):
    """One that some edges of a random model stay at."""
    full, empty = problem.baselines()
    return max(abs(full - empty), 0.1) * (0.001, 0.01, 0.05)[seed % 3]


def check_against_plain(problem, seed, **settings):
    """The same decisions by both engines; returns the circuit."""
    settings["threshold"] = threshold_of(problem, seed)
    fast, slow = (
        ew.acdc(problem, engine=engine, **settings) for engine in ("incremental", "plain")
    )
    assert [(d.edge, d.kept) for d in fast.trace] == [(d.edge, d.kept) for d in slow.trace]
    assert fast.circuit == slow.circuit
    for ours, theirs in zip(fast.trace, slow.trace, strict=True):
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-9)
    return fast.circuit


@pytest.mark.parametrize("metric", METRICS)
def test_every_loss_of_capped_logits(metric):
    sizes = []
    for seed in range(1 + (metric == "kl")):
        shape = list(SHAPES.values())[3 * seed + list(METRICS).index(metric) % 4]
        model = random_model(seed, **{**shape, **CAPS, "attention_cap": 2.0 * (seed % 2)})
        pairs = random_pairs(model, seed, lengths=LENGTHS)
        problem = ew.Problem(model, pairs, metric, ("corrupted", "zero")[seed % 2])
        sizes.append(check_against_plain(problem, seed).n_edges)
    assert any(sizes)


@pytest.mark.parametrize("metric", ["kl", "logit-diff"])
def test_estimates_of_capped_logits_decide_as_full_precision(metric):
    for seed in range(3):
        model = random_model(seed, **CAPS)
        problem = ew.Problem(model, random_pairs(model, seed, lengths=LENGTHS), metric)
        threshold = threshold_of(problem, seed)
        reduced = ew.acdc(problem, threshold=threshold, precision="reduced")
        full = ew.acdc(problem, threshold=threshold)
        assert [(d.edge, d.kept) for d in reduced.trace] == [(d.edge, d.kept) for d in full.trace]
        assert 0 < reduced.worst_error < 1


def test_answers_of_several_tokens_are_capped_one_by_one():
    model = random_model(2, **CAPS)
    pairs = random_pairs(model, 2, n=3)
    pairs = ew.PromptPairs.from_tokens(
        pairs.clean, pairs.corrupted, answers=[[1, 2], [3], [4, 5, 6]], wrong=[[7], [8, 9], [0]]
    )
    problem = ew.Problem(model, pairs, "logit-diff", "corrupted")
    assert check_against_plain(problem, 1).n_edges
    exact = ew.exact(problem, edges=1).scores
    full = problem.loss(ew.Circuit.full(problem.graph))
    for edge in problem.graph.edges[::5]:
        alone = problem.loss(ew.Circuit.full(problem.graph).without(edge)) - full
        assert exact.of(edge) == pytest.approx(alone, abs=1e-10)


def test_exponentials_that_overflow_are_as_without_a_cap():
    """A cap so high that it does nothing, on logits that exp cannot take."""
    model = random_model(1)
    weights = {**model.weights, "unembed.W_U": 1e3 * model.weights["unembed.W_U"]}
    capped = ew.Model(ew.ModelConfig(**{**model.config.__dict__, "logit_cap": 1e9}), weights)
    plain = ew.Model(model.config, weights)
    pairs = random_pairs(model, 1)
    one, other = (ew.exact(ew.Problem(m, pairs, "kl"), edges=1).scores for m in (capped, plain))
    assert other.values.isfinite().all()
    torch.testing.assert_close(one.values, other.values, rtol=1e-5, atol=1e-5)
