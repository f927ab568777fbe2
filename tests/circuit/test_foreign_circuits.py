"""Graph files of EAP-IG and MIB: read as what they say, or refused by name; written as they are."""

import json
import math

import pytest
import torch

import edgewise as ew
from edgewise.errors import FormatError, SettingError
from edgewise.graph import Graph
from fuzz import assert_answers
from hf import loaded

SMALL = Graph.build(2, 2)


def names(graph: Graph) -> tuple[list[str], list[str]]:
    """Senders and receivers in EAP-IG's spelling, by loops of their own."""
    heads = range(graph.n_heads)
    rows = ["input"]
    columns = []
    for layer in range(graph.n_layers):
        rows += [*(f"a{layer}.h{head}" for head in heads), f"m{layer}"]
        columns += [f"a{layer}.h{head}<{slot}>" for slot in "qkv" for head in heads]
        columns.append(f"m{layer}")
    return rows, [*columns, "logits"]


def document(graph: Graph = SMALL, kept=(), **changes) -> dict:
    """A JSON graph, as EAP-IG's `to_json` writes it."""
    rows, columns = names(graph)
    edges = {
        f"{rows[row]}->{columns[column]}": (row + column / 100, False)
        for row, column in graph.exists.nonzero().tolist()
    }
    cfg = {"n_layers": graph.n_layers, "n_heads": graph.n_heads}
    return {
        "cfg": {**cfg, "parallel_attn_mlp": graph.parallel, "d_model": 3},
        "nodes": {"logits": {"in_graph": True}},
        "edges": {n: {"score": s, "in_graph": n in kept} for n, (s, _) in edges.items()},
        **changes,
    }


def tensors(graph: Graph = SMALL, **changes) -> dict:
    """A .pt graph, as EAP-IG's `to_pt` writes it, with every edge in it."""
    rows, columns = names(graph)
    return {
        "cfg": document(graph)["cfg"],
        "src_nodes": rows,
        "dst_nodes": columns,
        "edges_scores": torch.arange(len(rows) * len(columns)).view(len(rows), -1) / 8,
        "edges_in_graph": graph.exists.clone(),
        "nodes_in_graph": torch.ones(len(rows), dtype=torch.bool),
        **changes,
    }


@pytest.fixture
def saved(tmp_path):
    def save(content):
        if isinstance(content, dict) and "src_nodes" in content:
            torch.save(content, tmp_path / "graph.pt")
            return tmp_path / "graph.pt"
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "graph.json").write_text(text, encoding="utf-8-sig")
        return tmp_path / "graph.json"

    return save


@pytest.mark.parametrize("graph", [SMALL, Graph.build(2, 2, parallel=True), Graph.build(3, 4)])
def test_the_layout_is_theirs(graph, saved):
    rows, columns = names(graph)
    found = ew.EdgeScores.load(saved(tensors(graph)))
    assert found.graph == graph
    for row, column in graph.exists.nonzero().tolist():
        name = f"{rows[row]}->{columns[column]}"
        assert found.of(name) == (row * len(columns) + column) / 8
    assert ew.Circuit.load(saved(tensors(graph))) == ew.Circuit.full(graph)
    kept = {"input->a0.h1<q>", "a0.h1->a1.h0<v>", "m1->logits"}
    assert ew.Circuit.load(saved(document(graph, kept))) == ew.Circuit.of(graph, kept)
    assert ew.EdgeScores.load(saved(document(graph))).of("m0->a1.h1<v>") == (
        rows.index("m0") + columns.index("a1.h1<v>") / 100
    )


def test_scores_alone_are_no_circuit(saved):
    nothing = torch.zeros(7, 15, dtype=torch.bool)
    for content in (document(), tensors(edges_in_graph=nothing)):
        path = saved(content)
        with pytest.raises(FormatError, match=r"holds scores, and no edge is in its graph.*top\("):
            ew.Circuit.load(path)
        assert ew.EdgeScores.load(path).top(3).n_edges == 3
    blank = tensors(edges_in_graph=nothing, edges_scores=torch.zeros(7, 15))
    assert ew.Circuit.load(saved(blank)).n_edges == 0
    with pytest.raises(FormatError, match="no 'cfg'"):
        ew.EdgeScores.load(ew.Circuit.full(SMALL).save(path.with_name("ours.json")))


