"""Edge scores: reading them, and the circuits chosen by rank, threshold and greedy growth."""

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError, UnknownName
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


def test_of_an_edge_that_does_not_exist():
    with pytest.raises(UnknownName, match=r"'a0\.h9->m1'.*Did you mean"):
        random_scores(SMALL, 0).of("a0.h9->m1")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_any_float_dtype_is_kept_exactly(dtype):
    values = torch.randn(SMALL.exists.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores = EdgeScores(SMALL, values, "random", "a number")
    for edge in SMALL.edges:
        assert scores.of(edge) == values[SMALL.index(edge)].item()


def test_entries_without_an_edge_become_zero():
    values = torch.full(SMALL.exists.shape, torch.nan).where(~SMALL.exists, 2.0)
    assert torch.equal(EdgeScores(SMALL, values, "", "").values, 2.0 * SMALL.exists.double())


def test_the_matrix_passed_in_may_change_later():
    values = SMALL.exists.double()
    scores = EdgeScores(SMALL, values, "", "")
    values.zero_()
    assert scores.of("input->m0") == 1.0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_score_that_is_not_finite_names_its_edge(bad):
    values = torch.zeros(SMALL.exists.shape)
    values[SMALL.index("a0.h1->a1.h0.k")] = bad
    with pytest.raises(SettingError, match=r"score of a0\.h1->a1\.h0\.k is -?(nan|inf); .* finite"):
        EdgeScores(SMALL, values, "", "")


def test_scores_of_another_shape():
    with pytest.raises(SettingError, match=r"shape \(3, 15\), expected \(7, 15\)"):
        EdgeScores(SMALL, torch.zeros(3, 15), "", "")


# --- ranked, top, above


@fixed
@given(GRAPHS, SEEDS, st.integers(1, 5), FLAG)
def test_ranked_is_sorted_with_ties_in_canonical_order(graph, seed, distinct, absolute):
    scores = random_scores(graph, seed, distinct=distinct)
    size = abs if absolute else float
    expected = sorted(graph.edges, key=lambda edge: -size(scores.of(edge)))  # sorted() is stable
    assert scores.ranked(absolute=absolute) == tuple(expected)


def test_plus_and_minus_zero_tie():
    values = torch.zeros(SMALL.exists.shape)
    values[:, ::2] = -0.0
    assert EdgeScores(SMALL, values, "", "").ranked() == SMALL.edges


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


def test_above_zero_keeps_edges_that_score_zero_and_nothing_that_is_no_edge():
    scores = EdgeScores(SMALL, torch.zeros(SMALL.exists.shape), "", "")
    assert scores.above(0.0) == scores.above(-1.0) == Circuit.full(SMALL)
    assert scores.above(1e-9) == Circuit.empty(SMALL)


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


@fixed
@given(GRAPHS, SEEDS)
def test_greedy_circuits_grow_one_edge_at_a_time(graph, seed):
    scores, before = random_scores(graph, seed), Circuit.empty(graph)
    for n in range(1, min(graph.n_edges, 12) + 1):
        grown = scores.greedy(n)
        assert (grown.n_edges, before - grown) == (n, Circuit.empty(graph))
        before = grown
    assert scores.greedy(graph.n_edges) == Circuit.full(graph)


def test_greedy_by_hand():
    """The best edge of all is out of reach until its receiver is in."""
    names = {"input->a0.h0.q": 9.0, "a0.h0->m0": 3.0, "m0->logits": 1.0, "input->logits": 2.0}
    scores = scores_of(SMALL, names)
    assert [e.name for e in scores.top(1).edges] == ["input->a0.h0.q"]
    assert [e.name for e in scores.greedy(1).edges] == ["input->logits"]
    assert [e.name for e in scores.greedy(2).edges] == ["input->logits", "m0->logits"]
    assert scores.greedy(4) == Circuit.of(SMALL, names)


def chosen_that_do_not_reach_the_logits(circuit: Circuit) -> list[str]:
    """Kept edges with no path to the logits, where a port with a switch needs it kept."""
    paths, ways = nx.DiGraph([(("node", "logits"), "end")]), {}
    for edge in circuit.edges:
        start, end = ("node", edge.sender.name), ("port", edge.receiver.name)
        ways[edge] = (end, start) if edge.is_switch else (start, end)
        paths.add_edge(*ways[edge])
        if not circuit.graph.switches or edge.receiver.node.kind in ("mlp", "logits"):
            paths.add_edge(end, ("node", edge.receiver.node.name))
    useful = nx.ancestors(paths, "end")
    return [edge.name for edge, way in ways.items() if way[1] not in useful]


@fixed
@given(WITHOUT_SWITCHES, SEEDS, st.integers(0, 25))
def test_every_edge_chosen_greedily_lies_on_a_path_to_the_logits(graph, seed, n):
    circuit = random_scores(graph, seed).greedy(min(n, graph.n_edges))
    assert chosen_that_do_not_reach_the_logits(circuit) == []


def test_greedy_opens_a_port_before_it_listens_there():
    """Without its switch a port passes on nothing, so an edge into it is on no path."""
    graph = Graph.build(1, 1, mlps=False, switches=True)
    values = {"a0.h0->logits": 3.0, "input->a0.h0.q": 2.0, "a0.h0.q->a0.h0": 1.0}
    circuit = scores_of(graph, values).greedy(2)
    assert chosen_that_do_not_reach_the_logits(circuit) == []


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


def test_all_nodes_are_the_full_circuit_and_none_the_embeddings_alone():
    scores = random_scores(SMALL, 0)
    assert scores.top_nodes(6) == Circuit.full(SMALL)
    assert [edge.name for edge in scores.top_nodes(0).edges] == ["input->logits"]


@pytest.mark.parametrize("n", [-1, 7])
def test_more_nodes_than_there_are(n):
    with pytest.raises(SettingError, match=f"asked for {n} nodes; the graph has 6 beside"):
        random_scores(SMALL, 0).top_nodes(n)


def test_a_node_that_is_not_there():
    with pytest.raises(UnknownName, match=r"no node named 'a0\.h9'.*a0\.h0.*2 layers of 2 heads"):
        Circuit.of_nodes(SMALL, ["a0.h9"])


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
