"""Comparing circuits: overlap against slow obvious versions, judgements, groups, granularities."""

import json
import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.circuit import coarsened, common_graph
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import jaccard, spearman
from edgewise.tasks import published_circuit, published_groups
from models import random_circuit, random_model, random_pairs

GRAPH = ew.Graph.build(2, 3, switches=True)
THREE = {name: random_circuit(GRAPH, seed, 0.3) for seed, name in enumerate(("a", "b", "c"))}


@pytest.fixture(scope="module")
def problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff")


@pytest.fixture(scope="module")
def runs(problem):
    each = {kind: problem.with_(ablation=kind) for kind in ("corrupted", "zero", "mean")}
    return ew.discover_each(each, "eap", edges=8)


# --- overlap


def slow_jaccard(first, second):
    """One name at a time, without sets."""
    both = [x for x in first if x in second]
    either = [*first, *(x for x in second if x not in first)]
    return len(both) / len(either)


def test_jaccard_of_edges_and_nodes_is_the_slow_obvious_one():
    found = ew.compare(THREE)
    for first, second in combinations(THREE, 2):
        a, b = THREE[first], THREE[second]
        pair = found.pair(second, first)
        names = [e.name for e in a.edges], [e.name for e in b.edges]
        nodes = [n.name for n in a.nodes], [n.name for n in b.nodes]
        assert pair.edge_jaccard == pytest.approx(slow_jaccard(*names))
        assert pair.node_jaccard == pytest.approx(slow_jaccard(*nodes))
        assert pair.shared_edges == len([x for x in names[0] if x in names[1]])
        assert pair.shared_nodes == len([x for x in nodes[0] if x in nodes[1]])


def test_jaccard_of_two_empty_sets_is_of_equal_ones():
    assert jaccard(set(), set()) == 1
    empty = ew.Circuit.empty(GRAPH)
    (pair,) = ew.compare([empty, empty]).pairs
    assert (pair.edge_jaccard, pair.node_jaccard) == (1, 1)
    (pair,) = ew.compare([empty, THREE["a"]]).pairs
    assert (pair.edge_jaccard, pair.node_jaccard) == (0, 0)


def test_what_all_have_and_what_one_has():
    found = ew.compare(THREE)
    edges = {name: {e.name for e in circuit.edges} for name, circuit in THREE.items()}
    nodes = {name: {n.name for n in circuit.nodes} for name, circuit in THREE.items()}
    assert {e.name for e in found.shared.edges} == edges["a"] & edges["b"] & edges["c"]
    assert {n.name for n in found.shared_nodes} == nodes["a"] & nodes["b"] & nodes["c"]
    assert {e.name for e in found.union.edges} == edges["a"] | edges["b"] | edges["c"]
    assert {e.name for e in found.only("b").edges} == edges["b"] - edges["a"] - edges["c"]
    assert {n.name for n in found.only_nodes("b")} == nodes["b"] - nodes["a"] - nodes["c"]
    presence = found.presence()
    assert {e.name: set(names) for e, names in presence} == {
        edge: {name for name in edges if edge in edges[name]}
        for edge in set().union(*edges.values())
    }
    counts = [len(names) for _, names in presence]
    assert counts == sorted(counts, reverse=True)
    order = {edge: i for i, edge in enumerate(GRAPH.edges)}
    alone = [order[edge] for edge, names in presence if len(names) == 1]
    assert alone == sorted(alone), "ties in canonical order"


# --- order of scores


def slow_spearman(first, second):
    """The definition: each rank counted by hand, then Pearson's correlation of the ranks."""

    def ranks(values):
        return [
            1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values
        ]

    a, b = ranks(first), ranks(second)
    mean = (len(a) + 1) / 2
    top = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    bottom = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return top / bottom if bottom else None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=20))
def test_rank_correlation_is_the_definition(rows):
    first, second = ([float(x) for x in column] for column in zip(*rows, strict=True))
    found = spearman(torch.tensor(first), torch.tensor(second))
    assert found == (
        None if (slow := slow_spearman(first, second)) is None else pytest.approx(slow)
    )


def test_rank_correlation_of_runs_is_over_all_edges(runs, problem):
    found = ew.compare(runs)
    for first, second in combinations(runs, 2):
        values = [[runs[n].scores.of(e) for e in problem.graph.edges] for n in (first, second)]
        pair = found.pair(first, second)
        assert pair.rank_correlation == pytest.approx(slow_spearman(*values))
    circuit = ew.compare([runs["zero"], runs["zero"].circuit], names=["run", "circuit"])
    assert circuit.pairs[0].rank_correlation is None


# --- judgements


def test_each_circuit_on_its_own_problem_and_on_the_others(runs, problem):
    each = {kind: problem.with_(ablation=kind) for kind in runs}
    found = ew.compare(runs, problems=each, cross=True)
    assert len(found.effects) == 9
    for effect in found.effects:
        (owner,) = effect.owners
        faith = ew.faithfulness(each[owner], runs[effect.circuit].circuit)
        assert effect.value == pytest.approx(faith.circuit)
        assert effect.normalized == pytest.approx(faith.normalized)
        assert (effect.full, effect.empty) == pytest.approx((faith.full, faith.empty))
        assert effect.prompts == "discovery"
    own = ew.compare(runs, problems=[each[kind] for kind in runs])
    assert [j.circuit for j in own.effects] == list(runs)
    for name in runs:
        assert own.own(name) == found.own(name)


