"""Faithfulness and its ends, curves, completeness, the verdict; and a trained model as target."""

import json
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.circuit import Circuit
from edgewise.errors import MetricError, ProblemError, SettingError, UnknownName
from edgewise.evaluation import MIB_SHARES, completeness, curve, knocked_out
from edgewise.evaluation.curves import area
from edgewise.evaluation.faithfulness import Spread
from edgewise.model import reset_network
from edgewise.tables import Result
from models import SHAPES, random_circuit, random_model

# --- faithfulness


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.integers(-100, 100).map(float), min_size=1, max_size=9), st.booleans())
def test_a_spread_is_what_statistics_says(values, higher_is_better):
    spread = Spread.of(torch.tensor(values), higher_is_better=higher_is_better)
    assert spread.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    assert spread.std == pytest.approx(std, abs=1e-9)
    assert spread.median == pytest.approx(statistics.median(values))
    assert (spread.minimum, spread.maximum) == (min(values), max(values))
    assert values[spread.worst] == (min(values) if higher_is_better else max(values))


def test_one_head_of_the_or_gate_is_enough():
    """It computes 1 - ReLU(1 - (h0 + h1))."""
    pairs = ew.PromptPairs.from_tokens([[0]], answers=[0])
    problem = ew.Problem(ew.load_model("or-gate"), pairs, "l2", "zero")
    one = Circuit.of(problem.graph, ["input->a0.h0.v", "a0.h0->m0", "m0->logits"])
    for circuit, value, share in (
        (Circuit.full(problem.graph), 0.0, 1.0),
        (Circuit.empty(problem.graph), 1.0, 0.0),
        (one, 0.0, 1.0),
    ):
        faith = ew.faithfulness(problem, circuit)
        assert (faith.circuit, faith.full, faith.empty) == (value, 0.0, 1.0)
        assert (faith.normalized, faith.loss) == (share, value)
        assert (faith.n_edges, faith.n_edges_total) == (circuit.n_edges, 13)
    accurate = ew.faithfulness(problem.with_(metric="accuracy"), one)
    assert (accurate.circuit, accurate.loss) == (1.0, -1.0)


def test_where_full_and_empty_agree_there_is_no_scale(small_problem):
    problem = small_problem().with_(metric=lambda logits, rows: 0 * logits[:, 0] + 2.0)
    circuit = random_circuit(problem.graph, 0)
    found = ew.evaluate(problem, circuit, random=2, knock_outs=1, minimal=False)
    assert (found.faithfulness.normalized, found.faithfulness.circuit) == (None, 2.0)
    assert all("%" not in sentence for sentence in found.sentences())


# --- curves, CPR and CMD


def test_a_curve_is_made_of_the_scores_best_edges(small_problem, random_scores):
    problem = small_problem(1)
    scores = random_scores(problem.graph, 1)
    found = curve(problem, scores, prune=False)
    sizes = [int(k * problem.graph.n_edges) for k in MIB_SHARES]
    assert [point.n_edges for point in found.points] == sizes
    for point, n in zip(found.points, sizes, strict=True):
        assert point.value == pytest.approx(problem.value(scores.top(n, absolute=True)), abs=1e-12)
        assert point.loss == -point.value  # a logit difference: higher is better
    f = [point.normalized for point in found.points]
    assert found.cpr == pytest.approx(area(MIB_SHARES, f))
    assert found.cmd == pytest.approx(area(MIB_SHARES, [abs(1 - x) for x in f]))
    assert f[-1] == 1.0
    pruned = curve(problem, scores)  # with corrupted prompts that changes sizes only
    assert [p.normalized for p in pruned.points] == pytest.approx(f)
    greedy = curve(problem, scores, sizes=[7], select="greedy", by="signed", prune=False)
    assert greedy.points[0].value == pytest.approx(problem.value(scores.greedy(7)), abs=1e-12)
    assert (greedy.cpr, greedy.n_prompts) == (None, 3)


