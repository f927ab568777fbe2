"""Subnetwork Probing, Edge Pruning, uniform gradient sampling: their parts, what they recover."""

import itertools

import pytest
import torch

import edgewise as ew
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.edge_pruning import KeepProbabilities, TargetSparsity
from edgewise.methods.node_masks import (
    circuit_of_activations,
    masked_activations,
    scores_of_activations,
)
from edgewise.methods.settings import EdgePruningSettings, UGSSettings
from models import random_model, random_pairs


@pytest.fixture
def problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")


@pytest.fixture(scope="module")
def task():
    return ew.load_task("tracr-xproportion", data="paper")


# --- Subnetwork Probing: from activations to edges


def circuit_without(graph, masked):
    kept = [port.name not in masked for port in masked_activations(graph)]
    return circuit_of_activations(graph, torch.tensor(kept))


def test_the_papers_unit_test_41_edges():
    """2 layers of 8 heads: every q and k masked, v of some heads."""
    graph = ew.Graph.build(2, 8, mlps=False, switches=True)
    values = {0: (1, 2, 3, 4), 1: (0, 1, 2, 6)}
    masked = {f"a{layer}.h{head}.{x}" for layer in range(2) for head in range(8) for x in "qk"}
    masked |= {f"a{layer}.h{head}.v" for layer, heads in values.items() for head in heads}
    assert circuit_without(graph, masked).n_edges == 41


def test_one_shot_conversion_of_the_docstring_graph():
    """What the published cumulative conversion got wrong: 1377, 1351, 1324."""
    graph = ew.Graph.build(4, 8, mlps=False, switches=True)
    order = ["a3.h0.q", "a3.h0.k", "a3.h0.v"]
    sizes = [circuit_without(graph, set(order[:k])).n_edges for k in range(4)]
    assert sizes == [graph.n_edges, 1351, 1325, 1298]
    assert circuit_without(graph, {port.name for port in graph.receivers}).n_edges == 1


@pytest.mark.parametrize("options", [{}, {"switches": True}, {"split_qkv": False}])
def test_a_threshold_on_spread_scores_is_the_circuit_of_what_is_above_it(options):
    graph = ew.Graph.build(3, 2, **options)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(len(masked_activations(graph)), generator=generator).double()
    scores = scores_of_activations(graph, values, method="sp", meaning="mean mask")
    for threshold in (0.2, 0.5, 0.9):
        assert scores.above(threshold) == circuit_of_activations(graph, values >= threshold)


# --- what settings mean


