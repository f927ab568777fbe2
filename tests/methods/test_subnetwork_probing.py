"""Subnetwork Probing: from activations to edges, what settings mean, recovery of known circuits."""

import pytest
import torch

import edgewise as ew
from edgewise.circuit import Circuit
from edgewise.methods.node_masks import (
    circuit_of_activations,
    masked_activations,
    scores_of_activations,
)
from edgewise.methods.settings import SPSettings
from models import random_model, random_pairs


def all_but(graph, masked):
    return torch.tensor([port.name not in masked for port in masked_activations(graph)])


def n_edges(graph, masked):
    return circuit_of_activations(graph, all_but(graph, masked)).n_edges


def test_the_papers_unit_test_41_edges():
    """2 layers of 8 heads: every q and k masked, v of some heads (spec section 3)."""
    graph = ew.Graph.build(2, 8, mlps=False, switches=True)
    values = {0: (1, 2, 3, 4), 1: (0, 1, 2, 6)}
    masked = {f"a{layer}.h{head}.{x}" for layer in range(2) for head in range(8) for x in "qk"}
    masked |= {f"a{layer}.h{head}.v" for layer, heads in values.items() for head in heads}
    assert n_edges(graph, masked) == 41


def test_one_shot_conversion_of_the_docstring_graph():
    """What the published cumulative conversion got wrong: 1377, 1351, 1324 (spec section 0)."""
    graph = ew.Graph.build(4, 8, mlps=False, switches=True)
    order = ["a3.h0.q", "a3.h0.k", "a3.h0.v"]
    assert [n_edges(graph, set(order[:k])) for k in range(4)] == [1377, 1351, 1325, 1298]
    assert circuit_of_activations(graph, all_but(graph, set())) == Circuit.full(graph)
    everything = {port.name for port in masked_activations(graph)}
    assert n_edges(graph, everything) == 1  # from the embeddings to the output


def test_activations_of_joined_graphs_are_their_ports():
    graph = ew.Graph.build(1, 2, split_qkv=False, switches=True)
    assert [port.name for port in masked_activations(graph)] == ["a0.h0", "a0.h1", "m0"]
    circuit = circuit_of_activations(graph, torch.tensor([True, False, True]))
    assert not [edge for edge in circuit.edges if edge.sender.name == "a0.h1"]
    assert "a0.h1->m0" not in circuit
    whole = ew.Graph.build(1, 2, split_heads=False)
    assert len(masked_activations(whole)) == 4


@pytest.mark.parametrize("options", [{}, {"switches": True}, {"split_qkv": False}])
def test_a_threshold_on_spread_scores_is_the_circuit_of_what_is_above_it(options):
    graph = ew.Graph.build(3, 2, **options)
    values = torch.rand(len(masked_activations(graph)), generator=torch.Generator().manual_seed(0))
    scores = scores_of_activations(graph, values.double(), method="sp", meaning="mean mask")
    for threshold in (0.2, 0.5, 0.9):
        assert scores.above(threshold) == circuit_of_activations(
            graph, values.double() >= threshold
        )


def test_regulariser_weighs_tensors_alike_and_dead_masks_take_a_quarter():
    """Attention-only: with dead MLP masks lambda acts as three quarters of itself."""
    model = random_model(attention_only=True)
    problem = ew.Problem(model, random_pairs(model), "logit-diff", "corrupted")
    settings = {"steps": 20, "learning_rate": 0.05}
    dead = ew.discover(problem, "sp", regularisation=4, dead_mlp_masks=True, **settings)
    live = ew.discover(problem, "sp", regularisation=3, **settings)
    torch.testing.assert_close(dead.scores.values, live.scores.values, rtol=1e-9, atol=1e-12)
    other = ew.discover(problem, "sp", regularisation=4, **settings)
    assert not torch.allclose(other.scores.values, live.scores.values)


def test_binarisation():
    task = ew.load_task("tracr-xproportion", data="paper")
    settings = {"regularisation": 0.05, "steps": 40, "learning_rate": 0.05}
    mean = ew.discover(task.problem, "sp-edges", **settings)
    assert mean.circuit == mean.scores.above(0.5)
    drawn = ew.discover(task.problem, "sp-edges", binarise="stochastic", **settings)
    again = ew.discover(task.problem, "sp-edges", binarise="stochastic", **settings)
    assert drawn.circuit == again.circuit
    assert drawn.scores.values.equal(mean.scores.values)
    assert drawn.circuit != mean.circuit  # undecided after so few steps
    nodes = ew.discover(task.problem, "sp", **settings)
    assert nodes.circuit == nodes.scores.above(0.5)
    assert "masks are undecided" in nodes.notes[0]
    assert SPSettings(regularisation=0).binarise == "threshold"


def test_sp_on_edges_recovers_a_compiled_program():
    task = ew.load_task("tracr-xproportion", data="paper")
    run = ew.discover(task.problem, "sp-edges", regularisation=0.05, steps=300, learning_rate=0.05)
    assert run.circuit == task.truth


def test_sp_keeps_the_activations_of_a_compiled_program():
    """The circuit computes all the program does, and holds every true edge."""
    task = ew.load_task("tracr-xproportion", data="paper")
    run = ew.discover(task.problem, "sp", regularisation=0.05, steps=300, learning_rate=0.05)
    assert (run.circuit & task.truth) == task.truth
    assert run.circuit.n_edges < task.problem.graph.n_edges / 2
    assert task.problem.loss(run.circuit) == pytest.approx(0, abs=1e-9)


def test_a_dear_mask_is_dropped_and_a_free_one_stays():
    task = ew.load_task("tracr-xproportion", data="paper")
    settings = {"steps": 60, "learning_rate": 0.1}
    dear = ew.discover(task.problem, "sp-edges", regularisation=1000, **settings)
    free = ew.discover(task.problem, "sp-edges", regularisation=0, **settings)
    assert dear.circuit.n_edges == 0
    assert (free.circuit & task.truth) == task.truth
