"""Curves and MIB's areas, completeness, random circuits, ranking, reset networks, the verdict."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import MetricError, ProblemError, SettingError, UnknownName
from edgewise.evaluation import (
    MIB_SHARES,
    RandomBand,
    completeness,
    curve,
    knocked_out,
    paper_nodes,
    random_band,
    random_circuits,
    recovery,
    score_recovery,
)
from edgewise.evaluation.curves import area
from edgewise.graph import Graph
from edgewise.model import reset_network
from edgewise.tables import Result
from edgewise.tasks import published_circuit
from models import SHAPES, random_circuit, random_model, random_pairs

fixed = settings(derandomize=True, deadline=None, max_examples=25)
SMALL = Graph.build(2, 2, switches=True)


def small_problem(seed=0, metric="logit-diff", ablation="corrupted", **how):
    model = random_model(seed)
    return ew.Problem(model, random_pairs(model, seed, n=3), metric, ablation, **how)


def random_scores(graph, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.exists.shape, generator=generator, dtype=torch.float64)
    return EdgeScores(graph, values, "made up", "nothing")


# --- the paper's nodes (spec 1.4)


@pytest.mark.parametrize(
    ("graph", "n"),
    [
        (Graph.build(12, 12, switches=True), 1022),  # GPT-2 small
        (Graph.build(4, 8, mlps=False, switches=True), 226),  # docstring
        (Graph.build(2, 8, mlps=False, switches=True), 114),  # induction
        (Graph.build(4, 1, split_embed=True, switches=True), 35),  # tracr-reverse
        (Graph.build(2, 1, split_embed=True, switches=True), 19),  # tracr-xproportion
    ],
)
def test_the_paper_counts_so_many_nodes(graph, n):
    assert len(paper_nodes(Circuit.full(graph))) == n
    assert not paper_nodes(Circuit.empty(graph))


def test_the_papers_node_rates():
    """Published: 3 of tracr-reverse's 15 edges are an edge AUC of 0.200, a node AUC of 0.312."""
    published = published_circuit("tracr-reverse")
    found = Circuit.of(published.graph, ["a3.h0->logits", "tok_embed->a3.h0.v", "a3.h0.v->a3.h0"])
    result = recovery(found, published, nodes="paper")
    assert (result.edge_auc, result.node_auc) == (pytest.approx(0.2), pytest.approx(0.3125))
    assert (result.nodes.n_true, result.nodes.n_false) == (16, 19)
    assert recovery(found, published).nodes.n_true == 8
    assert result.to_json()["node_counting"] == "paper"


def test_an_mlp_counts_where_it_sends():
    into = Circuit.of(SMALL, ["input->m0"])
    assert paper_nodes(into) == {"input"}
    assert paper_nodes(into | Circuit.of(SMALL, ["m0->logits"])) == {
        "input",
        "m0",
        "logits",
    }
    port = {"a1.h0.k:input"}
    assert paper_nodes(Circuit.of(SMALL, ["m0->a1.h0.k"])) == port | {"m0"}
    assert paper_nodes(Circuit.of(SMALL, ["a1.h0.k->a1.h0"])) == port | {"a1.h0.k:vector"}


@pytest.mark.parametrize("change", [{"split_qkv": False}, {"split_heads": False}, {}])
def test_the_paper_counted_at_one_granularity(change):
    circuit = Circuit.full(Graph.build(2, 2, **{"switches": bool(change), **change}))
    with pytest.raises(SettingError, match="which only a graph of heads with split q/k/v and"):
        recovery(circuit, circuit, nodes="paper")


# --- scores against a known circuit


def auc_by_pairs(values, truth):
    """The chance that a true edge scores higher than a false one, ties counting half."""
    pairs = [(a > b) + (a == b) / 2 for a in values[truth] for b in values[~truth]]
    return float(sum(pairs) / len(pairs))


def precision_by_loop(values, truth):
    """The mean, over true edges, of the precision among the edges that score as high."""
    parts = [truth[values >= value].double().mean() for value in values[truth]]
    return float(sum(parts) / len(parts))


