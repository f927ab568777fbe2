"""Circuits of grouped-query attention: comparison, selections, random paths, knock-outs."""

from itertools import pairwise

import pytest

import edgewise as ew
from edgewise.circuit.coarsening import coarsened, common_graph
from edgewise.errors import SettingError
from edgewise.evaluation import completeness
from edgewise.evaluation.random_circuits import CircuitSampler
from models import random_circuit, random_model, random_pairs

GROUPED = ew.Graph.build(2, 4, kv_heads=2)
APART = ew.Graph.build(2, 4)


def test_circuits_of_groups_and_of_single_heads_compare():
    circuit = random_circuit(APART, share=0.2)
    assert common_graph([GROUPED, APART]) == GROUPED
    coarse = coarsened(circuit, GROUPED)
    for edge in circuit.edges:
        port = edge.receiver
        if port.slot in ("k", "v"):
            port = ew.Port(ew.Node(port.node.layer, "kv", port.node.head // 2), port.slot)
        assert ew.Edge(edge.sender, port) in coarse
    whole = common_graph([GROUPED, ew.Graph.build(2, 4, split_heads=False)])
    assert whole == ew.Graph.build(2, 4, split_heads=False)
    assert coarsened(ew.Circuit.full(GROUPED), whole) == ew.Circuit.full(whole)
    with pytest.raises(SettingError, match="no common graph"):
        common_graph([GROUPED, ew.Graph.build(2, 4, split_qkv=False)])
    full = {ew.Circuit.full(graph).weighted_edge_count for graph in (GROUPED, APART, whole)}
    assert len(full) == 1


def test_the_circuit_of_nodes_goes_through_key_value_heads():
    two = ew.Circuit.of_nodes(GROUPED, ["a0.h0", "a1.h3"])
    assert "a0.h0->a1.kv1.k" in two
    assert "a0.h0->a1.kv0.k" not in two
    assert "a0.h0->a1.kv0.k" in ew.Circuit.of_nodes(GROUPED, ["a0.h0", "a1.kv0"])


@pytest.mark.parametrize("kv", [1, 3])
@pytest.mark.parametrize("spans", [None, ["A", "B"]])
def test_random_paths_go_on_from_key_value_heads_to_heads_of_their_group(kv, spans):
    graph = ew.Graph.build(3, 6, kv_heads=kv, spans=spans)
    paths, through = CircuitSampler(graph, 0), set()
    for _ in range(200):
        edges = [ew.Edge(graph.senders[r], graph.receivers[c]) for r, c in paths.path()]
        assert edges[0].sender.kind == "input"
        assert edges[-1].receiver.node.kind == "logits"
        for edge, following in pairwise(edges):
            assert following.sender in graph.fed_by(edge.receiver)
            through.add(edge.receiver.node.kind)
    assert through == {"head", "kv", "mlp"}


def test_knock_outs_are_of_what_writes():
    """Of a head that the circuit reads from, and not of the key/value head it reads through."""
    model = random_model(n_heads=4, n_kv_heads=2)
    circuit = ew.Circuit.of(model.graph, ["input->a0.kv1.v", "a0.h2->a1.h0.q", "a1.h0->logits"])
    problem = ew.Problem(model, random_pairs(model), "kl")
    knock_outs = completeness(problem, circuit, random=10, greedy=2).knock_outs
    assert {name for result in knock_outs for name in result.nodes} == {"a0.h2", "a1.h0"}
    assert all(result.model > 0 for result in knock_outs)
