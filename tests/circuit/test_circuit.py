"""Circuits: set algebra, nothing changes in place, pruning against plain paths, files."""

import json
import os
import subprocess
import sys

import networkx as nx
import pytest
import torch
from hypothesis import given, settings

from edgewise.circuit import Circuit
from edgewise.errors import FormatError, OutputError, SettingError, UnknownName
from edgewise.graph import Edge, Graph
from models import GRAPHS, GROUPED, SEEDS, SPANNED, fixed, random_circuit

SMALL = Graph.build(2, 2)


def drawn(graph: Graph, seed: int) -> Circuit:
    """Each edge kept with a probability that is itself drawn."""
    return random_circuit(graph, seed, float(torch.rand(1, generator=torch.manual_seed(seed))))


# --- identities


@fixed
@given(GRAPHS | GROUPED | SPANNED)
def test_full_and_empty(graph):
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    assert (full.edges, full.nodes, full.n_edges) == (graph.edges, graph.nodes, graph.n_edges)
    assert empty.edges == empty.nodes == ()
    assert empty.n_edges == 0
    assert full.complement() == empty
    assert (full.pruned(), empty.pruned()) == (full, empty)


@fixed
@given(GRAPHS | GROUPED | SPANNED, SEEDS)
def test_a_circuit_is_a_collection_of_its_edges_and_their_nodes(graph, seed):
    circuit = drawn(graph, seed)
    assert list(circuit) == list(circuit.edges)
    assert len(circuit) == circuit.n_edges
    assert Circuit.of(graph, set(circuit)) == circuit
    table = circuit.to_pandas()
    assert [Edge.parse(name) for name in table["edge"]] == list(circuit)
    assert list(table["slot"]) == [edge.receiver.slot or "" for edge in circuit]
    touched = {node for edge in circuit for node in (edge.sender, edge.receiver.node)}
    assert list(circuit.nodes) == [node for node in graph.nodes if node in touched]


@fixed
@given(GRAPHS, SEEDS, SEEDS, SEEDS)
def test_the_laws_of_sets(graph, first, second, third):
    a, b, c = (drawn(graph, seed) for seed in (first, second, third))
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    assert a | b == b | a
    assert a & (b | c) == (a & b) | (a & c)
    assert (a | b).complement() == a.complement() & b.complement()
    assert a.complement().complement() == a
    assert a | a.complement() == full
    assert a & a.complement() == a - a == empty
    assert a - b == a & b.complement()
    assert (a - b) | (a & b) == a
    assert a | empty == a & full == a
    assert a.without(*b) == a - b


def fine_edges(circuit: Circuit) -> dict[str, float]:
    """The edges of MIB's graph (heads, q, k and v apart, one input) that each kept edge is made of,
    and how much of them."""
    graph, weights = circuit.graph, {}
    for edge in circuit.edges:
        if edge.is_switch:
            continue
        sender, into, slot = edge.sender, edge.receiver.node, edge.receiver.slot
        heads = [f".h{i}" for i in range(graph.n_heads)]
        froms = [f"a{sender.layer}{h}" for h in heads] if sender.kind == "attention" else [sender]
        if sender.kind in ("tok_embed", "pos_embed"):
            froms = ["input"]
        nodes = [f"a{into.layer}{h}" for h in heads] if into.kind == "attention" else [into]
        slots = [""] if into.kind in ("mlp", "logits") else [f".{x}" for x in slot or "qkv"]
        for name in (f"{f}->{n}{x}" for f in froms for n in nodes for x in slots):
            weights[name] = weights.get(name, 0) + (0.5 if "embed" in sender.kind else 1)
    return weights


@fixed
@given(GRAPHS, SEEDS)
def test_the_weighted_edge_count_is_that_of_single_heads(graph, seed):
    circuit = drawn(graph, seed)
    assert circuit.weighted_edge_count == sum(fine_edges(circuit).values())
    fine = Graph(graph.n_layers, graph.n_heads, graph.mlps, graph.parallel)
    assert set(fine_edges(circuit)) <= {edge.name for edge in fine.edges}
    assert Circuit.full(graph).weighted_edge_count == fine.n_edges


@fixed
@given(GRAPHS, SEEDS)
def test_no_call_changes_a_circuit(graph, seed):
    circuit, other = drawn(graph, seed), drawn(graph, seed + 1)
    keep, exists = circuit.keep.clone(), graph.exists.clone()
    circuit.pruned(), circuit.complement(), circuit.without(graph.edges[0])
    circuit | other, circuit & other, circuit - other
    circuit.edges, circuit.nodes, circuit.id, circuit.to_json(), circuit.to_networkx()
    assert torch.equal(circuit.keep, keep)
    assert torch.equal(graph.exists, exists)