@fixed
@given(st.integers(0, 10**6), st.sampled_from(["absolute", "signed"]))
def test_areas_of_scores_are_their_definitions(seed, by):
    published = random_circuit(SMALL, seed, share=0.3)
    scores = random_scores(SMALL, seed)
    coarse = EdgeScores(SMALL, (2 * scores.values).round(), "made up", "with ties")
    found = score_recovery(coarse, published, by=by)
    values, truth = coarse.values[SMALL.exists], published.keep[SMALL.exists]
    values = values.abs() if by == "absolute" else values
    assert found.roc_auc == pytest.approx(auc_by_pairs(values, truth))
    assert found.average_precision == pytest.approx(precision_by_loop(values, truth))
    assert found.roc_auc == pytest.approx(area(found.fpr, found.tpr))
    assert list(found.fpr) == sorted(found.fpr)
    assert list(found.tpr) == sorted(found.tpr)
    assert (found.n_true, found.n_false) == (published.n_edges, SMALL.n_edges - published.n_edges)


def test_what_cannot_be_ranked():
    scores, full = random_scores(SMALL), Circuit.full(SMALL)
    with pytest.raises(SettingError, match=f"has {SMALL.n_edges} of {SMALL.n_edges} edges"):
        score_recovery(scores, full)
    with pytest.raises(SettingError, match="different graphs"):
        score_recovery(scores, Circuit.full(Graph.build(2, 2)))
    with pytest.raises(SettingError, match="pass a Circuit"):
        score_recovery(scores, None)


# --- curves, CPR and CMD


def test_mibs_areas_by_hand():
    # f = 0 up to 10 % of the edges, 1 from 20 % on: a triangle from .1 to .2, then a rectangle.
    f = [0.0] * 7 + [1.0] * 3
    assert area(MIB_SHARES, f) == pytest.approx(0.1 / 2 + 0.8)
    assert area(MIB_SHARES, [abs(1 - x) for x in f]) == pytest.approx(0.1 - 0.001 + 0.1 / 2)
    # f above 1 raises CPR and CMD alike.
    f = [1.0] * 8 + [1.5, 1.0]
    assert area(MIB_SHARES, f) == pytest.approx(0.999 + 0.5 * (0.3 + 0.5) / 2)
    assert area(MIB_SHARES, [abs(1 - x) for x in f]) == pytest.approx(0.5 * (0.3 + 0.5) / 2)


def test_a_curve_is_made_of_the_scores_best_edges():
    problem = small_problem(1)
    scores = random_scores(problem.graph, 1)
    found = curve(problem, scores, prune=False)
    sizes = [int(k * problem.graph.n_edges) for k in MIB_SHARES]
    assert [point.n_edges for point in found.points] == sizes
    for point, n in zip(found.points, sizes, strict=True):
        best = scores.top(n, absolute=True)
        assert point.value == pytest.approx(problem.value(best), abs=1e-12)
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


def test_a_curve_of_runs_is_the_papers_pareto_plot():
    problem = small_problem(2, "kl")
    runs = [ew.acdc(problem, threshold=t) for t in (1.0, 0.1, 0.01)]
    found = curve(problem, runs)
    assert [p.n_edges for p in found.points] == sorted(run.circuit.n_edges for run in runs)
    assert (found.source, found.selection) == ("acdc", "as found")
    largest = runs[-1].circuit
    worse = largest.without(largest.edges[0])
    circuits = [*(run.circuit for run in runs), worse, Circuit.full(problem.graph)]
    front = curve(problem, circuits).pareto
    for point in front:
        no_larger = [c for c in circuits if c.n_edges <= point.n_edges]
        assert point.loss == min(problem.loss(c) for c in no_larger)
    assert front[-1].loss == min(problem.loss(c) for c in circuits)
    again = ew.Curve.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found


def test_curves_that_cannot_be():
    problem = small_problem()
    scores = random_scores(problem.graph)
    with pytest.raises(SettingError, match="say how large circuits are only once"):
        curve(problem, scores, shares=[0.1], sizes=[3])
    with pytest.raises(SettingError, match="circuits have their sizes"):
        curve(problem, [Circuit.full(problem.graph)], sizes=[3])
    with pytest.raises(SettingError, match="no circuits to evaluate"):
        curve(problem, [])
    with pytest.raises(SettingError, match="asked for 999 edges"):
        curve(problem, scores, sizes=[999])
    with pytest.raises(SettingError, match="must be between 0 and 1"):
        curve(problem, scores, shares=[2.0])


# --- completeness


