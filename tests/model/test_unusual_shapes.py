"""60 random models of unusual shape: the incremental engine decides as the plain evaluator does.

Every model mixes features that tests elsewhere try alone; the first ones run in the plain tier.
"""

from itertools import combinations
from random import Random

import pytest

import edgewise as ew
from edgewise.model.config import Experts
from edgewise.model.positions import Rotary
from models import random_model, random_pairs

N, PLAIN = 60, 12
GROUPS = {"6 heads, 2 keys": (6, 2), "4 heads, 1 key": (4, 1), "1 head": (1, 1)}
FEATURES = ("d_head", "parallel", "experts", "windows", "alibi", "spans", "left padding")


def features(seed):
    """What is unusual about the model and prompts of a seed."""
    random = Random(seed)
    chosen = {name for name in FEATURES if random.random() < 0.5}
    return {list(GROUPS)[seed % len(GROUPS)], *chosen}


def unusual_problem(seed):
    has, random = features(seed), Random(seed + N)
    heads, keys = next(sizes for name, sizes in GROUPS.items() if name in has)
    norm = random.choice(("layernorm", "rmsnorm", "layernorm-plain"))
    config = {"n_heads": heads, "n_kv_heads": keys, "d_model": 12, "d_mlp": 7, "norm": norm}
    config |= {"d_head": 12 // heads, "parallel": "parallel" in has, "gated": seed % 2 == 0}
    if "d_head" in has:
        config["d_head"] = random.choice([size for size in (4, 6, 10) if size * heads != 12])
    if "experts" in has:
        mixture = Experts(4, 2, 5, normalised=seed % 4 < 2, d_shared=3 * (seed % 3))
        layers = [(mixture, mixture), (None, mixture), (mixture, None)]
        config |= {"experts": random.choice(layers), "gated": True, "activation": "silu"}
    if "windows" in has:
        config["windows"] = random.choice([(2, 0), (0, 3), (2, 3)])
    if "alibi" in has:
        slopes = tuple(2.0 ** -(h + 1) for h in range(heads))
        config |= {"alibi_slopes": slopes, "positions": "none"}
    elif seed % 2:
        turned = Rotary((1.0, 0.1)[: config["d_head"] // 2], interleaved=seed % 4 == 1)
        config |= {"positions": "none", "rotary": (turned, None)}
    model = random_model(seed, **config)
    spans = {"A": [[0, 1], [1], [2]], "B": [[2, 3], [0, 2], [0]]} if "spans" in has else None
    padding = "left" if "left padding" in has else "right"
    pairs = random_pairs(model, seed, lengths=[4, 3, 4], padding=padding, spans=spans)
    graph = ew.Graph.of(model, spans=pairs if spans else None)
    metric = random.choice(("kl", "logit-diff", "nll"))
    ablation = random.choice(("corrupted", "zero", "mean", "mean-positional"))
    return ew.Problem(model, pairs, metric, ablation, graph=graph)


def test_every_two_features_meet():
    for pair in combinations((*GROUPS, *FEATURES), 2):
        if not {*pair} <= {*GROUPS}:
            assert any({*pair} <= features(seed) for seed in range(N)), pair
    assert set().union(*map(features, range(PLAIN))) == {*GROUPS, *FEATURES}


@pytest.mark.parametrize(
    "seed", [*range(PLAIN), *(pytest.param(n, marks=pytest.mark.slow) for n in range(PLAIN, N))]
)
def test_incremental_acdc_is_the_plain_evaluators(seed):
    problem = unusual_problem(seed)
    full, empty = problem.baselines()
    threshold = max(abs(full - empty), 0.1) * (0.001, 0.003, 0.01)[seed % 3]
    fast, plain = (
        ew.acdc(problem, threshold=threshold, engine=engine) for engine in ("incremental", "plain")
    )
    assert 0 < fast.circuit.n_edges < problem.graph.n_edges
    assert [(d.edge, d.kept) for d in fast.trace] == [(d.edge, d.kept) for d in plain.trace]
    assert fast.circuit == plain.circuit
    deltas = [decision.delta for decision in plain.trace]
    assert [d.delta for d in fast.trace] == pytest.approx(deltas, rel=0, abs=1e-10)