def test_a_curve_of_runs_is_the_papers_pareto_plot(small_problem):
    problem = small_problem(2, "kl")
    runs = [ew.acdc(problem, threshold=t) for t in (1.0, 0.1, 0.01)]
    found = curve(problem, runs)
    assert [p.n_edges for p in found.points] == sorted(run.circuit.n_edges for run in runs)
    assert (found.source, found.selection) == ("acdc", "as found")
    assert ew.Curve.from_json(json.loads(json.dumps(found.to_json()))) == found
    largest = runs[-1].circuit
    worse = largest.without(largest.edges[0])
    circuits = [*(run.circuit for run in runs), worse, Circuit.full(problem.graph)]
    front = curve(problem, circuits).pareto
    for point in front:
        no_larger = [c for c in circuits if c.n_edges <= point.n_edges]
        assert point.loss == min(problem.loss(c) for c in no_larger)
    assert front[-1].loss == min(problem.loss(c) for c in circuits)


# --- completeness


def test_the_complement(small_problem):
    problem = small_problem(1)
    full, circuit = Circuit.full(problem.graph), random_circuit(problem.graph, 1)
    for kept, share in ((full, 0.0), (full - full, 1.0)):
        rest = completeness(problem, kept, random=0).complement
        assert rest.normalized == pytest.approx(share)
    found = completeness(problem, circuit, random=0)
    assert found.complement.circuit == pytest.approx(problem.value(circuit.complement()))
    assert (found.knock_outs, found.worst) == ((), None)


@pytest.mark.parametrize("seed", range(2))
def test_knock_outs_by_hand(small_problem, seed):
    problem = small_problem(seed)
    full, circuit = Circuit.full(problem.graph), random_circuit(problem.graph, seed, share=0.4)
    groups = {"late": ["a1.h0", "m1"]}
    found = completeness(problem, circuit, random=3, greedy=2, groups=groups, seed=seed)
    assert [k.how for k in found.knock_outs] == ["random"] * 3 + ["group"] + ["greedy"] * 2
    nodes = {node.name for node in circuit.nodes}
    for knock_out in found.knock_outs:
        assert set(knock_out.nodes) <= nodes
        without = [
            problem.value(c.without(*[e for e in c.edges if e.sender.name in knock_out.nodes]))
            for c in (circuit, full)
        ]
        assert [knock_out.circuit, knock_out.model] == pytest.approx(without, abs=1e-10)
        assert knock_out.incompleteness == pytest.approx(abs(without[0] - without[1]), abs=1e-10)
    assert found.worst.incompleteness == max(k.incompleteness for k in found.knock_outs)
    first, second = found.knock_outs[-2:]
    assert set(first.nodes) < set(second.nodes)
    best = max(
        abs(problem.value(knocked_out(circuit, [n])) - problem.value(knocked_out(full, [n])))
        for n in nodes - {"input", "logits"}
    )
    assert first.incompleteness == pytest.approx(best, abs=1e-10)
    again = completeness(problem, circuit, random=3, seed=seed)
    assert [k.nodes for k in again.knock_outs] == [k.nodes for k in found.knock_outs[:3]]


def test_sets_of_nodes_are_different_and_not_empty(small_problem):
    problem = small_problem()
    circuit = Circuit.of(problem.graph, ["input->m0", "m0->a1.h0.v", "a1.h0->logits"])
    found = completeness(problem, circuit, random=10).knock_outs
    assert sorted(k.nodes for k in found) == [("a1.h0",), ("m0",), ("m0", "a1.h0")]
    assert completeness(problem, Circuit.of(problem.graph, ["input->logits"])).knock_outs == ()


# --- the verdict


def test_one_call_evaluates_a_circuit():
    task = ew.load_task("tracr-reverse")
    found = ew.evaluate(task.test, task.published, split="discovery", random=4, knock_outs=2)
    first, second, *_, last = found.sentences()
    assert "(15 of 106 edges) keeps 100 % of the effect on the prompts it" in first
    assert "(4 drawn, seed 0; p " in second
    assert last == "Removed one at a time, 15 of its 15 edges are needed."
    assert [band.kind for band in found.random] == ["uniform", "connected"]
    document = json.loads(json.dumps(found.to_json()))
    again = ew.Evaluation.from_json(document)
    assert again.to_json() == document
    assert again.tables() == found.tables()
    assert isinstance(found, Result)


def test_the_ends_of_the_scale_and_parts_left_out(small_problem):
    problem = small_problem(1)
    full = ew.evaluate(problem, Circuit.full(problem.graph), random=2, knock_outs=1)
    assert full.random[0].normalized.tolist() == pytest.approx([1.0, 1.0])
    assert "2 of them do as well" in " ".join(full.sentences())
    run = ew.acdc(problem, threshold=0.05)
    found = ew.evaluate(problem, run, random=0, knock_outs=0, minimal=False)
    assert (found.circuit_id, found.random, found.minimality) == (run.circuit.id, (), None)
    assert found.completeness.knock_outs == ()
    assert "share of the effect says little" in found.sentences()[1]
    assert len(found.sentences()) == 3