def test_regulariser_weighs_tensors_alike_and_dead_masks_take_a_quarter():
    """Attention-only: with dead MLP masks lambda acts as three quarters of itself."""
    model = random_model(attention_only=True)
    problem = ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")
    dead, live, more = (
        ew.sp(problem, steps=20, learning_rate=0.05, regularisation=weight, dead_mlp_masks=dead)
        for weight, dead in ((4, True), (3, False), (4, False))
    )
    torch.testing.assert_close(dead.scores.values, live.scores.values, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(more.scores.values, live.scores.values)


def test_binarisation(task):
    settings = {"regularisation": 0.05, "steps": 40, "learning_rate": 0.05}
    mean = ew.sp_edges(task.problem, **settings)
    assert mean.circuit == mean.scores.above(0.5)
    drawn, again = (ew.sp_edges(task.problem, binarise="stochastic", **settings) for _ in range(2))
    assert drawn.circuit == again.circuit != mean.circuit  # undecided after so few steps
    assert drawn.scores.values.equal(mean.scores.values)
    nodes = ew.sp(task.problem, **settings)
    assert nodes.circuit == nodes.scores.above(0.5)
    assert "masks are undecided" in nodes.notes[0]


def test_the_target_rises_linearly_and_then_stays():
    def targets(warm_up):
        settings = EdgePruningSettings(sparsity=0.8, steps=10, warm_up=warm_up)
        masks = TargetSparsity(torch.zeros(3), settings)
        return [masks.target(step) for step in range(6)]

    assert targets(0.4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert targets(0) == [0.8] * 6


def test_the_penalty_is_the_lagrangian_and_multipliers_climb():
    settings = EdgePruningSettings(sparsity=0.5, steps=1, warm_up=0, multiplier_rate=0.1)
    theta = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    masks = TargetSparsity(theta.clone(), settings)
    masks.multipliers.data.copy_(torch.tensor([2.0, 3.0]))
    missing = 0.5 - (1 - float(masks.chance().detach().mean()))
    assert masks.penalty(0).item() == pytest.approx(2 * missing + 3 * missing**2)
    assert missing > 0
    optimiser = masks.optimiser(0.01)
    masks.penalty(0).backward()
    optimiser.step()
    assert masks.multipliers.tolist() == pytest.approx([2.1, 3.1])
    assert (masks.theta < theta).all()


@pytest.mark.parametrize("sparsity", [0, 0.31, 1])
def test_exactly_the_edges_asked_for_are_kept(problem, sparsity):
    run = ew.edge_pruning(problem, sparsity=sparsity, steps=3)
    assert run.circuit == run.scores.top(round((1 - sparsity) * problem.graph.n_edges))


def test_draws_cost_a_pass_each_and_masks_start_where_they_are_told(problem):
    settings = {"regularisation": 0, "start": 0.8, "steps": 1, "learning_rate": 1e-6}
    runs = ew.sweep(problem, "ugs", draws=[1, 3], **settings)
    assert [run.cost.backward_passes for run in runs] == [1 + 1, 1 + 3]  # one is the first check
    values = runs[0].scores.values[problem.graph.exists]
    assert values.tolist() == pytest.approx([0.8] * len(values), abs=1e-5)


# --- uniform gradient sampling


def test_masks_are_uniform_with_probability_p_times_1_minus_p():
    theta = torch.full((200_000,), 0.7, dtype=torch.float64)
    masks = KeepProbabilities(theta, UGSSettings(regularisation=0))
    drawn = masks.draw(torch.Generator().manual_seed(0)).detach()
    p = float(torch.tensor(0.7).sigmoid())
    inside = drawn[(drawn > 0) & (drawn < 1)]
    assert len(inside) / len(drawn) == pytest.approx(p * (1 - p), abs=0.005)
    assert float(drawn.mean()) == pytest.approx(p, abs=0.005)
    assert float((inside < 0.25).double().mean()) == pytest.approx(0.25, abs=0.01)


def test_the_sampled_gradient_is_unbiased(problem):
    """Against the exact derivative of the expected loss over all ways to keep three edges."""
    masking, free, draws = EdgeMasking(problem), [4, 9, 13], 800
    theta = torch.full((masking.n_masks,), 40.0, dtype=torch.float64)
    theta[free] = torch.tensor([0.5, -0.8, 1.2], dtype=torch.float64)
    masks = KeepProbabilities(theta, UGSSettings(regularisation=0))
    generator, total = torch.Generator().manual_seed(0), torch.zeros_like(theta)
    for _ in range(draws):
        drawn = torch.where(theta > 30, 1.0, masks.draw(generator))
        if ((drawn > 0) & (drawn < 1)).any():
            _, gradient = masking.loss_and_gradient(drawn)
            total += torch.autograd.grad(drawn, masks.theta, gradient)[0]
    p = theta[free].sigmoid().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for kept in itertools.product((0.0, 1.0), repeat=3):
        on = torch.tensor(kept, dtype=torch.float64)
        at = torch.ones_like(theta)
        at[free] = on
        expected = expected + (p * on + (1 - p) * (1 - on)).prod() * masking.losses(0, at).mean()
    (by_p,) = torch.autograd.grad(expected, p)
    exact = by_p * (p * (1 - p)).detach()
    scale = float(exact.abs().max())
    assert (total[free] / draws).tolist() == pytest.approx(exact.tolist(), abs=0.25 * scale)


# --- compiled programs are recovered


def test_edge_pruning_reaches_its_sparsity_and_the_program(task):
    sparsity = 1 - task.truth.n_edges / task.problem.graph.n_edges
    rates = {"learning_rate": 0.05, "multiplier_rate": 0.05}
    run = ew.edge_pruning(task.problem, steps=400, sparsity=sparsity, **rates)
    assert run.circuit == task.truth
    thetas = run.scores.values[task.problem.graph.exists]
    on = TargetSparsity(thetas, EdgePruningSettings(sparsity=0)).chance().detach()
    assert float(1 - on.mean()) == pytest.approx(sparsity, abs=0.05)


def test_sp_and_ugs_recover_a_program(task):
    settings = {"regularisation": 0.05, "steps": 300, "learning_rate": 0.05}
    assert ew.sp_edges(task.problem, **settings).circuit == task.truth
    nodes = ew.sp(task.problem, **settings).circuit  # it holds every true edge, and computes all
    assert (nodes & task.truth) == task.truth
    assert nodes.n_edges < task.problem.graph.n_edges / 2
    assert task.problem.loss(nodes) == pytest.approx(0, abs=1e-9)
    run = ew.ugs(task.problem, regularisation=0.001, steps=300, learning_rate=0.03)
    assert run.circuit == run.scores.above(0.5) == task.truth


def test_ugs_keeps_a_long_chain_whole():
    """tracr-reverse needs nine edges at once; from a lower start hardly a draw keeps them all."""
    task = ew.load_task("tracr-reverse", ablation="corrupted")
    settings = {"regularisation": 0.001, "steps": 200, "learning_rate": 0.03}
    run = ew.ugs(task.problem, **settings)
    assert (run.circuit & task.truth) == run.circuit
    assert task.problem.loss(run.circuit) == pytest.approx(0, abs=1e-9)
    low = ew.ugs(task.problem, start=0.73, draws=1, **settings)
    assert task.problem.loss(low.circuit) > 0.1