def test_the_complement():
    problem = small_problem(1)
    full, empty = Circuit.full(problem.graph), Circuit.empty(problem.graph)
    assert completeness(problem, full, random=0).complement.normalized == pytest.approx(0.0)
    assert completeness(problem, empty, random=0).complement.normalized == pytest.approx(1.0)
    circuit = random_circuit(problem.graph, 1)
    found = completeness(problem, circuit, random=0)
    assert found.complement.circuit == pytest.approx(problem.value(circuit.complement()))
    assert (found.knock_outs, found.worst) == ((), None)


@pytest.mark.parametrize("seed", range(3))
def test_knock_outs_by_hand(seed):
    problem = small_problem(seed)
    full, circuit = Circuit.full(problem.graph), random_circuit(problem.graph, seed, share=0.4)
    found = completeness(
        problem, circuit, random=3, greedy=2, groups={"late": ["a1.h0", "m1"]}, seed=seed
    )
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
    document = found.to_json()
    assert json.loads(json.dumps(document)) == document


def test_sets_of_nodes_are_different_and_not_empty():
    problem = small_problem()
    circuit = Circuit.of(problem.graph, ["input->m0", "m0->a1.h0.v", "a1.h0->logits"])
    found = completeness(problem, circuit, random=10).knock_outs
    assert sorted(k.nodes for k in found) == [("a1.h0",), ("m0",), ("m0", "a1.h0")]
    alone = completeness(problem, Circuit.of(problem.graph, ["input->logits"]))
    assert alone.knock_outs == ()


def test_a_group_of_unknown_nodes():
    problem = small_problem()
    with pytest.raises(UnknownName, match=r"no node \(of group 'x'\) named 'a9.h0'"):
        completeness(problem, Circuit.full(problem.graph), groups={"x": ["a9.h0"]})


# --- random circuits


@fixed
@given(st.integers(0, 10**6), st.integers(0, SMALL.n_edges))
def test_uniform_random_circuits(seed, n):
    first, second = random_circuits(SMALL, n, 2, seed=seed)
    assert first.n_edges == second.n_edges == n
    assert list(random_circuits(SMALL, n, 2, seed=seed)) == [first, second]
    if 10 < n < SMALL.n_edges - 10:
        assert first != second


@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize(
    "change",
    [{}, {"mlps": False}, {"split_qkv": False, "split_embed": True}, {"spans": ("start", "end")}],
)
def test_connected_random_circuits(switches, change):
    graph = Graph.build(3, 2, switches=switches, **change)
    for n in (1, 5, 11, graph.n_edges // 2, graph.n_edges):
        for circuit in random_circuits(graph, n, 3, kind="connected", seed=n):
            assert circuit.n_edges == n
            assert circuit.pruned() == circuit  # every edge is on a path from input to output


def test_random_circuits_reach_every_edge():
    graph = Graph.build(1, 2)
    for kind in ("uniform", "connected"):
        drawn = torch.stack([c.keep for c in random_circuits(graph, 4, 200, kind=kind)])
        assert drawn.any(dim=0).sum() == graph.n_edges


def test_random_circuits_that_cannot_be():
    with pytest.raises(SettingError, match="edges; the graph has"):
        next(random_circuits(SMALL, SMALL.n_edges + 1, 1))
    attention = Graph.build(1, 1, mlps=False, switches=True)
    with pytest.raises(SettingError, match="found no circuit of 2 edges"):
        next(random_circuits(attention, 2, 1, kind="connected"))


def test_a_band_by_hand():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    band = RandomBand("uniform", 5, 0, "m", "", 10.0, 0.0, True, values)
    assert (band.n, band.mean, band.quantile(0.5)) == (4, 3.0, 2.5)
    low, high = band.interval
    half = 3.182446 * values.std().item() / 2  # Student's t, 3 degrees of freedom
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert band.normalized.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.6])
    assert (band.as_good_as(3.0), band.p_value(3.0), band.p_value(7.0)) == (2, 0.6, 0.2)
    lower = RandomBand("uniform", 5, 0, "m", "", 0.0, 10.0, False, values)
    assert lower.as_good_as(2.0) == 2
    assert RandomBand("uniform", 5, 0, "m", "", 1.0, 0.0, True, values[:1]).interval is None
    assert RandomBand("uniform", 5, 0, "m", "", 1.0, 1.0, True, values).normalized is None