def test_what_does_not_fit_is_refused():
    mask, full = SMALL.exists.clone(), Circuit.full(SMALL)
    mask[SMALL.index("m0->a1.h0.q")[0], 0] = True
    with pytest.raises(SettingError, match=r"marks m0->a0\.h0\.q, an edge that does not exist"):
        Circuit(SMALL, mask)
    joined = Circuit.full(Graph.build(2, 2, split_qkv=False))
    for sign, combine in (("|", "__or__"), ("&", "__and__"), ("-", "__sub__")):
        with pytest.raises(SettingError, match=rf"circuit \{sign} circuit .*\n.*split.*\n.*joined"):
            getattr(full, combine)(joined)
    for use in (full.without, full.__contains__, lambda name: Circuit.of(SMALL, [name])):
        with pytest.raises(UnknownName, match=r"'a0\.h7->m1'.*Did you mean"):
            use("a0.h7->m1")


# --- pruning


def on_a_path(circuit: Circuit) -> set[Edge]:
    """The kept edges on a path from an embedding to the logits, all paths followed by networkx.

    A port is a place of its own: what it reads goes on to its nodes unless its switch is removed.
    """
    graph, paths, way = circuit.graph, nx.DiGraph(), {}
    for edge in graph.edges:
        start, end = ("node", edge.sender.name), ("port", edge.receiver.name)
        way[edge] = (end, start) if edge.is_switch else (start, end)
        if edge in circuit:
            paths.add_edge(*way[edge])
    with_switch = {edge.receiver for edge in graph.edges if edge.is_switch}
    for port in graph.receivers:
        for node in graph.fed_by(port) if port not in with_switch else ():
            paths.add_edge(("port", port.name), ("node", node.name))
    sources = {("node", s.name) for s in graph.senders if s.layer is None} & set(paths)
    outputs = {("port", p.name) for p in graph.receivers if p.node.kind == "logits"} & set(paths)
    live = sources.union(*(nx.descendants(paths, source) for source in sources))
    useful = outputs.union(*(nx.ancestors(paths, output) for output in outputs))
    return {e for e in circuit.edges if way[e][0] in live and way[e][1] in useful}


@settings(derandomize=True, deadline=None, max_examples=120)
@given(GRAPHS | GROUPED | SPANNED.filter(lambda graph: not graph.switches), SEEDS)
def test_pruned_keeps_exactly_the_edges_on_a_path(graph, seed):
    circuit = drawn(graph, seed)
    pruned = circuit.pruned()
    assert set(pruned.edges) == on_a_path(circuit)
    assert pruned.pruned() == pruned
    assert not len(pruned - (circuit | drawn(graph, seed + 1)).pruned())


# --- files


@fixed
@given(GRAPHS | GROUPED | SPANNED, SEEDS)
def test_json_there_and_back(graph, seed):
    circuit = drawn(graph, seed)
    document = circuit.to_json()
    assert Circuit.from_json(json.loads(json.dumps(document))) == circuit
    assert document["edges"] == [edge.name for edge in circuit.edges]


