"""Edge Pruning and uniform gradient sampling: their parts, their sizes, what they recover."""

import itertools

import pytest
import torch

import edgewise as ew
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.edge_pruning import KeepProbabilities, TargetSparsity
from edgewise.methods.hard_concrete import chance_on
from edgewise.methods.settings import EdgePruningSettings, UGSSettings
from edgewise.methods.training import loss_and_gradient, masked_losses
from models import SHAPES, random_model, random_pairs


def make_problem(shape="gpt2", metric="logit-diff"):
    model = random_model(**SHAPES[shape])
    return ew.Problem(model, random_pairs(model), metric, "corrupted")


# --- edge pruning


def test_the_target_rises_linearly_and_then_stays():
    settings = EdgePruningSettings(sparsity=0.8, steps=10, warm_up=0.4)
    masks = TargetSparsity(torch.zeros(3), settings)
    assert [masks.target(step) for step in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )
    at_once = EdgePruningSettings(sparsity=0.8, steps=10, warm_up=0)
    assert TargetSparsity(torch.zeros(3), at_once).target(0) == 0.8


def test_the_penalty_is_the_lagrangian_and_multipliers_climb():
    settings = EdgePruningSettings(sparsity=0.5, steps=1, warm_up=0, multiplier_rate=0.1)
    theta = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    masks = TargetSparsity(theta, settings)
    with torch.no_grad():
        masks.multipliers.copy_(torch.tensor([2.0, 3.0]))
    missing = 0.5 - (1 - float(chance_on(theta.detach()).mean()))
    assert masks.penalty(0).item() == pytest.approx(2 * missing + 3 * missing**2)
    assert missing > 0
    optimiser = masks.optimiser(0.01)
    masks.penalty(0).backward()
    optimiser.step()
    assert masks.multipliers.tolist() == pytest.approx([2.1, 3.1])
    assert (theta < torch.tensor([0.3, -1.0, 2.0])).all()


@pytest.mark.parametrize("sparsity", [0, 0.31, 0.9, 1])
def test_exactly_the_edges_asked_for_are_kept(sparsity):
    problem = make_problem()
    run = ew.discover(problem, "edge-pruning", sparsity=sparsity, steps=3)
    n = round((1 - sparsity) * problem.graph.n_edges)
    assert run.circuit.n_edges == n
    assert run.circuit == run.scores.top(n)


def test_edge_pruning_reaches_its_sparsity_and_recovers_a_compiled_program():
    task = ew.load_task("tracr-xproportion", data="paper")
    sparsity = 1 - task.truth.n_edges / task.problem.graph.n_edges
    run = ew.discover(
        task.problem,
        "edge-pruning",
        steps=400,
        sparsity=sparsity,
        learning_rate=0.05,
        multiplier_rate=0.05,
    )
    assert run.circuit == task.truth
    on = chance_on(run.scores.values[task.problem.graph.exists])
    assert float(1 - on.mean()) == pytest.approx(sparsity, abs=0.05)


# --- uniform gradient sampling


def test_masks_are_uniform_with_probability_p_times_1_minus_p():
    theta = torch.full((200_000,), 0.7, dtype=torch.float64)
    drawn = KeepProbabilities(theta, UGSSettings(regularisation=0)).draw(
        torch.Generator().manual_seed(0)
    )
    p = float(torch.tensor(0.7).sigmoid())
    inside = drawn[(drawn > 0) & (drawn < 1)]
    assert len(inside) / len(drawn) == pytest.approx(p * (1 - p), abs=0.005)
    assert float(drawn.mean()) == pytest.approx(p, abs=0.005)
    assert float((inside < 0.25).double().mean()) == pytest.approx(0.25, abs=0.01)


def test_the_sampled_gradient_is_unbiased():
    """Against the exact derivative of the expected loss over all ways to keep three edges."""
    problem = make_problem()
    masking = EdgeMasking(problem)
    n, free = masking.n_masks, [4, 9, 13]
    theta = torch.full((n,), 40.0, dtype=torch.float64)
    theta[free] = torch.tensor([0.5, -0.8, 1.2], dtype=torch.float64)
    theta.requires_grad_()
    masks = KeepProbabilities(theta, UGSSettings(regularisation=0))
    generator = torch.Generator().manual_seed(0)
    total, draws = torch.zeros(n, dtype=torch.float64), 800
    for _ in range(draws):
        drawn = masks.draw(generator)
        drawn = torch.where(theta > 30, torch.ones_like(drawn).detach(), drawn)
        inside = ((drawn > 0) & (drawn < 1)).any()
        if inside:
            _, gradient = loss_and_gradient(problem, masking, drawn.detach())
            total += torch.autograd.grad(drawn, theta, gradient)[0]
    p = theta[free].detach().sigmoid().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for kept in itertools.product((0.0, 1.0), repeat=3):
        on = torch.tensor(kept, dtype=torch.float64)
        at = torch.ones(n, dtype=torch.float64)
        at[free] = on
        loss = masked_losses(problem, masking, at, batch=0).mean()
        expected = expected + (p * on + (1 - p) * (1 - on)).prod() * loss
    (by_p,) = torch.autograd.grad(expected, p)
    exact = by_p * (p * (1 - p)).detach()
    scale = float(exact.abs().max())
    assert (total[free] / draws).tolist() == pytest.approx(exact.tolist(), abs=0.25 * scale)


def test_draws_cost_a_pass_each_and_masks_start_where_they_are_told():
    settings = {"regularisation": 0, "start": 0.8, "steps": 1, "learning_rate": 1e-6}
    runs = ew.sweep(make_problem(), "ugs", draws=[1, 3], **settings)
    assert [run.cost.backward_passes for run in runs] == [1 + 1, 1 + 3]  # one is the first check
    values = runs[0].scores.values[runs[0].circuit.graph.exists]
    assert values.tolist() == pytest.approx([0.8] * len(values), abs=1e-5)


def test_ugs_recovers_a_compiled_program():
    task = ew.load_task("tracr-xproportion", data="paper")
    run = ew.ugs(task.problem, regularisation=0.001, steps=300, learning_rate=0.03)
    assert run.circuit == run.scores.above(0.5)
    assert run.circuit == task.truth


def test_ugs_keeps_a_long_chain_whole():
    """tracr-reverse needs nine edges at once; from a lower start hardly a draw keeps them all."""
    task = ew.load_task("tracr-reverse", ablation="corrupted")
    settings = {"regularisation": 0.001, "steps": 200, "learning_rate": 0.03}
    run = ew.ugs(task.problem, **settings)
    assert (run.circuit & task.truth) == run.circuit
    assert task.problem.loss(run.circuit) == pytest.approx(0, abs=1e-9)
    low = ew.ugs(task.problem, start=0.73, draws=1, **settings)
    assert task.problem.loss(low.circuit) > 0.1
