"""Graphs of grouped-query attention: names, counts, who reads for whom, comparison."""

from itertools import pairwise, product

import pytest

import edgewise as ew
from edgewise.circuit.coarsening import coarsened, common_graph
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import completeness
from edgewise.evaluation.random_circuits import CircuitSampler
from edgewise.graph import Site
from models import random_circuit, random_model, random_pairs

GROUPED = ew.Graph.build(2, 4, kv_heads=2)
APART = ew.Graph.build(2, 4)


@pytest.mark.parametrize(
    ("layers", "heads", "edges"),
    [(12, 12, 32_491), (24, 14, 179_749), (48, 25, 2_235_025), (32, 32, 1_592_881)],
)  # GPT-2 small, Qwen2.5-0.5B, GPT-2 XL, Llama-3.1-8B
def test_edges_are_counted_without_being_made(layers, heads, edges):
    graph = ew.Graph.build(layers, heads)
    assert graph.n_edges == edges
    assert "exists" not in vars(graph)


def test_the_count_is_that_of_the_edges_at_every_granularity():
    flags = ("mlps", "parallel", "split_qkv", "split_heads", "split_embed", "switches")
    for chosen in product((False, True), repeat=len(flags)):
        for spans in (None, ["A", "B"]):
            graph = ew.Graph.build(2, 4, spans=spans, **dict(zip(flags, chosen, strict=True)))
            assert graph.n_edges == int(graph.exists.sum())
    for kv, parallel, spans in product((1, 2), (False, True), (None, ["A", "B"])):
        graph = ew.Graph.build(3, 4, kv_heads=kv, parallel=parallel, spans=spans)
        assert graph.n_edges == int(graph.exists.sum()) == len(graph.edges)


def test_names_parse_back():
    for graph in (GROUPED, ew.Graph.build(2, 4, kv_heads=1, spans=["S2", "rest"])):
        for edge in graph.edges:
            assert ew.Edge.parse(edge.name) == edge
            assert graph.index(edge.name) == graph.index(edge)
        for node in graph.nodes:
            assert ew.Node.parse(node.name) == node
    assert ew.Edge.parse("a0.h1->a1.kv0<v>").name == "a0.h1->a1.kv0.v"


def test_a_key_value_head_reads_for_its_group():
    key, query = ew.Port.parse("a1.kv1.k"), ew.Port.parse("a1.h1.q")
    assert [node.name for node in GROUPED.fed_by(key)] == ["a1.h2", "a1.h3"]
    assert [node.name for node in GROUPED.fed_by(query)] == ["a1.h1"]
    assert GROUPED.columns[Site(1, "v")].stop - GROUPED.columns[Site(1, "v")].start == 2
    assert "2 key/value heads" in GROUPED.describe()
    assert len(GROUPED.senders) == len(APART.senders), "it writes nothing"


def test_a_port_that_groups_have_not_is_an_error_that_says_so():
    with pytest.raises(UnknownName, match=r"4 heads share 2 key/value heads.*a3\.kv0\.k"):
        GROUPED.index("a0.h1->a1.h3.k")


@pytest.mark.parametrize(
    "options",
    [{"kv_heads": 3}, {"kv_heads": 0}, {"kv_heads": 4}, {"kv_heads": 2, "split_qkv": False},
     {"kv_heads": 2, "switches": True}, {"kv_heads": 2, "split_heads": False}],
)  # fmt: skip
def test_groups_that_cannot_be(options):
    with pytest.raises(SettingError, match="kv_heads|key/value"):
        ew.Graph.build(2, 4, **options)


def test_of_a_model():
    model = random_model(n_heads=4, n_kv_heads=2)
    assert model.graph == GROUPED
    assert ew.Graph.of(model, ungroup_heads=True) == APART
    assert ew.Graph.of(model, split_heads=False).kv_heads is None
    assert ew.Graph.of(model, split_qkv=False).kv_heads is None
    with pytest.raises(SettingError, match="Ask for ungroup_heads"):
        ew.Graph.of(model, switches=True)
    assert ew.Graph.of(model, switches=True, ungroup_heads=True).switches


