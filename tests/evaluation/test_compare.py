"""Comparing circuits: overlap against slow obvious versions, effects, groups, granularities."""

import json
from itertools import combinations

import pytest
import torch
from scipy.stats import spearmanr

import edgewise as ew
from edgewise.circuit import coarsened, common_graph
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import spearman
from edgewise.tasks import published_circuit, published_groups
from models import random_circuit, random_model, random_pairs

GRAPH = ew.Graph.build(2, 3, switches=True)
THREE = {name: random_circuit(GRAPH, seed, 0.3) for seed, name in enumerate(("a", "b", "c"))}


@pytest.fixture(scope="module")
def problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff")


@pytest.fixture(scope="module")
def own_problems(problem):
    return {kind: problem.with_(ablation=kind) for kind in ("corrupted", "zero", "mean")}


@pytest.fixture(scope="module")
def runs(own_problems):
    return ew.discover_each(own_problems, "eap", edges=8)


# --- overlap


def test_what_all_have_what_one_has_and_how_alike_two_are():
    found = ew.compare(THREE)
    edges = {name: {e.name for e in circuit.edges} for name, circuit in THREE.items()}
    nodes = {name: {n.name for n in circuit.nodes} for name, circuit in THREE.items()}
    for first, second in combinations(THREE, 2):
        pair = found.pair(second, first)
        both, either = edges[first] & edges[second], edges[first] | edges[second]
        assert (pair.shared_edges, pair.edge_jaccard) == (len(both), len(both) / len(either))
        both, either = nodes[first] & nodes[second], nodes[first] | nodes[second]
        assert (pair.shared_nodes, pair.node_jaccard) == (len(both), len(both) / len(either))
    (of_a, of_b, of_c), (in_a, in_b, in_c) = edges.values(), nodes.values()
    assert {e.name for e in found.shared.edges} == of_a & of_b & of_c
    assert {e.name for e in found.union.edges} == of_a | of_b | of_c
    assert {e.name for e in found.only("b").edges} == of_b - of_a - of_c
    assert {n.name for n in found.shared_nodes} == in_a & in_b & in_c
    assert {n.name for n in found.only_nodes("b")} == in_b - in_a - in_c
    assert {e.name: set(names) for e, names in found.presence()} == {
        edge: {name for name in edges if edge in edges[name]} for edge in of_a | of_b | of_c
    }
    place = {edge: i for i, edge in enumerate(GRAPH.edges)}
    order = [(-len(names), place[edge]) for edge, names in found.presence()]
    assert order == sorted(order), "most first, ties in canonical order"


def test_two_empty_circuits_are_equal():
    empty = ew.Circuit.empty(GRAPH)
    for circuit, index in ((empty, 1), (THREE["a"], 0)):
        (pair,) = ew.compare([empty, circuit]).pairs
        assert (pair.edge_jaccard, pair.node_jaccard) == (index, index)


# --- what runs bring


def test_runs_bring_their_scores_and_what_they_measured(runs, problem):
    found = ew.compare(runs)
    for first, second in combinations(runs, 2):
        values = [[runs[n].scores.of(e) for e in problem.graph.edges] for n in (first, second)]
        expected = pytest.approx(spearmanr(*values).statistic)
        assert found.pair(first, second).rank_correlation == expected
    for name, run in runs.items():
        assert found.own(name).value == run.measurements["faithfulness"]["circuit"]
        assert found.own(name).prompts == "discovery"
    circuit = ew.compare([runs["zero"], runs["zero"].circuit], names=["run", "circuit"])
    assert circuit.pairs[0].rank_correlation is None
    assert ew.compare(THREE).effects == ()
    assert spearman(torch.zeros(3), torch.arange(3.0)) is None, "equal values have no order"


# --- each on each problem


