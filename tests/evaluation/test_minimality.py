"""Minimality: the engine that begins at a circuit gives the plain evaluator's answers."""

import pytest
import torch

import edgewise as ew
from edgewise.evaluation import minimality
from models import SHAPES, random_circuit, random_model, random_pairs

# A granularity, and the ablation it is tried with.
GRAPHS = [
    ({"switches": True}, "zero"),
    ({"switches": True}, "corrupted"),
    ({"split_qkv": False, "switches": True}, "mean-positional"),
    ({"split_heads": False}, "zero"),
    ({"split_qkv": False, "split_heads": False}, "corrupted"),
    ({}, "mean"),
]


def effects_by_hand(problem, circuit):
    """A run of the whole circuit for each of its edges."""
    loss = problem.loss(circuit)
    return {edge: problem.loss(circuit.without(edge)) - loss for edge in circuit.edges}


SPANS = {"early": [[0, 1], [0], [0, 1]], "late": [[2, 3], [1, 2], [2, 3]]}


def problem_of(shape, seed, metric="kl", ablation="corrupted", graph=None, **how):
    model = random_model(seed, **SHAPES[shape])
    pairs = random_pairs(model, seed, lengths=[4, 3, 4])
    options = {} if graph is None else graph
    return ew.Problem(model, pairs, metric, ablation, graph=ew.Graph.of(model, **options), **how)


def check_against_plain(problem, circuit):
    found = minimality(problem, circuit)
    expected = effects_by_hand(problem, circuit)
    assert found.effects == pytest.approx({e.name: x for e, x in expected.items()}, abs=1e-10)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_effects_are_the_plain_evaluators_on_every_kind_of_model(shape):
    metric = "logit-diff" if shape == "parallel" else "kl"
    problem = problem_of(shape, 1, metric, graph={"switches": shape == "shortformer"})
    check_against_plain(problem, random_circuit(problem.graph, 1, share=0.5))


@pytest.mark.parametrize(("graph", "ablation"), GRAPHS)
def test_effects_are_the_plain_evaluators_at_every_granularity(graph, ablation):
    seed = GRAPHS.index((graph, ablation))
    problem = problem_of("gpt2", seed, "kl", ablation, graph, batch_size=2)
    found = check_against_plain(problem, random_circuit(problem.graph, seed, share=0.6))
    assert found.needed


@pytest.mark.parametrize(
    ("options", "ablation"),
    [
        ({"switches": True}, "zero"),
        ({"split_qkv": False, "switches": True}, "corrupted"),
        ({}, "mean"),
    ],
)
def test_effects_are_the_plain_evaluators_at_spans(options, ablation):
    model = random_model(1)
    pairs = random_pairs(model, 1, lengths=[4, 3, 4], spans=SPANS)
    graph = ew.Graph.of(model, spans=tuple(SPANS), **options)
    problem = ew.Problem(model, pairs, "kl", ablation, graph=graph)
    assert check_against_plain(problem, random_circuit(graph, 4, share=0.7)).needed


def test_heads_of_which_another_of_their_group_is_fed():
    """No kept edge goes into a0.h1 or its keys and values: it reads the ablation run's stream."""
    model = random_model(0, n_heads=4, n_kv_heads=2)
    names = [f"a0.h{head}->logits" for head in range(4)]
    names += ["input->a0.h0.q", "input->a0.h2.q", "input->a0.kv1.k"]
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    check_against_plain(problem, ew.Circuit.of(model.graph, names))


@pytest.mark.parametrize("metric", ["logit-diff", "nll", "l2", "accuracy"])
def test_every_kind_of_loss(metric):
    problem = problem_of("gpt2", 3, metric, "zero")
    check_against_plain(problem, random_circuit(problem.graph, 3, share=0.7))


def test_a_graph_other_than_the_problems():
    problem = problem_of("gpt2", 0)
    joined = ew.Graph.of(problem.model, split_qkv=False)
    check_against_plain(problem, random_circuit(joined, 0))


def test_in_the_full_circuit_effects_are_exact_patching():
    problem = problem_of("gpt2", 2, graph={"switches": True})
    found = minimality(problem, ew.Circuit.full(problem.graph))
    scores = ew.exact(problem).scores
    expected = {edge.name: scores.of(edge) for edge in problem.graph.edges}
    assert found.effects == pytest.approx(expected)
    assert found.n_unread == 0


def test_an_edge_that_leads_nowhere_has_no_effect():
    problem = problem_of("gpt2", 0, ablation="zero")
    circuit = ew.Circuit.of(problem.graph, ["input->m0", "input->logits", "input->a1.h0.q"])
    found = minimality(problem, circuit)
    assert found.n_unread == 2
    assert [name for name, effect in found.effects.items() if effect] == ["input->logits"]
    assert found.idle == 2


def test_needed_idle_and_harmful_are_all_edges():
    problem = problem_of("gpt2", 5, "logit-diff")
    circuit = random_circuit(problem.graph, 5)
    found = minimality(problem, circuit)
    assert found.needed + found.idle + found.harmful == circuit.n_edges
    assert found.harmful > 0
    assert list(found.effects.values()) == sorted(found.effects.values(), reverse=True)
    assert found.loss == pytest.approx(problem.loss(circuit), abs=1e-10)


def test_a_compiled_programs_circuit_is_minimal():
    task = ew.load_task("tracr-reverse")
    found = minimality(task.problem, task.published)
    assert (found.needed, found.idle) == (15, 0)
    more = minimality(
        task.problem,
        task.published | ew.Circuit.of(task.published.graph, ["pos_embed->logits", "m3->logits"]),
    )
    assert (more.needed, more.idle + more.harmful) == (15, 2)


def test_edges_that_are_unread_change_no_logit():
    for seed, ablation in enumerate(("zero", "mean", "corrupted")):
        problem = problem_of("gpt2", seed, ablation=ablation, graph={"switches": True})
        circuit = random_circuit(problem.graph, seed, share=0.4)
        short = circuit.without_unread()
        assert short.n_edges < circuit.n_edges
        logits = ew.run_circuit(problem, circuit), ew.run_circuit(problem, short)
        torch.testing.assert_close(*logits)
        assert short.without_unread() == short