def test_masks_of_floats_are_read_and_edges_that_do_not_exist_are_refused(saved):
    scores = torch.randn(7, 15, generator=torch.Generator().manual_seed(0)).bfloat16()
    content = tensors(edges_scores=scores, edges_in_graph=SMALL.exists.float())
    path = saved(content)
    loaded_scores = ew.EdgeScores.load(path).values[SMALL.exists]
    assert loaded_scores.equal(scores.double()[SMALL.exists])
    assert ew.Circuit.load(path) == ew.Circuit.full(SMALL)
    content["edges_in_graph"][6, 0] = 1
    with pytest.raises(FormatError, match=r"m1->a0\.h0\.q is in the graph, an edge that does not"):
        ew.Circuit.load(saved(content))
    rows, nodes = torch.ones(7, 15), torch.ones(7)
    rows[3] = nodes[3] = 0  # a file of nodes: EAP-IG switches on whole rows
    path = saved(tensors(edges_in_graph=rows, nodes_in_graph=nodes, nodes_scores=nodes + 1))
    expected = ew.Circuit.full(SMALL).without(*(e for e in SMALL.edges if "m0->" in e.name))
    assert ew.Circuit.load(path) == expected


def test_scores_of_nodes(saved):
    scores = torch.tensor([torch.nan, 5.0, -2.0, 9.0, 1.0, 0.5, 3.0])
    content = tensors(
        edges_scores=torch.zeros(7, 15),
        edges_in_graph=torch.zeros(7, 15, dtype=torch.bool),
        nodes_scores=scores,
    )
    found = ew.EdgeScores.load(saved(content))
    of_nodes = {node.name: value for node, value in found.of_nodes().items()}
    assert of_nodes == pytest.approx(
        dict(zip(names(SMALL)[0][1:], scores[1:].tolist(), strict=True))
    )
    assert found.top_nodes(2) == ew.Circuit.of_nodes(SMALL, ["m0", "a0.h0"])
    with pytest.raises(FormatError, match="holds scores"):
        ew.Circuit.load(saved(content))
    scores[4] = torch.nan
    with pytest.raises(FormatError, match=r"a1\.h0->\S+ has no finite score"):
        ew.EdgeScores.load(saved(content | {"nodes_scores": scores}))
    listed = {"m0": {"in_graph": True, "score": math.nan}}  # one node score makes the others NaN
    assert ew.EdgeScores.load(saved(document(nodes=listed))).graph == SMALL


def test_neurons_and_nodes_that_are_out_are_not_whole_edges(saved):
    mask = torch.ones(7, 3, dtype=torch.bool)
    content = tensors(neurons_in_graph=mask, neurons_scores=torch.rand(7, 3))
    assert ew.Circuit.load(saved(content)) == ew.Circuit.full(SMALL)
    mask[5, :2] = False
    with pytest.raises(FormatError, match=r"a1\.h1 keeps 1 of its 3 neurons"):
        ew.Circuit.load(saved(content))
    with pytest.raises(FormatError, match="scores are of single neurons"):
        ew.EdgeScores.load(saved(content | {"edges_scores": torch.zeros(7, 15)}))
    nodes = {"a0.h1": {"in_graph": True, "neurons": [True, False, True]}}
    with pytest.raises(FormatError, match=r"a0\.h1 keeps 2 of its 3 neurons"):
        ew.Circuit.load(saved(document(kept={"a0.h1->m0"}, nodes=nodes)))
    out = torch.ones(7, dtype=torch.bool)
    out[2] = False
    with pytest.raises(FormatError, match=r"a0\.h1 is not in the graph, but edges into and out"):
        ew.Circuit.load(saved(tensors(nodes_in_graph=out)))