def test_a_problem_that_several_share_is_evaluated_once(runs, problem):
    again = problem.with_(batch_size=2)
    found = ew.compare(
        runs, problems={"corrupted": problem, "zero": again, "mean": None}, cross=True
    )
    assert {j.owners for j in found.effects} == {("corrupted", "zero")}
    assert [j.circuit for j in found.effects] == list(runs)
    assert found.own("zero").problem == "corrupted = zero"
    assert found.own("mean") is None
    assert {j.owners for j in ew.compare(runs, problems=problem).effects} == {tuple(runs)}


def test_prompts_are_said_to_be_seen_or_not(runs, problem):
    other = problem.with_(pairs=random_pairs(problem.model, seed=5))
    assert {j.prompts for j in ew.compare(runs, problems=problem).effects} == {"discovery"}
    assert {j.prompts for j in ew.compare(runs, problems=other).effects} == {"held-out"}
    circuits = [run.circuit for run in runs.values()]
    assert {j.prompts for j in ew.compare(circuits, problems=other).effects} == {"given"}


def test_without_problems_runs_say_what_they_measured(runs):
    found = ew.compare(runs)
    for name, run in runs.items():
        faith = run.measurements["faithfulness"]
        assert found.own(name).value == faith["circuit"]
        assert found.own(name).prompts == "discovery"
    assert ew.compare(THREE).effects == ()


def test_a_circuit_without_edges_and_a_problem_without_an_effect_are_pointed_out(runs):
    first, second = list(runs.values())[:2]
    faith = first.measurements["faithfulness"]
    weak = {**faith, "empty": faith["full"] + 1e-3 * (faith["empty"] - faith["full"])}
    fading = first.with_(measurements={"faithfulness": weak})
    notes = ew.compare({"strong": first, "fading": fading}).notes
    assert len(notes) == 1
    assert "On the problem of fading removing every edge changes logit-diff by" in notes[0]
    assert "hardly an effect to keep" in notes[0]
    nothing = ew.Circuit.empty(first.circuit.graph)
    notes = ew.compare({"one": second.circuit, "none": nothing, "nil": nothing}).notes
    assert notes == ("none and nil kept no edge, so nothing is shared by all.",)


def test_arguments_are_as_they_were(runs, problem):
    before = {name: run.circuit.id for name, run in runs.items()}
    passes = problem.passes()
    ew.compare(runs, problems=problem, cross=True)
    assert {name: run.circuit.id for name, run in runs.items()} == before
    assert problem.passes() == passes


# --- groups


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


# --- granularity


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
    full = ew.Circuit.full(fine)
    assert coarsened(full, graph) == ew.Circuit.full(graph)


def test_circuits_of_different_granularity_are_compared_on_what_both_tell_apart():
    joined = random_circuit(ew.Graph.build(2, 3, split_qkv=False), 4, 0.3)
    found = ew.compare({"split": THREE["a"], "joined": joined})
    assert found.graph == joined.graph
    assert found.circuits["split"] == THREE["a"], "as it was found"
    assert found.compared["joined"] == joined
    assert "joined q/k/v" in found.notes[0]
    assert found.to_json()["circuits"][0]["n_edges"] == THREE["a"].n_edges


def test_models_of_different_shape_are_refused():
    other = ew.Circuit.full(ew.Graph.build(3, 3))
    with pytest.raises(SettingError, match=r"one shape only.*\n.*2 layers of 3.*\n.*3 layers of 3"):
        ew.compare([THREE["a"], other])


# --- names, files, refusals


def test_names(runs):
    every = list(runs.values())
    assert ew.compare(every).names[1].endswith("eap 2")
    assert ew.compare(list(THREE.values())).names == ("circuit 1", "circuit 2", "circuit 3")
    assert ew.compare(every, names="xyz").names == ("x", "y", "z")


def test_thresholds_of_different_metrics_have_a_note(problem):
    each = {name: problem.with_(metric=name) for name in ("kl", "logit-diff")}
    runs = ew.discover_each(each, "acdc", threshold=0.5)
    assert "in the unit of their metric (kl, logit-diff)" in ew.compare(runs).notes[0]
    assert "in the unit" not in " ".join(ew.compare([runs["kl"], runs["kl"]]).notes)


def test_json(runs, problem):
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
    assert repr(found).startswith("Comparison(3 circuits, ")


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ([], {}, "at least two circuits, found 0"),
        ([THREE["a"]], {}, "at least two circuits, found 1"),
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


def test_things_of_another_kind(unchecked):
    task = ew.load_task("or-gate")
    circuit = task.published
    with pytest.raises(SettingError, match="circuit 2 is a Task; pass a Circuit, or a Run"):
        ew.compare([circuit, task])
    with pytest.raises(SettingError, match=r"of circuit 1 is a Task, not a Problem. Pass task.te"):
        ew.compare([circuit, circuit], problems=[task, task])


def test_a_name_that_is_not_there():
    found = ew.compare(THREE)
    for ask in (found.only, found.own, found.only_nodes, lambda n: found.pair("a", n)):
        with pytest.raises(UnknownName, match="no circuit of this comparison named 'd'"):
            ask("d")
    with pytest.raises(UnknownName, match="no other circuit named 'a'"):
        found.pair("a", "a")
