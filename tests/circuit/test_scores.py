"""Edge scores: reading them, and the circuits chosen by rank, threshold and greedy growth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError
from edgewise.graph import Edge, Graph, Node
from models import FLAG, GRAPHS, GROUPED, SEEDS, SPANNED, fixed

SMALL = Graph.build(2, 2)


def random_scores(graph: Graph, seed: int, *, distinct: int = 10**6) -> EdgeScores:
    """Scores around 0; few `distinct` ones make many ties."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-distinct, distinct + 1, graph.exists.shape, generator=generator)
    return EdgeScores(graph, steps.double() / distinct, "random", "a number")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_score_that_is_not_finite_names_its_edge(bad):
    values = torch.zeros(SMALL.exists.shape)
    values[SMALL.index("a0.h1->a1.h0.k")] = bad
    with pytest.raises(SettingError, match=r"score of a0\.h1->a1\.h0\.k is -?(nan|inf); .* finite"):
        EdgeScores(SMALL, values, "", "")


@fixed
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG, st.data())
def test_edges_rank_by_score_with_ties_in_canonical_order(graph, seed, distinct, absolute, data):
    scores = random_scores(graph, seed, distinct=distinct)
    size = abs if absolute else float
    for edge in graph.edges:
        assert scores.of(edge) == scores.of(edge.name) == scores.values[graph.index(edge)].item()
    expected = sorted(graph.edges, key=lambda edge: -size(scores.of(edge)))  # sorted() is stable
    assert scores.ranked(absolute=absolute) == tuple(expected)
    n = data.draw(st.integers(0, graph.n_edges))
    assert scores.top(n, absolute=absolute) == Circuit.of(graph, expected[:n])
    threshold = data.draw(st.floats(-1.1, 1.1))
    above = [edge for edge in graph.edges if size(scores.of(edge)) >= threshold]
    assert list(scores.above(threshold, absolute=absolute).edges) == above


def test_selections_that_cannot_be():
    scores = random_scores(SMALL, 0)
    with pytest.raises(SettingError, match="nan"):
        scores.above(float("nan"))
    for n in (-1, 47):
        for choose in (scores.top, scores.greedy):
            with pytest.raises(SettingError, match=f"asked for {n} edges; the graph has 46"):
                choose(n)
        with pytest.raises(SettingError, match=f"asked for {n} nodes; the graph has 6 beside"):
            scores.top_nodes(n)


def grown_by_definition(scores: EdgeScores, n: int, absolute: bool) -> set[Edge]:
    """n times: of all edges that feed a node reached so far, the best; the first of equals.

    A port with a switch hears nobody before its switch is chosen.
    """
    size = abs if absolute else float
    graph, chosen = scores.graph, []
    fed_by = {port: set(graph.fed_by(port)) for port in graph.receivers}
    switches = {edge.receiver: edge for edge in graph.edges if edge.is_switch}
    for _ in range(n):
        reached = {edge.sender for edge in chosen}
        candidates = [
            edge
            for edge in graph.edges
            if (edge.receiver.node.kind == "logits" or fed_by[edge.receiver] & reached)
            and edge not in chosen
            and (edge.is_switch or switches.get(edge.receiver, edge) in (edge, *chosen))
        ]
        chosen.append(max(candidates, key=lambda edge: size(scores.of(edge))))
    return set(chosen)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(GRAPHS | GROUPED | SPANNED, SEEDS, st.integers(1, 5), FLAG, st.integers(0, 25))
def test_greedy_is_its_definition(graph, seed, distinct, absolute, n):
    scores, n = random_scores(graph, seed, distinct=distinct), min(n, graph.n_edges)
    expected = grown_by_definition(scores, n, absolute)
    assert set(scores.greedy(n, absolute=absolute).edges) == expected


def node_score(scores: EdgeScores, node: Node, absolute: bool) -> float:
    """Added up edge by edge."""
    size = abs if absolute else float
    out = [e for e in scores.graph.edges if e.sender == node and not e.is_switch]
    return sum(size(scores.of(edge)) for edge in out)


@fixed
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG, st.data())
def test_a_circuit_of_nodes_is_every_edge_between_the_best(graph, seed, distinct, absolute, data):
    scores = random_scores(graph, seed, distinct=distinct)
    nodes = [node for node in graph.nodes if node.layer is not None]
    of_nodes = scores.of_nodes(absolute=absolute)
    assert list(of_nodes) == nodes
    for node in nodes:
        assert of_nodes[node] == pytest.approx(node_score(scores, node, absolute), abs=1e-9)
    n = data.draw(st.integers(0, len(nodes)))
    best = sorted(nodes, key=lambda node: -of_nodes[node])[:n]
    inside = {node.name for node in graph.nodes if node.layer is None or node in best}
    kept = [e for e in graph.edges if e.sender.name in inside and e.receiver.node.name in inside]
    circuit = scores.top_nodes(n, absolute=absolute)
    assert list(circuit.edges) == kept
    assert circuit == Circuit.of_nodes(graph, best) == Circuit.of_nodes(graph, map(str, best))


def test_choosing_changes_no_score():
    scores = random_scores(SMALL, 5)
    before = scores.values.clone()
    for choose, size in ((scores.top, 5), (scores.greedy, 5), (scores.above, 0.1)):
        choose(size, absolute=True).keep.zero_()
    assert torch.equal(scores.values, before)
    assert Circuit.full(SMALL).n_edges == 46
