"""HISP: both readings, against gradients taken another way, and its sweeps."""

from itertools import pairwise

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, SettingError
from edgewise.methods.hisp import importance
from edgewise.methods.node_masks import (
    NodeMasking,
    circuit_of_activations,
    masked_activations,
)
from edgewise.methods.settings import HISPSettings
from models import SHAPES, random_model, random_pairs

ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")


def make_problem(ablation="corrupted", metric="logit-diff", shape="gpt2", **options):
    model = random_model(**SHAPES[shape])
    pairs = random_pairs(model, lengths=[6, 3, 5], padding="left")
    return ew.Problem(model, pairs, metric, ablation, graph=ew.Graph.of(model, **options))


def circuits_of(problem, **settings):
    """The circuits without the 0, 1, 2, … and finally all activations of least importance."""
    n = len(masked_activations(problem.graph))
    runs = ew.sweep(problem, "hisp", activations=range(n, -1, -1), **settings)
    return [run.circuit for run in runs]


def scores(problem, **settings):
    return importance(problem, HISPSettings(**settings))[0]


def by_masks(problem):
    """|dF_i / dm| at masks of one, prompt by prompt: by the paper, C - ablation times dF/dC."""
    masking, rows = NodeMasking(problem), []
    for i in range(len(problem.pairs)):
        ones = torch.ones(masking.n_masks, dtype=torch.float64, requires_grad=True)
        rows.append(torch.autograd.grad(masking.losses(0, ones)[i], ones)[0].abs())
    return torch.stack(rows)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_score_is_the_slope_of_a_node_mask(shape, ablation):
    metric = "nll" if SHAPES[shape].get("d_vocab_out") else "logit-diff"
    for options in ({}, {"split_qkv": False}, {"split_heads": False}):
        problem = make_problem(ablation, metric, shape, **options)
        close(scores(problem, normalise=False), by_masks(problem).mean(dim=0))


def test_the_codes_score_is_a_sum_over_prompts_without_the_ablation():
    """With a zero ablation equation 4 has no ablation term either: mean against sum."""
    zero, corrupted = make_problem("zero"), make_problem("corrupted")
    code = scores(corrupted, reading="code", normalise=False)
    close(code, by_masks(zero).sum(dim=0))
    close(code, 3 * scores(zero, normalise=False))
    assert not torch.allclose(code, 3 * scores(corrupted, normalise=False))


def test_scores_are_normalised_by_layer():
    problem = make_problem(switches=True)
    plain, normal = scores(problem, normalise=False), scores(problem)
    layers = torch.tensor([port.node.layer for port in masked_activations(problem.graph)])
    for layer in range(2):
        here = layers == layer
        close(normal[here], plain[here] / plain[here].norm())


def test_a_sweep_removes_the_least_important_first():
    problem = make_problem(switches=True)
    circuits, n = circuits_of(problem), len(masked_activations(problem.graph))
    assert circuits[0] == ew.Circuit.full(problem.graph)
    assert [edge.name for edge in circuits[-1].edges] == ["input->logits"]
    assert all((before & after) == after != before for before, after in pairwise(circuits))
    rank = scores(problem).argsort(stable=True).argsort()
    assert circuits[5] == circuit_of_activations(problem.graph, rank >= 5)
    for kept in (0, 3, n):
        assert ew.hisp(problem, activations=kept).circuit == circuits[n - kept]
    assert ew.hisp(problem, activation_share=0.5).circuit == circuits[n - round(n / 2)]
    assert ew.hisp(problem).circuit == circuits[n - round(0.1 * n)]


def test_ties_go_in_construction_order():
    """All scores zero, as in the published tracr runs: layer by layer q, k, v, MLP."""
    problem = ew.load_task("tracr-xproportion", data="paper").problem
    for k, circuit in enumerate(circuits_of(problem, allow_zero_gradient=True)):
        assert circuit == circuit_of_activations(problem.graph, torch.arange(8) >= k)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_split_into_batches_decides_no_tie(dtype):
    """A head's q and k tie in the code's reading, up to rounding, whatever is summed first."""
    for seed in range(4):
        model = random_model(seed, n_layers=3).to(dtype=dtype)
        problem = ew.Problem(model, random_pairs(model, seed, n=7), "logit-diff")
        whole, single, parts = (
            circuits_of(problem.with_(batch_size=size), reading="code") for size in (None, 1, 3)
        )
        assert whole == single == parts


def test_several_answer_positions_pooled_as_in_the_original():
    """Every position an example of its own: |effect| of each, not of a prompt's mean."""
    model = random_model(6)
    pairs = ew.PromptPairs.from_tokens(
        [[1, 2, 3, 4], [5, 6, 7]], [[2, 2, 3, 1], [5, 2, 4]],
        answers=[1, 2], wrong=[3, 4], answer_positions=[[1, 2, 3], [2]],
    )  # fmt: skip
    pooled = ew.Problem(model, pairs.by_position(), "logit-diff")
    assert pooled.pairs.answer_at.sum(dim=1).tolist() == [1, 1, 1, 1]
    settings = {"reading": "code", "normalise": False}
    alone = [scores(pooled.with_(pairs=pooled.pairs.taken([i])), **settings) for i in range(4)]
    torch.testing.assert_close(scores(pooled, **settings), sum(alone))


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(SettingError, match=r"99 activations are to be kept; the graph has 14"):
        ew.hisp(make_problem(), activations=99)
    with pytest.raises(SettingError, match="only once"):
        HISPSettings(activations=3, activation_share=0.5)
    for metric in ("kl", "l2"):
        flat = make_problem(metric=metric)
        with pytest.raises(MetricError, match=rf"gradient of '{metric}' is zero .*allow_zero"):
            ew.hisp(flat)
        assert "noise" in ew.hisp(flat, allow_zero_gradient=True, activations=4).notes[0]