def test_each_circuit_on_its_own_problem_and_on_the_others(runs, own_problems):
    found = ew.compare(runs, problems=own_problems, cross=True)
    assert len(found.effects) == 9
    for effect in found.effects:
        (owner,) = effect.owners
        faith = ew.faithfulness(own_problems[owner], runs[effect.circuit].circuit)
        assert effect.value == pytest.approx(faith.circuit)
        assert effect.normalized == pytest.approx(faith.normalized)
        assert (effect.full, effect.empty) == pytest.approx((faith.full, faith.empty))
        assert effect.prompts == "discovery"
    own = ew.compare(runs, problems=list(own_problems.values()))
    assert [effect.circuit for effect in own.effects] == list(runs)
    assert all(own.own(name) == found.own(name) for name in runs)
    assert "Effect that each circuit keeps" in " ".join(table.title for table in found.tables())


def test_a_problem_that_several_share_is_evaluated_once(runs, problem):
    again = problem.with_(batch_size=2)
    shared = {"corrupted": problem, "zero": again, "mean": None}
    found = ew.compare(runs, problems=shared, cross=True)
    assert {effect.owners for effect in found.effects} == {("corrupted", "zero")}
    assert [effect.circuit for effect in found.effects] == list(runs)
    assert found.own("zero").problem == "corrupted = zero"
    assert found.own("mean") is None
    passes = problem.passes()
    for one in (problem, problem.with_(pairs=random_pairs(problem.model, seed=5))):
        seen = "discovery" if one is problem else "held-out"
        effects = ew.compare(runs, problems=one).effects
        assert {(effect.owners, effect.prompts) for effect in effects} == {(tuple(runs), seen)}
        circuits = ew.compare([run.circuit for run in runs.values()], problems=one).effects
        assert {effect.prompts for effect in circuits} == {"given"}
    assert problem.passes() == passes, "arguments are as they were"


def test_what_is_hardly_a_result_is_pointed_out(runs, problem):
    first, second = list(runs.values())[:2]
    faith = first.measurements["faithfulness"]
    weak = {**faith, "empty": faith["full"] + 1e-3 * (faith["empty"] - faith["full"])}
    fading = first.with_(measurements={"faithfulness": weak})
    (note,) = ew.compare({"strong": first, "fading": fading}).notes
    assert "On the problem of fading removing every edge changes logit-diff by" in note
    nothing = ew.Circuit.empty(first.circuit.graph)
    (note,) = ew.compare({"one": second.circuit, "none": nothing, "nil": nothing}).notes
    assert note == "none and nil kept no edge, so nothing is shared by all."
    by_metric = {name: problem.with_(metric=name) for name in ("kl", "logit-diff")}
    found = ew.discover_each(by_metric, "acdc", threshold=0.5)
    assert "unit of their metric (kl, logit-diff)" in ew.compare(found).notes[0]
    assert "in the unit" not in " ".join(ew.compare([found["kl"], found["kl"]]).notes)


# --- groups and granularity


def test_groups_of_a_published_circuit():
    ioi, groups = published_circuit("ioi"), published_groups("ioi")
    movers = set(groups["name mover"])
    less = ioi.without(*(e for e in ioi.edges if {e.sender.name, e.receiver.node.name} & movers))
    found = ew.compare({"published": ioi, "without movers": less}, groups=groups)
    assert [group.name for group in found.groups] == list(groups)
    for group in found.groups:
        assert group.present["published"] == group.nodes
        removed = group.name == "name mover"
        assert group.present["without movers"] == (() if removed else group.nodes)
    with pytest.raises(UnknownName, match=r"no node \(of group 'name mover'\) named 'a9.h9'"):
        ew.compare(THREE, groups=groups)


