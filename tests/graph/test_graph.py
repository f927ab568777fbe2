"""The graph: the paper's counts, which edges there are (by nested loops), order, layout."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.errors import SettingError, UnknownName
from edgewise.graph import SLOTS, Edge, Graph, Node, Port, Site

fixed = settings(derandomize=True, deadline=None, max_examples=40)
FLAG = st.booleans()
GRAPHS = st.builds(Graph, st.integers(1, 3), st.integers(1, 3), *[FLAG] * 6)


# --- the paper's counts (spec 1.3): additive edges, and with switches

COUNTS = [
    ("GPT-2 small", {"n_layers": 12, "n_heads": 12}, 32_491, 32_923),
    ("attn-only-4l", {"n_layers": 4, "n_heads": 8, "mlps": False}, 1_281, 1_377),
    ("redwood_attn_2l", {"n_layers": 2, "n_heads": 8, "mlps": False}, 257, 305),
    ("tracr-reverse", {"n_layers": 4, "n_heads": 1, "split_embed": True}, 94, 106),
    ("tracr-xproportion", {"n_layers": 2, "n_heads": 1, "split_embed": True}, 32, 38),
    ("tracr-reverse, one embedding", {"n_layers": 4, "n_heads": 1}, 77, 89),
    ("tracr-xproportion, one embedding", {"n_layers": 2, "n_heads": 1}, 23, 29),
    ("OR gate", {"n_layers": 1, "n_heads": 2}, 13, 19),
]


@pytest.mark.parametrize(("model", "shape", "additive", "counted"), COUNTS)
def test_the_papers_counts(model, shape, additive, counted):
    for switches, expected in ((False, additive), (True, counted)):
        graph = Graph.build(**shape, switches=switches)
        assert (model, graph.n_edges) == (model, expected)
        assert len(graph.edges) == expected


@fixed
@given(st.integers(1, 6), st.integers(1, 6), FLAG, FLAG, FLAG)
def test_the_specs_formula(n_layers, n_heads, mlps, split_embed, switches):
    graph = Graph.build(n_layers, n_heads, mlps=mlps, split_embed=split_embed, switches=switches)
    e, m = 1 + split_embed, int(mlps)
    total = e + n_layers * (n_heads + m)
    for layer in range(n_layers):
        before = e + layer * (n_heads + m)
        total += 3 * n_heads * before + m * (before + n_heads) + 3 * n_heads * switches
    assert graph.n_edges == total


# --- which edges there are, and in which order: a forward pass in nested loops


def names_by_definition(graph: Graph) -> list[str]:
    """Whoever has written can be heard; a head's switch comes after everything the port hears."""
    written = ["tok_embed", "pos_embed"] if graph.split_embed else ["input"]
    names = []
    for layer in range(graph.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(graph.n_heads)]
        if not graph.split_heads:
            heads = [f"a{layer}"]
        for slot in [".q", ".k", ".v"] if graph.split_qkv else [""]:
            for head in heads:
                names += [f"{sender}->{head}{slot}" for sender in written]
                names += [f"{head}{slot}->{head}"] if graph.switches else []
        heard_by_mlp = written + ([] if graph.parallel else heads)
        if graph.mlps:
            names += [f"{sender}->m{layer}" for sender in heard_by_mlp]
        written = written + heads + ([f"m{layer}"] if graph.mlps else [])
    return names + [f"{sender}->logits" for sender in written]


@fixed
@given(GRAPHS)
def test_edges_are_those_of_the_definition_in_its_order(graph):
    assert [edge.name for edge in graph.edges] == names_by_definition(graph)


# --- layout


@fixed
@given(GRAPHS)
def test_index_and_edge_agree_with_rows_and_columns(graph):
    for edge in graph.edges:
        place = (graph.row[edge.sender], graph.column[edge.receiver])
        assert graph.index(edge) == graph.index(edge.name) == place
        assert Edge.parse(edge.name) == edge


