"""The graph: the paper's counts, which edges there are (by nested loops), order, layout."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given

from edgewise.circuit import Circuit
from edgewise.errors import SettingError, UnknownName
from edgewise.graph import SLOTS, Graph, Node, Port, Site
from models import GRAPHS, GROUPED, SPANNED, fixed

# The paper's counts: additive edges, and with switches; then those of larger models.
COUNTS = {
    "GPT-2 small": ({"n_layers": 12, "n_heads": 12}, 32_491, 32_923),
    "attn-only-4l": ({"n_layers": 4, "n_heads": 8, "mlps": False}, 1_281, 1_377),
    "redwood_attn_2l": ({"n_layers": 2, "n_heads": 8, "mlps": False}, 257, 305),
    "tracr-reverse": ({"n_layers": 4, "n_heads": 1, "split_embed": True}, 94, 106),
    "tracr-xproportion": ({"n_layers": 2, "n_heads": 1, "split_embed": True}, 32, 38),
    "tracr-reverse, one embedding": ({"n_layers": 4, "n_heads": 1}, 77, 89),
    "tracr-xproportion, one embedding": ({"n_layers": 2, "n_heads": 1}, 23, 29),
    "OR gate": ({"n_layers": 1, "n_heads": 2}, 13, 19),
    "Qwen2.5-0.5B": ({"n_layers": 24, "n_heads": 14}, 179_749, 180_757),
    "Llama-3.1-8B": ({"n_layers": 32, "n_heads": 32}, 1_592_881, 1_595_953),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_papers_counts(name):
    shape, additive, counted = COUNTS[name]
    graphs = [Graph.build(**shape, switches=switches) for switches in (False, True)]
    assert [graph.n_edges for graph in graphs] == [additive, counted]
    assert "exists" not in vars(graphs[0]), "edges are counted without being made"


def names_by_definition(graph: Graph) -> list[str]:
    """Whoever has written can be heard; a head's switch comes after everything the port hears."""
    written = ["tok_embed", "pos_embed"] if graph.split_embed else ["input"]
    names = []
    for layer in range(graph.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(graph.n_heads)]
        if not graph.split_heads:
            heads = [f"a{layer}"]
        for slot in [".q", ".k", ".v"] if graph.split_qkv else [""]:
            nodes = heads
            if graph.kv_heads and slot != ".q":
                nodes = [f"a{layer}.kv{head}" for head in range(graph.kv_heads)]
            for node in nodes:
                names += [f"{sender}->{node}{slot}" for sender in written]
                names += [f"{node}{slot}->{node}"] if graph.switches else []
        heard_by_mlp = written + ([] if graph.parallel else heads)
        if graph.mlps:
            names += [f"{sender}->m{layer}" for sender in heard_by_mlp]
        written = written + heads + ([f"m{layer}"] if graph.mlps else [])
    return names + [f"{sender}->logits" for sender in written]


@fixed
@given(GRAPHS | GROUPED | SPANNED)
def test_edges_are_those_of_the_definition_in_its_order(graph):
    assert [edge.name for edge in graph.whole.edges] == names_by_definition(graph)
    assert graph.n_edges == len(graph.edges) == int(graph.exists.sum())
    for part in graph.by_span(graph.exists):  # every edge comes once for each span
        assert torch.equal(part, graph.whole.exists)
    names = [f"{edge.name}@{span}" for span in graph.spans or () for edge in graph.whole.edges]
    assert not names or {edge.name for edge in graph.edges} == set(names)
    values = torch.rand(graph.exists.shape).where(graph.exists, torch.tensor(0.0))
    assert torch.equal(graph.of_spans(graph.by_span(values)), values)


@fixed
@given(GRAPHS | GROUPED | SPANNED)
def test_the_layout_says_where_everything_is(graph):
    for edge in graph.edges:
        entry = (graph.row[edge.sender], graph.column[edge.receiver])
        assert graph.index(edge) == graph.index(edge.name) == entry
    whole, sites = graph.whole, graph.columns
    for layer in range(graph.n_layers):
        for slot in SLOTS:
            shared = graph.kv_nodes[layer] if slot != "q" else ()
            nodes = shared or graph.attention_nodes[layer]
            ports = tuple(Port(node, slot if graph.split_qkv else None) for node in nodes)
            assert whole.receivers[sites[Site(layer, slot)]] == ports
        if graph.mlps:
            assert whole.receivers[sites[Site(layer, "mlp")]] == (Port(Node(layer, "mlp")),)
    assert whole.receivers[sites[Site(None, "logits")]] == (Port(Node(None, "logits")),)
    columns = {c for site in sites.values() for c in range(len(whole.receivers))[site]}
    assert columns == set(range(len(whole.receivers)))


# --- who uses what a port reads


@pytest.mark.parametrize("kv_heads", [None, 1, 2])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("spans", [None, ["A", "B"]])
def test_a_port_feeds_heads_of_its_group_where_they_look(kv_heads, mixed, spans):
    graph = Graph.build(2, 4, kv_heads=kv_heads, mixed_heads=mixed, spans=spans)
    for port in graph.receivers:
        node, fed = port.node, graph.fed_by(port)
        senders = {replace(sender, span=None) for sender in fed}
        if node.kind == "kv" and not graph.mixed_heads:
            size = graph.n_heads // graph.kv_heads
            heads = range(node.head * size, (node.head + 1) * size)
            assert senders == {Node(node.layer, "head", head) for head in heads}
        elif graph.mixed_heads and port.slot:
            assert senders == set(graph.attention_nodes[node.layer])
        else:
            assert senders == ({replace(node, span=None)} if node.layer is not None else set())
        everywhere = node.kind in ("head", "kv", "attention") and port.slot != "q"
        spans = set(graph.spans or [None]) if everywhere else {node.span}
        assert {sender.span for sender in fed} == (spans if fed else set())
        assert graph.rows_fed[port] == [graph.row[sender] for sender in fed]


