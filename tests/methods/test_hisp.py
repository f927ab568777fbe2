"""HISP: both readings, against gradients taken another way, and its sweeps."""

from itertools import pairwise

import pytest
import torch

import edgewise as ew
from edgewise.circuit import Circuit
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
    batch_size = options.pop("batch_size", None)
    pairs = random_pairs(model, lengths=[6, 3, 5], padding="left")
    graph = ew.Graph.of(model, **options)
    return ew.Problem(model, pairs, metric, ablation, graph=graph, batch_size=batch_size)


def circuits_of(problem, **settings):
    """The circuits without the 0, 1, 2, … and finally all activations of least importance."""
    n = len(masked_activations(problem.graph))
    runs = ew.sweep(problem, "hisp", activations=range(n, -1, -1), **settings)
    return [run.circuit for run in runs]


def scores(problem, **settings):
    return importance(problem, HISPSettings(**settings))[0]


def by_masks(problem):
    """|dF_i / dm| at masks of one, prompt by prompt: by the paper, C - ablation times dF/dC."""
    masking = NodeMasking(problem)
    rows = []
    for i in range(len(problem.pairs)):
        ones = torch.ones(masking.n_masks, dtype=torch.float64, requires_grad=True)
        loss = masking.losses(0, ones)[i]
        rows.append(torch.autograd.grad(loss, ones)[0].abs())
    return torch.stack(rows)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_score_is_the_slope_of_a_node_mask(shape, ablation):
    metric = "l2" if SHAPES[shape].get("d_vocab_out") else "logit-diff"
    for options in ({}, {"split_qkv": False}, {"split_heads": False}):
        problem = make_problem(ablation, "nll" if metric == "l2" else metric, shape, **options)
        expected = by_masks(problem).mean(dim=0)
        torch.testing.assert_close(
            scores(problem, normalise=False), expected, rtol=1e-8, atol=1e-11
        )


