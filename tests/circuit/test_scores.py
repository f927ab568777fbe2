"""Edge scores: reading them, and the circuits chosen by rank, threshold and greedy growth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError
from edgewise.graph import Edge, Graph, Node

fixed = settings(derandomize=True, deadline=None, max_examples=40)
FLAG = st.booleans()
GRAPHS = st.builds(Graph, st.integers(1, 3), st.integers(1, 3), *[FLAG] * 6)
WITHOUT_SWITCHES = st.builds(Graph, st.integers(1, 3), st.integers(1, 3), *[FLAG] * 5)
SEEDS = st.integers(0, 10**6)
SMALL = Graph.build(2, 2)


def random_scores(graph: Graph, seed: int, *, distinct: int = 10**6) -> EdgeScores:
    """Scores around 0; few `distinct` ones make many ties."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-distinct, distinct + 1, graph.exists.shape, generator=generator)
    return EdgeScores(graph, steps.double() / distinct, "random", "a number")


def scores_of(graph: Graph, values: dict[str, float]) -> EdgeScores:
    """The scores named, 0 for every other edge."""
    matrix = torch.zeros(graph.exists.shape)
    for name, value in values.items():
        matrix[graph.index(name)] = value
    return EdgeScores(graph, matrix, "by hand", "a number")


# --- reading


@fixed
@given(GRAPHS, SEEDS)
def test_of_reads_the_matrix_by_edge_or_name(graph, seed):
    scores = random_scores(graph, seed)
    for edge in graph.edges:
        assert scores.of(edge) == scores.of(edge.name) == scores.values[graph.index(edge)].item()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_score_that_is_not_finite_names_its_edge(bad):
    values = torch.zeros(SMALL.exists.shape)
    values[SMALL.index("a0.h1->a1.h0.k")] = bad
    with pytest.raises(SettingError, match=r"score of a0\.h1->a1\.h0\.k is -?(nan|inf); .* finite"):
        EdgeScores(SMALL, values, "", "")


# --- ranked, top, above


@fixed
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG)
def test_ranked_is_sorted_with_ties_in_canonical_order(graph, seed, distinct, absolute):
    scores = random_scores(graph, seed, distinct=distinct)
    size = abs if absolute else float
    expected = sorted(graph.edges, key=lambda edge: -size(scores.of(edge)))  # sorted() is stable
    assert scores.ranked(absolute=absolute) == tuple(expected)


@fixed
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG, st.data())
def test_top_is_the_head_of_the_ranking(graph, seed, distinct, absolute, data):
    scores = random_scores(graph, seed, distinct=distinct)
    n = data.draw(st.integers(0, graph.n_edges))
    chosen = scores.top(n, absolute=absolute)
    assert chosen == Circuit.of(graph, scores.ranked(absolute=absolute)[:n])
    assert chosen.n_edges == n


@fixed
@given(GRAPHS, SEEDS, st.floats(-1.1, 1.1), FLAG)
def test_above_keeps_scores_of_at_least_the_threshold(graph, seed, threshold, absolute):
    scores = random_scores(graph, seed, distinct=4)
    size = abs if absolute else float
    kept = [edge for edge in graph.edges if size(scores.of(edge)) >= threshold]
    assert list(scores.above(threshold, absolute=absolute).edges) == kept


def test_a_threshold_that_is_not_a_number():
    with pytest.raises(SettingError, match="nan"):
        random_scores(SMALL, 0).above(float("nan"))


@pytest.mark.parametrize("n", [-1, 47, 10**9])
def test_more_edges_than_there_are(n):
    scores = random_scores(SMALL, 0)
    for choose in (scores.top, scores.greedy):
        with pytest.raises(SettingError, match=f"asked for {n} edges; the graph has 46"):
            choose(n)


# --- greedy


def grown_by_definition(scores: EdgeScores, n: int, absolute: bool) -> set[Edge]:
    """n times: of all edges into a node reached so far, the best; the first of equals.

    A port with a switch hears nobody before its switch is chosen.
    """
    size = abs if absolute else float
    chosen: list[Edge] = []
    switches = dict.fromkeys(scores.graph.receivers)
    switches |= {edge.receiver: edge for edge in scores.graph.edges if edge.is_switch}
    for _ in range(n):
        reached = {"logits"} | {edge.sender.name for edge in chosen}
        open_edges = [
            edge
            for edge in scores.graph.edges
            if edge.receiver.node.name in reached
            and edge not in chosen
            and (edge.is_switch or not (closed := switches[edge.receiver]) or closed in chosen)
        ]
        chosen.append(max(open_edges, key=lambda edge: size(scores.of(edge))))
    return set(chosen)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG, st.integers(0, 25))
def test_greedy_is_its_definition(graph, seed, distinct, absolute, n):
    scores, n = random_scores(graph, seed, distinct=distinct), min(n, graph.n_edges)
    expected = grown_by_definition(scores, n, absolute)
    assert set(scores.greedy(n, absolute=absolute).edges) == expected


# --- whole nodes


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
    found = scores.of_nodes(absolute=absolute)
    assert list(found) == nodes
    for node in nodes:
        assert found[node] == pytest.approx(node_score(scores, node, absolute), abs=1e-9)
    n = data.draw(st.integers(0, len(nodes)))
    best = sorted(nodes, key=lambda node: -found[node])[:n]
    inside = {node.name for node in graph.nodes if node.layer is None or node in best}
    kept = [e for e in graph.edges if e.sender.name in inside and e.receiver.node.name in inside]
    circuit = scores.top_nodes(n, absolute=absolute)
    assert list(circuit.edges) == kept
    assert circuit == Circuit.of_nodes(graph, best) == Circuit.of_nodes(graph, map(str, best))


@pytest.mark.parametrize("n", [-1, 7])
def test_more_nodes_than_there_are(n):
    with pytest.raises(SettingError, match=f"asked for {n} nodes; the graph has 6 beside"):
        random_scores(SMALL, 0).top_nodes(n)


# --- nothing changes in place


def test_choosing_changes_no_score():
    scores = random_scores(SMALL, 5)
    before = scores.values.clone()
    for absolute in (False, True):
        scores.ranked(absolute=absolute)
        scores.top(5, absolute=absolute).keep.zero_()
        scores.greedy(5, absolute=absolute).keep.zero_()
        scores.above(0.1, absolute=absolute).keep.zero_()
    assert torch.equal(scores.values, before)
    assert Circuit.full(SMALL).n_edges == 46