@pytest.mark.parametrize(
    "coarse",
    [
        {"split_qkv": False, "switches": True},
        {"split_heads": False},
        {"split_heads": False, "split_qkv": False, "switches": True},
        {"switches": False},
        {},
    ],
)
def test_a_coarse_edge_is_kept_if_any_inside_it_is(coarse):
    fine = ew.Graph.build(2, 3, switches=True, split_embed=True)
    graph = common_graph([fine, ew.Graph.build(2, 3, **coarse)])
    circuit = random_circuit(fine, 1, 0.15)
    expected = set()
    for edge in circuit.edges:
        if edge.is_switch and not graph.switches:
            continue
        name = edge.name.replace("tok_embed", "input").replace("pos_embed", "input")
        for head in range(3) if not graph.split_heads else ():
            name = name.replace(f".h{head}", "")
        for slot in "qkv" if not graph.split_qkv else ():
            name = name.replace(f".{slot}", "")
        expected.add(name)
    assert {e.name for e in coarsened(circuit, graph).edges} == expected
    assert coarsened(ew.Circuit.full(fine), graph) == ew.Circuit.full(graph)


def test_circuits_of_different_granularity_are_compared_on_what_both_tell_apart():
    joined = random_circuit(ew.Graph.build(2, 3, split_qkv=False), 4, 0.3)
    found = ew.compare({"split": THREE["a"], "joined": joined})
    assert found.graph == joined.graph
    assert found.circuits["split"] == THREE["a"], "as it was found"
    assert found.compared["joined"] == joined
    assert "joined q/k/v" in found.notes[0]
    assert found.to_json()["circuits"][0]["n_edges"] == THREE["a"].n_edges


# --- names, files, refusals


def test_names_and_json(runs, problem):
    every = list(runs.values())
    assert ew.compare(every).names[1].endswith("eap 2")
    assert ew.compare(list(THREE.values())).names == ("circuit 1", "circuit 2", "circuit 3")
    assert ew.compare(every, names="xyz").names == ("x", "y", "z")
    found = ew.compare(runs, problems=problem)
    assert [table.title for table in found.tables()][:2] == ["Circuits", "Jaccard of edges"]
    assert found.sentences()[0].startswith("Together the 3 circuits have ")
    document = json.loads(json.dumps(found.to_json()))
    assert (document["format"], document["version"]) == ("edgewise-comparison", 2)
    assert [c["name"] for c in document["circuits"]] == list(runs)
    assert document["shared_edges"] == [e.name for e in found.shared.edges]
    assert document["edges"] == {e.name: list(names) for e, names in found.presence()}
    assert document["pairs"][0]["edge_jaccard"] == found.pairs[0].edge_jaccard
    assert document["faithfulness"][2]["circuit"] == "mean"


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ([], {}, "at least two circuits, found 0"),
        ([THREE["a"]], {}, "at least two circuits, found 1"),
        ([THREE["a"], ew.Circuit.full(ew.Graph.build(3, 3))], {}, "one shape only"),
        (THREE, {"names": ["x"]}, "have names already"),
        ([THREE["a"], THREE["b"]], {"names": ["x"]}, "1 names for 2 circuits"),
        ([THREE["a"], THREE["b"]], {"names": ["x", "x"]}, "two circuits have the name 'x'"),
        (THREE, {"cross": True}, "pass problems="),
        (THREE, {"problems": [None]}, "1 problems for 3 circuits"),
        (THREE, {"problems": {"d": None}}, "no circuit named 'd'"),
    ],
)
def test_refusals(arguments, keywords, message):
    with pytest.raises((SettingError, UnknownName), match=message):
        ew.compare(arguments, **keywords)


def test_things_and_names_of_another_kind(unchecked):
    task, found = ew.load_task("or-gate"), ew.compare(THREE)
    circuit = task.published
    for call, words in (
        (lambda: ew.compare([circuit, task]), "circuit 2 is a Task; pass a Circuit, or a Run"),
        (lambda: ew.compare([circuit] * 2, problems=[task] * 2), "not a Task. Pass task.problem"),
        (lambda: found.only("d"), "no circuit of this comparison named 'd'"),
        (lambda: found.own("d"), "no circuit of this comparison named 'd'"),
        (lambda: found.pair("a", "d"), "no circuit of this comparison named 'd'"),
        (lambda: found.pair("a", "a"), "no other circuit named 'a'"),
    ):
        with pytest.raises((SettingError, UnknownName), match=words):
            call()