def test_circuits_of_groups_and_of_single_heads_compare():
    circuit = random_circuit(APART, share=0.2)
    assert common_graph([GROUPED, APART]) == GROUPED
    seen = coarsened(circuit, GROUPED)
    for edge in circuit.edges:
        port = edge.receiver
        if port.slot in ("k", "v"):
            port = ew.Port(ew.Node(port.node.layer, "kv", port.node.head // 2), port.slot)
        assert ew.Edge(edge.sender, port) in seen
    whole = common_graph([GROUPED, ew.Graph.build(2, 4, split_heads=False)])
    assert whole == ew.Graph.build(2, 4, split_heads=False)
    assert coarsened(ew.Circuit.full(GROUPED), whole) == ew.Circuit.full(whole)
    with pytest.raises(SettingError, match="no common graph"):
        common_graph([GROUPED, ew.Graph.build(2, 4, split_qkv=False)])
    full = [ew.Circuit.full(graph).weighted_edge_count for graph in (GROUPED, APART, whole)]
    assert full[0] == full[1] == full[2]


def test_files_and_records_hold_the_groups(tmp_path):
    circuit = random_circuit(GROUPED)
    assert ew.Circuit.load(circuit.save(tmp_path / "c.json")) == circuit
    assert "kv_heads" not in APART.to_json(), "files of other graphs are as they were"


def test_nodes_and_greedy_selection_go_through_key_value_heads():
    scores = ew.EdgeScores(GROUPED, random_circuit(GROUPED).keep.double(), "m", "x")
    circuit = scores.greedy(30)
    assert circuit.n_edges == 30
    assert circuit.pruned().n_edges > 0
    two = ew.Circuit.of_nodes(GROUPED, ["a0.h0", "a1.h3"])
    assert "a0.h0->a1.kv1.k" in two
    assert "a0.h0->a1.kv0.k" not in two
    assert "a0.h0->a1.kv0.k" in ew.Circuit.of_nodes(GROUPED, ["a0.h0", "a1.kv0"])


def test_a_key_value_head_is_no_sender():
    key = ew.Node.parse("a1.kv1")
    with pytest.raises(UnknownName, match=r"no sender named 'a1.kv1'. Did you mean"):
        GROUPED.row[key]
    assert GROUPED.group(ew.Node.parse("logits")) == ()
    for graph in (GROUPED, ew.Graph.build(2, 4, kv_heads=1, mixed_heads=True, spans=["A", "B"])):
        for port in graph.receivers:
            assert {*graph.fed_by(port), *graph.group(port.node)} <= set(graph.senders)


@pytest.mark.parametrize("kv", [1, 3])
@pytest.mark.parametrize("spans", [None, ["A", "B"]])
def test_random_paths_go_on_from_key_value_heads_to_heads_of_their_group(kv, spans):
    graph = ew.Graph.build(3, 6, kv_heads=kv, spans=spans)
    paths, through = CircuitSampler(graph, 0), set()
    for _ in range(200):
        edges = [ew.Edge(graph.senders[r], graph.receivers[c]) for r, c in paths.path()]
        assert edges[0].sender.kind == "input"
        assert edges[-1].receiver.node.kind == "logits"
        for one, after in pairwise(edges):
            assert after.sender in graph.fed_by(one.receiver)
            through.add(one.receiver.node.kind)
    assert through == {"head", "kv", "mlp"}


def test_knock_outs_are_of_what_writes():
    """Of a head that the circuit reads from, and not of the key/value head it reads through."""
    model = random_model(n_heads=4, n_kv_heads=2)
    circuit = ew.Circuit.of(model.graph, ["input->a0.kv1.v", "a0.h2->a1.h0.q", "a1.h0->logits"])
    problem = ew.Problem(model, random_pairs(model), "kl")
    found = completeness(problem, circuit, random=10, greedy=2)
    assert {name for one in found.knock_outs for name in one.nodes} == {"a0.h2", "a1.h0"}
    assert all(one.model > 0 for one in found.knock_outs)
