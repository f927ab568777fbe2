"""Random circuits: their size, the paths they are made of, and the band of their metric."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.circuit import Circuit
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import random_band, random_circuits
from edgewise.evaluation.random_circuits import CircuitSampler, RandomBand
from edgewise.graph import Graph
from models import random_circuit

SMALL = Graph.build(2, 2, switches=True)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, SMALL.n_edges))
def test_uniform_random_circuits(seed, n):
    first, second = random_circuits(SMALL, n, 2, seed=seed)
    assert first.n_edges == second.n_edges == n
    assert list(random_circuits(SMALL, n, 2, seed=seed)) == [first, second]
    if 10 < n < SMALL.n_edges - 10:
        assert first != second


@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize(
    "change",
    [{}, {"mlps": False}, {"split_qkv": False, "split_embed": True}, {"spans": ("start", "end")}],
)
def test_connected_circuits_and_paths_lead_from_input_to_output(switches, change):
    graph = Graph.build(3, 2, switches=switches, **change)
    for n in (1, 11, graph.n_edges // 2, graph.n_edges):
        for circuit in random_circuits(graph, n, 2, kind="connected", seed=n):
            assert circuit.n_edges == n
            assert circuit.pruned() == circuit
    sampler = CircuitSampler(graph, 0)
    for _ in range(10):
        circuit = sampler.paths(8)
        assert 8 <= circuit.n_edges <= 8 + 2 * 3 * 3
        assert circuit.pruned() == circuit
    assert sampler.paths(graph.n_edges).n_edges == graph.n_edges
    inflated, edge = sampler.inflated(circuit)
    assert edge in inflated
    assert edge not in circuit
    assert sampler.inflated(Circuit.full(graph)) is None


def test_random_circuits_reach_every_edge():
    graph = Graph.build(1, 2)
    for kind in ("uniform", "connected"):
        drawn = torch.stack([c.keep for c in random_circuits(graph, 4, 200, kind=kind)])
        assert drawn.any(dim=0).sum() == graph.n_edges


def test_random_circuits_that_cannot_be(unchecked):
    with pytest.raises(SettingError, match="edges; the graph has"):
        next(random_circuits(SMALL, SMALL.n_edges + 1, 1))
    attention = Graph.build(1, 1, mlps=False, switches=True)
    with pytest.raises(SettingError, match="found no circuit of 2 edges"):
        next(random_circuits(attention, 2, 1, kind="connected"))
    with pytest.raises(UnknownName, match="no kind of random circuit"):
        next(random_circuits(SMALL, 5, 1, kind="any"))


def test_a_band_by_hand():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)

    def band(full, empty, *, n=4, higher=True):
        return RandomBand("m", "", higher, full, empty, "uniform", 5, 0, values[:n])

    up = band(10.0, 0.0)
    assert (up.n, up.mean, up.quantiles["0.5"]) == (4, 3.0, 2.5)
    half = 3.182446 * values.std().item() / 2  # Student's t, 3 degrees of freedom
    assert up.interval == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert up.normalized.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.6])
    assert (up.as_good_as(3.0), up.p_value(3.0), up.p_value(7.0)) == (2, 0.6, 0.2)
    assert band(0.0, 10.0, higher=False).as_good_as(2.0) == 2
    assert band(1.0, 0.0, n=1).interval is None
    assert band(1.0, 1.0).normalized is None


def test_a_band_is_what_the_evaluator_says(small_problem):
    problem = small_problem(3, "kl", "zero")
    circuit = random_circuit(problem.graph, 3)
    band = random_band(problem, circuit, n=3, seed=7)
    drawn = random_circuits(problem.graph, circuit.n_edges, 3, seed=7)
    assert band.values.tolist() == pytest.approx([problem.value(c) for c in drawn])
    full = random_band(problem, ew.Circuit.full(problem.graph), n=2, kind="connected")
    assert full.normalized.tolist() == pytest.approx([1.0, 1.0])