def test_save_and_load(tmp_path):
    circuit = drawn(SMALL, seed=3)
    path = circuit.save(tmp_path / "c.json")
    assert Circuit.load(path) == Circuit.load(str(path)) == circuit
    Circuit.empty(SMALL).save(str(path))  # over the old file
    assert Circuit.load(path) == Circuit.empty(SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
    with pytest.raises(OutputError, match=r"cannot write .*c\.json/d\.json: Not a directory"):
        circuit.save(path / "d.json")
    with pytest.raises(OutputError, match="it is a folder"):
        circuit.save(tmp_path)


def test_a_file_of_version_1_is_still_read():
    """Written on the day the format was made. A later version must go on reading it."""
    text = """{"format": "edgewise-circuit", "version": 1, "graph": {"n_layers": 1, "n_heads": 2,
    "mlps": true, "parallel": false, "split_qkv": true, "split_heads": true, "split_embed": true,
    "switches": true}, "edges": ["tok_embed->a0.h1.q", "a0.h1.q->a0.h1", "a0.h1->logits"]}"""
    graph = Graph.build(1, 2, split_embed=True, switches=True)
    names = ["tok_embed->a0.h1.q", "a0.h1.q->a0.h1", "a0.h1->logits"]
    assert Circuit.from_json(json.loads(text)) == Circuit.of(graph, names)


GOOD = Circuit.full(SMALL).to_json()
BROKEN = {
    "broken JSON": ("{", r"broken JSON: .*line 1 column 2"),
    "deep nesting": ("[" * 100_000, "broken"),
    "a number of 5000 digits": ('{"version": ' + "9" * 5000 + "}", "digits"),
    "a list": ([], "does not say its format"),
    "another kind": (GOOD | {"format": "edgewise-run"}, "its format is 'edgewise-run'"),
    "a future version": (GOOD | {"version": 2}, r"version 2 .* reads up to version 1\. Upgrade"),
    "a version in words": (GOOD | {"version": "one"}, "version is 'one'"),
    "no graph": ({k: v for k, v in GOOD.items() if k != "graph"}, "not a complete .*'graph'"),
    "half a graph": (GOOD | {"graph": {"n_layers": 2}}, "not a complete .*n_heads"),
    "an odd graph": (GOOD | {"graph": {"n_layers": 0, "n_heads": 1}}, "n_layers is 0"),
    "more graph": (GOOD | {"graph": GOOD["graph"] | {"depth": 2}}, "not a complete .*depth"),
    "no edge list": (GOOD | {"edges": None}, "not a complete"),
    "an edge that is not there": (GOOD | {"edges": ["a9.h0->m0"]}, r"'a9\.h0->m0'"),
    "a name that is none": (GOOD | {"edges": ["input->m0", "nonsense"]}, "'nonsense'"),
    "one name for a list": (GOOD | {"edges": "input->m0"}, "edges"),
    "EAP-IG, no cfg": ({"cfg": None, "edges": {}}, "not a complete EAP-IG"),
    "EAP-IG, no heads": ({"cfg": {"n_layers": 2}, "edges": {}}, "EAP-IG.*n_heads"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_a_format_error_that_names_the_file(fault, tmp_path):
    content, message = BROKEN[fault]
    path = tmp_path / "broken.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FormatError, match=message) as caught:
        Circuit.load(path)
    assert str(path) in str(caught.value)


# --- a process of its own: other hash seeds, and no runtime type checks to hide behind


def printed(script: str, hash_seed: str = "random") -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


SCRIPT = """
from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import EdgewiseError
from edgewise.graph import Graph
graph = Graph.build(2, 3, split_embed=True, switches=True)
circuit = Circuit.of(graph, set(graph.edges[::3]))
scores = EdgeScores(graph, graph.exists.float(), "all one", "")
made = [circuit, circuit.pruned(), circuit.complement(), scores.top(9), scores.greedy(9)]
print([circuit.id for circuit in made], [node.name for node in circuit.nodes])
good = circuit.to_json()
def load(**changes):
    Circuit.from_json(good | {"graph": good["graph"] | changes})
cases = {
    "n_layers 2.5 in a file": lambda: load(n_layers=2.5),
    "n_layers '2' in a file": lambda: load(n_layers="2"),
    "mlps 'no' in a file": lambda: load(mlps="no"),
    "2.5 layers": lambda: Graph.build(2.5, 2).n_edges,
    "True layers": lambda: Graph.build(True, 2).n_edges,
    "a word for a flag": lambda: Graph.build(2, 2, mlps="no").n_edges,
    "a mask of floats": lambda: Circuit(graph, graph.exists.float()),
}
for name, case in cases.items():
    try:
        case()
        print(name, "is accepted")
    except EdgewiseError:
        pass
    except Exception as error:
        print(name, "raises", type(error).__name__)
"""


def test_one_result_whatever_the_hash_seed_and_wrong_types_are_refused():
    first, second = printed(SCRIPT, "1"), printed(SCRIPT, "2")
    assert first == second
    assert "7e5c7efa0993" in first  # an id stands in saved records
    assert len(first.splitlines()) == 1, first


@fixed
@given(GRAPHS, SEEDS)
def test_networkx_has_the_nodes_and_edges(graph, seed):
    circuit = drawn(graph, seed)
    result = circuit.to_networkx()
    facts = [(name, d["kind"], d["layer"], d["head"]) for name, d in result.nodes(data=True)]
    assert facts == [(n.name, n.kind, n.layer, n.head) for n in circuit.nodes]
    edges = [(*ends, slot, name) for *ends, slot, name in result.edges(keys=True, data="name")]
    switches = [(node, slot) for node, d in result.nodes(data=True) for slot in d["switches"]]
    ends = {e: (e.sender.name, e.receiver.node.name, e.receiver.slot or "") for e in circuit}
    assert sorted(edges) == sorted((*ends[e], e.name) for e in circuit if not e.is_switch)
    assert sorted(switches) == sorted(ends[e][1:] for e in circuit if e.is_switch)
    assert nx.is_directed_acyclic_graph(result)
    assert Graph(**result.graph["graph"]) == graph
