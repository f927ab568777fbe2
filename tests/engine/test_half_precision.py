"""Half-precision weights are computed with in float32: like the same weights, cast beforehand."""

import pytest
import torch

import edgewise as ew
from edgewise.metrics import METRICS
from engine_problems import MIXED, decisions
from models import SHAPES, random_model, random_pairs

CASES = SHAPES | MIXED


def problems(case, seed, dtype, **how):
    """A problem of half-precision weights, and the same problem of these weights in float32."""
    half = random_model(seed, **CASES[case]).to(dtype=dtype)
    pairs = random_pairs(half, seed, lengths=[6, 3, 5])
    options = {"switches": seed % 2 == 1, "split_qkv": seed % 3 > 0}
    for model in (half, half.to(dtype=torch.float32)):
        graph = ew.Graph.of(model, **options)
        yield ew.Problem(model, pairs, graph=graph, **how)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_a_model_of_half_precision_is_its_weights_in_float32(case, dtype):
    seed = list(CASES).index(case)
    metric = list(METRICS)[seed % len(METRICS)]
    half, wide = problems(case, seed, dtype, metric=metric)
    assert (half.model.dtype, half.model.compute_dtype) == (dtype, torch.float32)
    tokens = half.pairs.clean
    assert torch.equal(half.model(tokens, half.pairs.real), wide.model(tokens, half.pairs.real))
    assert half.baselines() == wide.baselines()
    runs = [ew.acdc(p, threshold=0.02) for p in (half, wide)]
    assert decisions(runs[0]) == decisions(runs[1])
    assert [d.delta for d in runs[0].trace] == [d.delta for d in runs[1].trace]
    assert runs[0].rungs == runs[1].rungs


@pytest.mark.parametrize("method", ["eap-ig", "atp-star", "hisp", "relp", "exact"])
@pytest.mark.parametrize("case", ["gpt2", "gemma 2", "olmoe"])
def test_scores_are_those_of_the_weights_in_float32(method, case):
    half, wide = problems(case, 1, torch.bfloat16, metric="logit-diff")
    scores = [ew.discover(p, method).scores.values for p in (half, wide)]
    assert torch.equal(*scores)


def test_few_decisions_need_the_plain_evaluator():
    """In bfloat16 itself the rounding of every loss would reach any threshold."""
    half, _ = problems("gpt2", 3, torch.bfloat16, metric="kl")
    run = ew.acdc(half, threshold=0.02)
    assert run.rungs.get("plain", 0) < 0.1 * run.cost.edge_tests