WRONG = {
    "text for a flag": (
        document(edges={"input->m0": {"score": 1, "in_graph": "false"}}),
        r"edges\[\.\.\.\]\.in_graph: expected 'bool', got 'str'",
    ),
    "no flag": (document(edges={"input->m0": {"score": 1}}), "missing required field 'in_graph'"),
    "a fraction": (document(cfg={"n_layers": 2.9, "n_heads": 2}), "cfg.n_layers: expected 'int'"),
    "many layers": (document(cfg={"n_layers": 10**9, "n_heads": 2}), "too large to be worked on"),
    "a large graph": (document(cfg={"n_layers": 3400, "n_heads": 1}), "at most 16,000,000"),
    "more layers": (document(cfg={"n_layers": 10**30, "n_heads": 2}), "31 digits, is too large"),
    "a node of another": (document(nodes={"m7": {"in_graph": True}}), "'m7' is no node"),
    "few neurons": (document(nodes={"m1": {"neurons": [True]}}), r"shape \(1,\), not \(3,\)"),
    "twice": ('{"cfg": {}, "cfg": {"n_layers": 2}, "edges": {}}', "'cfg' is there twice"),
    "an unscored edge": (
        document(edges={"input->m0": {"score": math.nan, "in_graph": True}}),
        "input->m0 has no finite score",
    ),
    "other senders": (tensors(src_nodes=names(Graph.build(2, 3))[0]), r"src_nodes\[3\] is 'a0.h2'"),
    "a mask of halves": (tensors(edges_in_graph=torch.full((7, 15), 0.5)), "other values than"),
    "no mask": (tensors() | {"edges_in_graph": None}, "edges_in_graph"),
    "sparse": (tensors(edges_scores=torch.ones(7, 15).to_sparse()), "no dense tensor"),
    "giant": (tensors(edges_scores=torch.ones(1).expand(10**6, 10**6)), "has shape"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(fault, saved):
    content, message = WRONG[fault]
    path = saved(content)

    def load():
        return ew.Circuit.load(path), ew.EdgeScores.load(path)

    with pytest.raises(FormatError, match=message) as caught:
        load()
    assert "graph." in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nothing_in_a_torch_file_is_executed(tmp_path):
    class Writes:
        def __reduce__(self):
            return (open, (str(tmp_path / "done"), "w"))

    torch.save(tensors(cfg=Writes()), tmp_path / "graph.pt")
    with pytest.raises(FormatError, match="not an EAP-IG graph file"):
        ew.Circuit.load(tmp_path / "graph.pt")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("ending", ["json", "pt"])
def test_both_formats_are_written_as_eap_ig_reads_them(ending, tmp_path):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(7, 15, generator=generator).where(SMALL.exists, 0.0)
    scores = ew.EdgeScores(SMALL, values, "eap", "")
    circuit = scores.top(20).pruned()
    path = circuit.save_for_eap_ig(tmp_path / f"g.{ending}", d_model=3, scores=scores)
    assert ew.Circuit.load(path) == circuit
    assert ew.EdgeScores.load(path).values.equal(values.double())
    alone = scores.save_for_eap_ig(tmp_path / f"s.{ending}", d_model=3)
    assert ew.EdgeScores.load(alone).top(20) == scores.top(20)
    binary = circuit.save_for_eap_ig(tmp_path / f"b.{ending}", d_model=3)
    assert ew.EdgeScores.load(binary).above(1) == circuit
    rows, columns = names(SMALL)
    if ending == "pt":
        found = torch.load(path, weights_only=True)
        assert (found["src_nodes"], found["dst_nodes"]) == (rows, columns)
        assert found["edges_in_graph"].equal(circuit.keep)
        assert found["edges_scores"].dtype == torch.float32
        there = {n for n, kept in zip(rows, found["nodes_in_graph"].tolist(), strict=True) if kept}
    else:
        found = json.loads(path.read_text())
        assert len(found["edges"]) == 46
        assert found["edges"]["m0->a1.h1<v>"]["score"] == values[3, 12].item()
        there = {name for name, node in found["nodes"].items() if node["in_graph"]} - {"logits"}
        assert set(found["nodes"]) == {*rows, "logits"}
    assert there == {node.name for node in circuit.nodes} - {"logits"}
    assert found["cfg"] == {
        "n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 3
    }  # fmt: skip


def test_grouped_heads_are_written_apart(tmp_path):
    grouped = Graph.build(2, 4, kv_heads=2)
    circuit = ew.Circuit.of(grouped, ["input->a0.kv1.k", "a0.h3->a1.h0.q", "a1.h0->logits"])
    found = ew.Circuit.load(circuit.save_for_eap_ig(tmp_path / "g.pt", d_model=8))
    assert [edge.name for edge in found.edges] == [
        "input->a0.h2.k", "input->a0.h3.k", "a0.h3->a1.h0.q", "a1.h0->logits"
    ]  # fmt: skip
    scores = ew.EdgeScores(grouped, grouped.exists.double(), "eap", "")
    with pytest.raises(SettingError, match="ungroup_heads=True"):
        scores.save_for_eap_ig(tmp_path / "s.pt", d_model=8)


def test_a_circuit_fits_a_model_whose_heads_share_a_norm(saved):
    _, model = loaded("gemma2")
    config = model.config
    graph = Graph.build(config.n_layers, config.n_heads)
    path = saved(document(graph, {"input->m0", "m0->logits"}))
    pairs = ew.PromptPairs.from_tokens([[1, 2, 3]], [[1, 2, 4]])
    problem = ew.Problem(model, pairs, "kl")
    with pytest.raises(SettingError, match=r"heads share a norm.*circuit\.for_model\(model\)"):
        ew.run_circuit(problem, ew.Circuit.load(path))
    circuit = ew.Circuit.load(path).for_model(model)
    assert circuit.keep.equal(ew.Circuit.load(path).keep)
    assert ew.run_circuit(problem, circuit).isfinite().all()


@pytest.mark.parametrize("grain", ["split_qkv", "split_embed", "mlps", "switches", "spans"])
def test_other_graphs_are_not_written(grain, tmp_path):
    values = {"split_embed": True, "switches": True, "spans": ["S", "rest"]}
    circuit = ew.Circuit.full(Graph.build(2, 2, **{grain: values.get(grain, False)}))
    with pytest.raises(SettingError, match="EAP-IG's graphs have split q/k/v"):
        circuit.save_for_eap_ig(tmp_path / "g.json", d_model=8)
    with pytest.raises(SettingError, match="to be neither"):
        ew.Circuit.full(SMALL).save_for_eap_ig(tmp_path / "g.txt", d_model=8)


def valid(tmp_path) -> dict[str, bytes]:
    torch.save(tensors(nodes_scores=torch.rand(7)), tmp_path / "valid.pt")
    kept = {"input->m0", "m0->logits"}
    nodes = {"m0": {"in_graph": True, "neurons": [True] * 3, "neurons_scores": [1.0, 2.0, 3.0]}}
    return {
        "graph.json": json.dumps(document(kept=kept, nodes=nodes)).encode(),
        "graph.pt": (tmp_path / "valid.pt").read_bytes(),
        "ours.json": json.dumps(ew.Circuit.of(SMALL, kept).to_json()).encode(),
    }


def read(path):
    if path.name != "ours.json":
        ew.EdgeScores.load(path).top(1)
    repr(ew.Circuit.load(path).pruned())


@pytest.mark.parametrize(("n", "seed"), [(200, 0), pytest.param(2000, 1, marks=pytest.mark.slow)])
def test_mutated_graphs_and_circuits_are_answered(n, seed, tmp_path):
    assert_answers(read, valid(tmp_path), tmp_path, n=n, seed=seed)