def test_a_band_is_what_the_evaluator_says():
    problem = small_problem(3, "kl", "zero")
    circuit = random_circuit(problem.graph, 3)
    band = random_band(problem, circuit, n=3, seed=7)
    drawn = random_circuits(problem.graph, circuit.n_edges, 3, seed=7)
    assert band.values.tolist() == pytest.approx([problem.value(c) for c in drawn])
    full = random_band(problem, Circuit.full(problem.graph), n=2, kind="connected")
    assert full.normalized.tolist() == pytest.approx([1.0, 1.0])


# --- reset networks


@pytest.mark.parametrize("shape", ["gpt2", "attention-only", "parallel"])
@pytest.mark.parametrize("seed", range(2))
def test_a_reset_network_permutes_what_it_should(shape, seed):
    model = random_model(0, **SHAPES[shape])
    reset = reset_network(model, seed)
    assert reset.weights.keys() == model.weights.keys()
    orders = {}
    for name, before in model.weights.items():
        after, part = reset.weights[name], name.split(".", 2)[-1]
        assert after.shape == before.shape
        if part in {f"attn.{x}_{y}" for x in "Wb" for y in "QKV"}:
            axis = 0
        elif part in ("mlp.W_in", "mlp.b_in"):
            axis = -1
        else:
            assert torch.equal(after, before)
            continue
        rows, shuffled = before.movedim(axis, 0), after.movedim(axis, 0)
        order = [next(i for i, r in enumerate(rows) if torch.equal(r, s)) for s in shuffled]
        assert sorted(order) == list(range(len(rows)))
        orders[name] = order
    if model.config.has_mlps:
        assert orders["blocks.0.mlp.W_in"] != orders["blocks.0.mlp.b_in"]
    assert len({tuple(o) for name, o in orders.items() if "attn" in name}) > 1


def test_a_reset_network_is_its_seeds():
    model = random_model(0)
    one, again, other = (reset_network(model, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one.weights[k], again.weights[k]) for k in model.weights)
    assert any(not torch.equal(one.weights[k], other.weights[k]) for k in model.weights)
    assert (one.name, one.processing) == ("random-0-reset-1", "reset with seed 1")
    assert reset_network(one, 2).processing == "reset with seed 1, reset with seed 2"
    with pytest.raises(SettingError, match="seed is -1"):
        reset_network(model, -1)


# --- the trained model as target


def kl_by_hand(target, problem, circuit):
    """Each prompt's KL from the target to the circuit, at its last token."""
    pairs = problem.pairs
    p = target(pairs.clean)[:, -1].log_softmax(dim=-1)
    q = ew.run_circuit(problem, circuit)[:, -1].log_softmax(dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1)


@pytest.mark.parametrize("seed", range(2))
def test_kl_from_the_trained_model(seed):
    trained = small_problem(seed, "kl")
    target = trained.model
    problem = trained.with_(model=reset_network(target, seed), target=target, batch_size=2)
    for circuit in (Circuit.full(problem.graph), random_circuit(problem.graph, seed)):
        expected = kl_by_hand(target, problem, circuit)
        torch.testing.assert_close(problem.per_prompt(circuit), expected)
    assert problem.baselines()[0] > 0.01
    # The incremental engine, attribution and minimality see the same target.
    runs = [ew.acdc(problem, threshold=0.02, engine=e) for e in ("plain", "incremental")]
    assert runs[0].circuit == runs[1].circuit
    assert runs[0].problem.target == target.name
    deltas = zip(runs[0].trace, runs[1].trace, strict=True)
    assert all(a.delta == pytest.approx(b.delta, abs=1e-9) for a, b in deltas)
    loss = problem.loss(runs[0].circuit)
    edge, effect = next(iter(ew.evaluation.minimality(problem, runs[0].circuit).effects.items()))
    assert effect == pytest.approx(problem.loss(runs[0].circuit.without(edge)) - loss, abs=1e-9)


def test_attribution_sees_the_target():
    """At the trained model the gradient of its own KL is zero; from another target it is not."""
    trained = small_problem(1, "kl")
    problem = trained.with_(model=reset_network(trained.model, 1), target=trained.model)
    for method in ("eap", "atp-star"):
        with pytest.raises(MetricError, match="is zero"):
            ew.discover(problem.with_(target=None), method, edges=5)
        assert ew.discover(problem, method, edges=5).scores.values.abs().max() > 1e-3
    for method in ("eap-ig", "clean-corrupted"):
        own = ew.discover(problem.with_(target=None), method, edges=5).scores.values
        other = ew.discover(problem, method, edges=5).scores.values
        assert not torch.allclose(own, other)


