"""The incremental engine on what only some families have: soft caps, norms over all heads."""

import pytest
import torch

import edgewise as ew
from edgewise.evaluation import minimality
from edgewise.metrics import METRICS
from models import SHAPES, random_circuit, random_model, random_pairs

CAPS = {"attention_cap": 2.0, "logit_cap": 3.0}
LENGTHS = [6, 3, 5]
# Norms over all heads, and what else those families have.
MIXED = {
    "gemma 2": {"post_norm": True, "norm": "rmsnorm-offset", "windows": (3, 0), **CAPS},
    "gemma 3": {"post_norm": True, "qk_norm": "head", "norm": "rmsnorm-offset", "gated": True},
    "olmo 2": {"post_norm": True, "qk_norm": "layer", "pre_norm": False, "norm": "rmsnorm"},
    "olmoe": {"qk_norm": "layer", "norm": "rmsnorm"},
    "parallel, both ways": {
        "post_norm": True, "qk_norm": "layer", "norm": "rmsnorm", "parallel": True, "causal": False,
    },
}  # fmt: skip
GRANULARITIES = (
    {},
    {"ungroup_heads": True, "switches": True},
    {"split_qkv": False, "switches": True},
    {"split_heads": False, "switches": True},
    {"split_heads": False, "split_qkv": False},
)
ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")
SPANS = {"early": [[0, 1], [0], [0, 1]], "late": [[2, 3], [1, 2], [2, 3]]}
# With -m slow, every case at every granularity.
SLOW = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 14)]


def mixed_problem(case, seed, **how):
    """A problem of a case, at the granularity, grouping, ablation and padding of a seed."""
    model = random_model(seed, n_heads=4, n_kv_heads=(2, 4, 1)[seed % 3], **MIXED[case])
    graph = {**GRANULARITIES[seed % len(GRANULARITIES)]}
    spans = SPANS if seed % 4 == 3 else None
    if spans:
        graph["spans"] = tuple(spans)
    pairs = random_pairs(
        model, seed, lengths=[4, 3, 5], padding=("right", "left")[seed % 2], spans=spans
    )
    metric, ablation = ("kl", "logit-diff", "nll")[seed % 3], ABLATIONS[seed % 4]
    graph = ew.Graph.of(model, **graph)
    how = {"batch_size": (None, 2)[seed // 2 % 2], "graph": graph, "metric": metric, **how}
    return ew.Problem(model, pairs, ablation=ablation, **how)


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
    seed = list(METRICS).index(metric)
    shape = list(SHAPES.values())[seed % len(SHAPES)]
    model = random_model(seed, **{**shape, **CAPS, "attention_cap": 2.0 * (seed % 2)})
    pairs = random_pairs(model, seed, lengths=LENGTHS)
    check_against_plain(ew.Problem(model, pairs, metric, ABLATIONS[seed % 2]), seed)


@pytest.mark.parametrize("metric", ["kl", "logit-diff"])
def test_estimates_of_capped_logits_decide_as_full_precision(metric):
    for seed in range(2):
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


# --- heads that depend on each other


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("seed", [0, *SLOW])
def test_decisions_behind_one_norm_are_the_plain_evaluators(case, seed):
    problem = mixed_problem(case, seed + list(MIXED).index(case))
    check_against_plain(problem, seed, head_order=("descending", "ascending")[seed % 2])


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("seed", [1, *SLOW])
def test_removals_that_begin_at_a_circuit_are_the_plain_evaluators(case, seed):
    problem = mixed_problem(case, seed + list(MIXED).index(case))
    circuit = random_circuit(problem.graph, seed, share=0.4)
    found, loss = minimality(problem, circuit), problem.loss(circuit)
    for edge in circuit.edges[:: 1 + circuit.n_edges // 40]:
        expected = problem.loss(circuit.without(edge)) - loss
        assert found.effects[edge.name] == pytest.approx(expected, abs=1e-10), edge.name


@pytest.mark.parametrize("case", ["gemma 2", "olmo 2"])
def test_estimates_and_sweeps_behind_one_norm_decide_as_full_precision(case):
    """Forks of a search share nothing that one of them changes."""
    problem = mixed_problem(case, 0)
    at = threshold_of(problem, 1)
    thresholds = [at, 4 * at]
    runs = ew.acdc_sweep(problem, thresholds, precision="reduced")
    for run, threshold in zip(runs, thresholds, strict=True):
        alone = ew.acdc(problem, threshold=threshold)
        assert [(d.edge, d.kept) for d in run.trace] == [(d.edge, d.kept) for d in alone.trace]
        assert run.worst_error < 1


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