@fixed
@given(GRAPHS)
def test_slices_pick_what_they_say(graph):
    logits = graph.receivers[graph.columns[Site(None, "logits")]]
    assert [port.name for port in logits] == ["logits"]
    for layer in range(graph.n_layers):
        attention = graph.attention_nodes[layer]
        for slot in SLOTS:
            ports = graph.receivers[graph.columns[Site(layer, slot)]]
            assert ports == tuple(Port(n, slot if graph.split_qkv else None) for n in attention)
        if graph.mlps:
            mlp = graph.receivers[graph.columns[Site(layer, "mlp")]]
            assert mlp == (Port(Node(layer, "mlp")),)


@fixed
@given(GRAPHS)
def test_the_sites_cover_every_column_once(graph):
    sites = [Site(layer, slot) for layer in range(graph.n_layers) for slot in SLOTS]
    if not graph.split_qkv:
        sites = [site for site in sites if site.what == "q"]
    sites += [Site(layer, "mlp") for layer in range(graph.n_layers) if graph.mlps]
    sites += [Site(None, "logits")]
    columns = [c for s in sites for c in range(len(graph.receivers))[graph.columns[s]]]
    assert sorted(columns) == list(range(len(graph.receivers)))


# --- names that a graph does not have

SMALL = Graph.build(2, 2)


def test_an_edge_against_the_order_is_explained():
    with pytest.raises(UnknownName, match=r"a1\.h0 is computed after a0\.h1\.q reads"):
        SMALL.index("a1.h0->a0.h1.q")
    with pytest.raises(UnknownName, match=r"m0 is computed after m0 reads"):
        Graph.build(2, 2, switches=True).index("m0->m0")


def test_a_missing_node_brings_suggestions_and_the_graphs_shape():
    with pytest.raises(UnknownName, match=r"Did you mean 'a0\.h[01]->m1'.*2 layers of"):
        SMALL.index("a0.h5->m1")
    with pytest.raises(UnknownName, match=r"Did you mean 'input->a0\.h0\.v'.*split q/k/v"):
        SMALL.index("input->a0.h0")
    with pytest.raises(UnknownName, match=r"joined q/k/v"):
        Graph.build(2, 2, split_qkv=False).index("input->a0.h0.q")


def test_rows_and_columns_of_strangers():
    with pytest.raises(UnknownName, match=r"no sender named 'm3'\. Did you mean 'm1', 'm0'"):
        SMALL.row[Node(3, "mlp")]
    with pytest.raises(UnknownName, match="no sender named 'logits'"):
        SMALL.row[Node(None, "logits")]
    with pytest.raises(UnknownName, match=r"no receiver named 'a1\.h0'\. Did you mean"):
        SMALL.column[Port(Node(1, "head", 0))]
    with pytest.raises(UnknownName, match="no receiver named 'input'"):
        SMALL.column[Port(Node(None, "input"))]


def test_an_unknown_edge_of_a_large_graph_is_refused_quickly():
    graph = Graph.build(12, 12)
    start = time.perf_counter()
    with pytest.raises(UnknownName, match=r"Did you mean 'a3\.h\d+->logits'"):
        graph.index("a3.h13->logits")
    assert time.perf_counter() - start < 1


# --- building, equality


def model_of_shape(**changes):
    shape = {"n_layers": 2, "n_heads": 3, "has_mlps": True, "parallel": False}
    more = {"adds_positions": True, "n_kv_heads": 3, "mixes_heads": False}
    return SimpleNamespace(config=SimpleNamespace(**(shape | more | changes)))


def test_a_models_graph_is_that_of_its_shape():
    assert Graph.of(model_of_shape()) == Graph.build(2, 3)
    assert Graph.of(model_of_shape(has_mlps=False)) == Graph.build(2, 3, mlps=False)
    assert Graph.of(model_of_shape(parallel=True)) == Graph.build(2, 3, parallel=True)
    options = {"split_qkv": False, "split_heads": False, "split_embed": True, "switches": True}
    assert Graph.of(model_of_shape(), **options) == Graph.build(2, 3, **options)


def test_embeddings_split_only_where_positions_are_added():
    with pytest.raises(SettingError, match=r"'pos_embed'.*Leave split_embed off"):
        Graph.of(model_of_shape(adds_positions=False), split_embed=True)


@fixed
@given(GRAPHS)
def test_the_description_tells_granularities_apart(graph):
    for name in ("split_qkv", "split_heads", "split_embed", "switches"):
        other = replace(graph, **{name: not getattr(graph, name)})
        assert other.describe() != graph.describe()