# --- names that a graph does not have

SMALL = Graph.build(2, 2)
SPANS = Graph.build(1, 1, spans=["S2", "rest"])


@pytest.mark.parametrize(
    ("graph", "name", "message"),
    [
        (SMALL, "a1.h0->a0.h1.q", r"a1\.h0 is computed after a0\.h1\.q reads"),
        (Graph.build(2, 2, switches=True), "m0->m0", r"m0 is computed after m0 reads"),
        (SMALL, "a0.h1.q->a0.h1", "no switches; build it with switches=True"),
        (SMALL, "a0.h5->m1", r"Did you mean 'a0\.h[01]->m1'.*2 layers of"),
        (SMALL, "input->a0.h0", r"Did you mean 'input->a0\.h0\.v'.*split q/k/v"),
        (Graph.build(2, 2, split_qkv=False), "input->a0.h0.q", "joined q/k/v"),
        (Graph.build(2, 4, kv_heads=2), "a0.h1->a1.h3.k", r"Did you mean .*2 key/value heads"),
        (SPANS, "input@S2->m0@rest", "both ends in one span"),
        (SPANS, "input->m0", r"no edge named 'input->m0'\. .*spans S2, rest"),
    ],
)
def test_an_edge_that_does_not_exist_is_explained(graph, name, message):
    with pytest.raises(UnknownName, match=message):
        graph.index(name)


def test_rows_and_columns_of_strangers():
    with pytest.raises(UnknownName, match=r"no sender named 'm3'\. Did you mean 'm1', 'm0'"):
        SMALL.row[Node(3, "mlp")]
    with pytest.raises(UnknownName, match=r"no sender named 'a1.kv1'\. Did you mean"):
        Graph.build(2, 4, kv_heads=2).row[Node(1, "kv", 1)]  # it reads, and writes nothing
    with pytest.raises(UnknownName, match=r"no receiver named 'a1\.h0'\. Did you mean"):
        SMALL.column[Port(Node(1, "head", 0))]


def test_an_unknown_edge_of_a_large_graph_is_refused_quickly():
    graph = Graph.build(12, 12)
    start = time.perf_counter()
    with pytest.raises(UnknownName, match=r"Did you mean 'a3\.h\d+->logits'"):
        graph.index("a3.h13->logits")
    assert time.perf_counter() - start < 1


# --- building, equality


def model_of_shape(**changes):
    shape = {"n_layers": 2, "n_heads": 4, "has_mlps": True, "parallel": False}
    more = {"adds_positions": True, "n_kv_heads": 4, "mixes_heads": False}
    return SimpleNamespace(config=SimpleNamespace(**(shape | more | changes)))


def test_a_models_graph_is_that_of_its_shape():
    assert Graph.of(model_of_shape()) == Graph.build(2, 4)
    assert Graph.of(model_of_shape(has_mlps=False)) == Graph.build(2, 4, mlps=False)
    assert Graph.of(model_of_shape(parallel=True)) == Graph.build(2, 4, parallel=True)
    options = {"split_qkv": False, "split_heads": False, "split_embed": True, "switches": True}
    assert Graph.of(model_of_shape(), **options) == Graph.build(2, 4, **options)
    grouped = model_of_shape(n_kv_heads=2)
    assert Graph.of(grouped) == Graph.build(2, 4, kv_heads=2)
    assert Graph.of(grouped, ungroup_heads=True) == Graph.build(2, 4)
    assert Graph.of(grouped, switches=True, ungroup_heads=True).switches
    for grain in ({"split_heads": False}, {"split_qkv": False}):
        assert Graph.of(grouped, **grain).kv_heads is None
    assert Graph.of(model_of_shape(), spans=["S2"]).spans == ("S2", "rest")


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ({"adds_positions": False}, {"split_embed": True}, "Leave split_embed off"),
        ({"n_kv_heads": 2}, {"switches": True}, "Ask for ungroup_heads"),
        ({}, {"spans": SimpleNamespace(spans=None)}, "name no spans"),
        ({}, {"spans": "S2"}, "must be a list of names"),
        ({}, {"spans": []}, "must be a list of names"),
        ({}, {"spans": ["a", "a"]}, "named twice"),
        ({}, {"spans": ["a->b"]}, "cannot hold"),
        ({}, {"spans": [""]}, "must be text"),
    ],
)
def test_granularities_that_a_model_has_not(shape, options, message):
    with pytest.raises(SettingError, match=message):
        Graph.of(model_of_shape(**shape), **options)


@pytest.mark.parametrize("kv_heads", [3, 0, 4])
@pytest.mark.parametrize("grain", [{}, {"split_qkv": False}, {"switches": True}])
def test_groups_that_cannot_be(kv_heads, grain):
    with pytest.raises(SettingError, match="kv_heads|key/value"):
        Graph.build(2, 4, kv_heads=2 if grain else kv_heads, **grain)


@fixed
@given(GRAPHS)
def test_the_description_tells_granularities_apart(graph):
    for name in ("split_qkv", "split_heads", "split_embed", "switches"):
        changed = replace(graph, **{name: not getattr(graph, name)})
        assert changed.describe() != graph.describe()


@fixed
@given(GRAPHS | GROUPED | SPANNED)
def test_files_say_what_is_new_only_where_it_says_something(graph):
    assert Graph.from_json(graph.to_json()) == graph
    assert ("kv_heads" in graph.to_json()) == (graph.kv_heads is not None)
    assert Circuit.from_json(Circuit.full(graph).to_json()) == Circuit.full(graph)