def test_refusals(unchecked, small_problem, random_scores):
    problem = small_problem()
    scores, circuit = random_scores(problem.graph), Circuit.full(problem.graph)
    for call, words in (
        (lambda: curve(problem, scores, shares=[0.1], sizes=[3]), "how large circuits are only"),
        (lambda: curve(problem, [circuit], sizes=[3]), "circuits have their sizes"),
        (lambda: curve(problem, []), "no circuits to evaluate"),
        (lambda: curve(problem, scores, sizes=[999]), "asked for 999 edges"),
        (lambda: curve(problem, scores, shares=[2.0]), "between 0 and 1"),
        (lambda: curve(problem, scores, select="best"), "no selection named 'best'"),
        (lambda: completeness(problem, circuit, groups={"x": ["a9.h0"]}), "group 'x'.*'a9.h0'"),
        (lambda: problem.with_(target="gpt2"), "target is a str; pass a Model"),
        (lambda: reset_network(problem.model, -1), "seed is -1"),
        (lambda: ew.evaluate(ew.load_task("or-gate"), circuit), "not a Task. Pass task.problem"),
        (lambda: ew.evaluate(problem, circuit, split="tset"), "no split named 'tset'"),
        (lambda: ew.evaluate(problem, circuit, kinds=["all"]), "no kind of random circuit"),
    ):
        with pytest.raises((SettingError, UnknownName), match=words):
            call()


# --- reset networks, and the trained model as target


@pytest.mark.parametrize("shape", ["gpt2", "parallel"])
def test_a_reset_network_permutes_what_it_should(shape):
    model = random_model(0, **SHAPES[shape])
    reset, again, other = (reset_network(model, seed).weights for seed in (1, 1, 2))
    orders = {}
    for name, before in model.weights.items():
        after, part = reset[name], name.split(".", 2)[-1]
        assert torch.equal(after, again[name])
        if part not in {f"attn.{x}_{y}" for x in "Wb" for y in "QKV"} | {"mlp.W_in", "mlp.b_in"}:
            assert torch.equal(after, before)
            continue
        axis = 0 if part.startswith("attn") else -1
        rows, shuffled = before.movedim(axis, 0), after.movedim(axis, 0)
        orders[name] = [next(i for i, r in enumerate(rows) if r.equal(s)) for s in shuffled]
        assert sorted(orders[name]) == list(range(len(rows)))
    assert orders["blocks.0.mlp.W_in"] != orders["blocks.0.mlp.b_in"]
    assert len({tuple(order) for name, order in orders.items() if "attn" in name}) > 1
    assert any(not torch.equal(reset[name], other[name]) for name in orders)
    twice = reset_network(reset_network(model, 1), 2)
    assert (twice.name, twice.processing) == (
        "random-0-reset-1-reset-2",
        "reset with seed 1, reset with seed 2",
    )


def test_a_trained_model_is_what_its_reset_network_is_compared_with(small_problem):
    """Golden answers hold what methods find; here is the KL, and that attribution sees it."""
    trained = small_problem(1, "kl")
    target = trained.model
    problem = trained.with_(model=reset_network(target, 1), target=target, batch_size=2)
    for circuit in (Circuit.full(problem.graph), random_circuit(problem.graph, 1)):
        p = target(problem.pairs.clean)[:, -1].log_softmax(dim=-1)
        q = ew.run_circuit(problem, circuit)[:, -1].log_softmax(dim=-1)
        expected = (p.exp() * (p - q)).sum(dim=-1)
        torch.testing.assert_close(problem.per_prompt(circuit), expected)
    with pytest.raises(MetricError, match="is zero"):  # at the minimum of its own KL
        ew.eap(problem.with_(target=None), edges=5)
    assert ew.eap(problem, edges=5).scores.values.abs().max() > 1e-3
    assert problem.with_(target=problem.model).target is None
    with pytest.raises(ProblemError, match="the target random-1 maps 13 tokens"):
        problem.with_(target=random_model(1, d_vocab=13))
    with pytest.raises(SettingError, match="from the problem's own model"):
        ew.acdc(problem, threshold=0.1, precision="reduced")