def test_a_target_that_is_the_model_is_none():
    problem = small_problem(0, "kl")
    assert problem.with_(target=problem.model).target is None
    with pytest.raises(ProblemError, match="the target random-1 maps 13 tokens"):
        problem.with_(target=random_model(1, d_vocab=13))
    other = problem.with_(target=random_model(1))
    with pytest.raises(SettingError, match="from the problem's own model"):
        ew.acdc(other, threshold=0.1, precision="reduced")


# --- the verdict


def test_one_call_judges_a_circuit():
    task = ew.load_task("tracr-reverse")
    found = ew.evaluate(task.test, task.published, split="discovery", random=4, knock_outs=2)
    assert found.sentences()[0] == (
        "The circuit (15 of 106 edges) keeps 100 % of the effect on "
        "the prompts it was found on (6)."
    )
    assert "(4 drawn, seed 0; p " in found.sentences()[1]
    assert found.sentences()[-1] == "Removed one at a time, 15 of its 15 edges are needed."
    assert [band.kind for band in found.random] == ["uniform", "connected"]
    document = found.to_json()
    assert (document["n_prompts"], document["split"], document["seed"]) == (6, "discovery", 0)
    assert isinstance(found, Result)
    again = ew.Evaluation.from_json(json.loads(json.dumps(document)))
    assert again.to_json() == document
    assert again.tables() == found.tables()
    assert [table.title for table in found.tables()][:2] == [
        "Faithfulness",
        "Random circuits of 15 edges, seed 0",
    ]


def test_the_ends_of_the_scale():
    problem = small_problem(1)
    full = ew.evaluate(problem, Circuit.full(problem.graph), random=2, knock_outs=1)
    assert full.faithfulness.normalized == 1.0
    assert full.random[0].normalized.tolist() == pytest.approx([1.0, 1.0])
    assert "2 of them do as well" in " ".join(full.sentences())
    empty = ew.evaluate(problem, Circuit.empty(problem.graph), random=2, minimal=False)
    assert empty.faithfulness.normalized == 0.0
    assert empty.minimality is None
    assert "keeps 0 % of the effect on 3 prompts." in empty.sentences()[0]


def test_parts_can_be_left_out_and_a_run_stands_for_its_circuit():
    problem = small_problem(2)
    run = ew.acdc(problem, threshold=0.05)
    found = ew.evaluate(problem, run, random=0, knock_outs=0, minimal=False)
    assert found.circuit_id == run.circuit.id
    assert found.random == ()
    assert found.completeness.knock_outs == ()
    assert len(found.sentences()) == 2


def test_a_scale_of_nothing_has_no_shares():
    problem = small_problem().with_(metric=lambda logits, rows: 0 * logits[:, 0] + 2.0)
    circuit = random_circuit(problem.graph, 0)
    found = ew.evaluate(problem, circuit, random=2, knock_outs=1, minimal=False)
    assert all("%" not in sentence for sentence in found.sentences())


def test_arguments_of_another_kind_are_refused_in_words(unchecked):
    problem, circuit = small_problem(), Circuit.full(SMALL)
    scores = random_scores(problem.graph)
    for call, message in (
        (lambda: recovery(circuit, circuit, nodes="papers"), "no node counting named 'papers'"),
        (lambda: score_recovery(circuit, circuit), "found a Circuit; pass edge scores, or a run"),
        (lambda: score_recovery(scores, circuit, by="rank"), "no ranking named 'rank'"),
        (lambda: curve(problem, scores, select="best"), "no selection named 'best'"),
        (lambda: next(random_circuits(SMALL, 5, 1, kind="any")), "no kind of random circuit"),
        (lambda: problem.with_(target="gpt2"), "target is a str; pass a Model"),
        (
            lambda: ew.evaluate(ew.load_task("or-gate"), circuit),
            "not a Task. Pass task.problem, or task.test",
        ),
        (lambda: ew.evaluate(problem, circuit, split="tset"), "no split named 'tset'"),
        (lambda: ew.evaluate(problem, circuit, kinds=["all"]), "no kind of random circuit"),
    ):
        with pytest.raises((SettingError, UnknownName), match=message):
            call()