def test_the_codes_score_is_a_sum_over_prompts_without_the_ablation():
    """With a zero ablation equation 4 has no ablation term either: mean against sum."""
    zero, corrupted = make_problem("zero"), make_problem("corrupted")
    code = scores(corrupted, reading="code", normalise=False)
    torch.testing.assert_close(code, by_masks(zero).sum(dim=0), rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(code, 3 * scores(zero, normalise=False), rtol=1e-8, atol=1e-11)
    assert not torch.allclose(code, 3 * scores(corrupted, normalise=False))


def test_q_and_k_tie_in_the_codes_reading_alone():
    model = random_model(attention_only=True, n_layers=3)
    problem = ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")
    ports = masked_activations(problem.graph)
    for reading in ("code", "paper"):
        found = scores(problem, reading=reading)
        q, k = (
            torch.stack([s for s, port in zip(found, ports, strict=True) if port.slot == slot])
            for slot in "qk"
        )
        assert torch.allclose(q, k, rtol=1e-9) == (reading == "code")


def test_scores_are_normalised_by_layer():
    problem = make_problem(switches=True)
    plain, normal = scores(problem, normalise=False), scores(problem)
    layers = torch.tensor([port.node.layer for port in masked_activations(problem.graph)])
    for layer in range(2):
        here = layers == layer
        torch.testing.assert_close(normal[here], plain[here] / plain[here].norm())
        assert float(normal[here].norm()) == pytest.approx(1)


def test_a_sweep_removes_the_least_important_first():
    problem = make_problem(switches=True)
    circuits = circuits_of(problem)
    n = len(masked_activations(problem.graph))
    assert len(circuits) == n + 1
    assert circuits[0] == Circuit.full(problem.graph)
    assert [edge.name for edge in circuits[-1].edges] == ["input->logits"]
    for before, after in pairwise(circuits):
        assert after.n_edges < before.n_edges
        assert (before & after) == after
    order = scores(problem).argsort(stable=True)
    kept = torch.ones(n, dtype=torch.bool)
    kept[order[:5]] = False
    assert circuits[5] == circuit_of_activations(problem.graph, kept)
    for kept in (0, 3, n):
        assert ew.hisp(problem, activations=kept).circuit == circuits[n - kept]
    half = ew.discover(problem, "hisp", activation_share=0.5)
    assert half.circuit == circuits[n - round(n / 2)]
    assert ew.discover(problem, "hisp").settings["activation_share"] == 0.1


def test_ties_go_in_construction_order():
    """All scores zero, as in the published tracr runs: layer by layer q, k, v, MLP."""
    task = ew.load_task("tracr-xproportion", data="paper")
    circuits = circuits_of(task.problem, allow_zero_gradient=True)
    graph = task.problem.graph
    for k, circuit in enumerate(circuits):
        assert circuit == circuit_of_activations(graph, torch.arange(8) >= k)
    assert circuits[-1].n_edges == 2


@pytest.mark.parametrize("metric", ["kl", "l2"])
def test_a_metric_that_is_flat_at_the_full_model(metric):
    problem = make_problem(metric=metric)
    with pytest.raises(
        MetricError, match=rf"gradient of '{metric}' is zero .*eap-ig.*logit-diff.*allow_zero"
    ):
        ew.discover(problem, "hisp")
    run = ew.discover(problem, "hisp", allow_zero_gradient=True, activations=4)
    assert run.circuit.n_edges < problem.graph.n_edges


def test_errors():
    problem = make_problem()
    with pytest.raises(SettingError, match=r"99 activations are to be kept; the graph has 14"):
        ew.discover(problem, "hisp", activations=99)
    with pytest.raises(SettingError, match="only once"):
        HISPSettings(activations=3, activation_share=0.5)
    with pytest.raises(SettingError, match="activation_share is 1.5"):
        HISPSettings(activation_share=1.5)
    with pytest.raises(MetricError, match=r"'accuracy' has no gradient .* acdc, exact"):
        ew.discover(make_problem(metric="accuracy"), "hisp")

    def broken(logits, rows):
        flat = (logits[:, 0] - logits[:, 0].detach()).abs().sqrt()  # 0, of slope 0 / 0
        return logits[:, 0].where(rows.prompt != 1, flat)

    with pytest.raises(MetricError, match=r"importance of a0\.h0\.q is nan on prompt 0"):
        importance(make_problem(metric=broken), HISPSettings())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_split_into_batches_decides_no_tie(dtype):
    """A head's q and k tie in the code's reading, up to rounding, whatever is summed first."""
    for seed in range(4):
        model = random_model(seed, n_layers=3).to(dtype=dtype)
        pairs = random_pairs(model, seed, n=7)
        whole, single, parts = (
            circuits_of(ew.Problem(model, pairs, "logit-diff", batch_size=size), reading="code")
            for size in (None, 1, 3)
        )
        assert whole == single == parts


def test_several_answer_positions_pooled_as_in_the_original():
    """Every position an example of its own: |effect| of each, not of a prompt's mean."""
    model = random_model(6)
    pairs = ew.PromptPairs.from_tokens(
        [[1, 2, 3, 4], [5, 6, 7]], [[2, 2, 3, 1], [5, 2, 4]],
        answers=[1, 2], wrong=[3, 4], answer_positions=[[1, 2, 3], [2]],
    )  # fmt: skip
    problem = ew.Problem(model, pairs, "logit-diff")
    pooled = problem.with_(pairs=pairs.by_position())
    assert pooled.pairs.answer_at.sum(dim=1).tolist() == [1, 1, 1, 1]
    settings = HISPSettings(reading="code", normalise=False)
    one_by_one = sum(
        importance(pooled.with_(pairs=pooled.pairs.taken([i])), settings)[0] for i in range(4)
    )
    torch.testing.assert_close(importance(pooled, settings)[0], one_by_one)
