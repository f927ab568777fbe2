"""Minimality: the engine that begins at a circuit gives the plain evaluator's answers."""

import pytest
import torch

import edgewise as ew
from edgewise.evaluation import minimality
from models import SHAPES, random_circuit, random_model, random_pairs

# A granularity, and the ablation it is tried with; {"spans": …} are the prompts' own.
SPANS = {"early": [[0, 1], [0], [0, 1]], "late": [[2, 3], [1, 2], [2, 3]]}
GRAPHS = [
    ({"switches": True}, "zero"),
    ({"switches": True}, "corrupted"),
    ({"split_qkv": False, "switches": True}, "mean-positional"),
    ({"split_heads": False}, "zero"),
    ({"split_qkv": False, "split_heads": False}, "corrupted"),
    ({"spans": tuple(SPANS), "switches": True}, "zero"),
    ({"spans": tuple(SPANS), "split_qkv": False, "switches": True}, "corrupted"),
    ({"spans": tuple(SPANS)}, "mean"),
]


def problem_of(shape, seed, metric="kl", ablation="corrupted", graph=None, **how):
    model = random_model(seed, **SHAPES[shape])
    pairs = random_pairs(model, seed, lengths=[4, 3, 4], spans=SPANS)
    options = {} if graph is None else graph
    return ew.Problem(model, pairs, metric, ablation, graph=ew.Graph.of(model, **options), **how)


def check_against_plain(problem, circuit):
    """Compare with a run of the whole circuit without each of its edges."""
    found, loss = minimality(problem, circuit), problem.loss(circuit)
    expected = {e.name: problem.loss(circuit.without(e)) - loss for e in circuit.edges}
    assert found.effects == pytest.approx(expected, abs=1e-10)
    assert found.loss == pytest.approx(loss, abs=1e-10)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_effects_are_the_plain_evaluators_on_every_kind_of_model(shape):
    metric = {"parallel": "logit-diff", "no positions": "nll", "bidirectional": "accuracy"}
    problem = problem_of(shape, 1, metric.get(shape, "kl"), graph={"switches": shape == "gpt2"})
    check_against_plain(problem, random_circuit(problem.graph, 1, share=0.5))


@pytest.mark.parametrize(("graph", "ablation"), GRAPHS)
def test_effects_are_the_plain_evaluators_at_every_granularity(graph, ablation):
    seed = GRAPHS.index((graph, ablation))
    problem = problem_of("gpt2", seed, "kl", ablation, graph, batch_size=2)
    found = check_against_plain(problem, random_circuit(problem.graph, seed, share=0.6))
    assert found.needed


def test_heads_of_which_another_of_their_group_is_fed():
    """No kept edge goes into a0.h1 or its keys and values: it reads the ablation run's stream."""
    model = random_model(0, n_heads=4, n_kv_heads=2)
    names = [f"a0.h{head}->logits" for head in range(4)]
    names += ["input->a0.h0.q", "input->a0.h2.q", "input->a0.kv1.k"]
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    check_against_plain(problem, ew.Circuit.of(model.graph, names))


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
    assert [name for name, effect in found.effects.items() if effect] == ["input->logits"]
    assert (found.n_unread, found.idle) == (2, 2)
    for seed, ablation in enumerate(("zero", "mean", "corrupted")):
        problem = problem_of("gpt2", seed, ablation=ablation, graph={"switches": True})
        circuit = random_circuit(problem.graph, seed, share=0.4)
        short = circuit.without_unread()
        assert short.n_edges < circuit.n_edges
        logits = ew.run_circuit(problem, circuit), ew.run_circuit(problem, short)
        torch.testing.assert_close(*logits)


def test_needed_idle_and_harmful_are_all_edges():
    problem = problem_of("gpt2", 5, "logit-diff")
    found = minimality(problem, random_circuit(problem.graph, 5))
    assert found.needed == sum(effect > found.rounding for effect in found.effects.values())
    assert found.harmful == sum(effect < -found.rounding for effect in found.effects.values()) > 0
    assert found.needed + found.idle + found.harmful == found.n_edges
    assert list(found.effects.values()) == sorted(found.effects.values(), reverse=True)
    task = ew.load_task("tracr-reverse")
    idle = ew.Circuit.of(task.published.graph, ["pos_embed->logits", "m3->logits"])
    found = minimality(task.problem, task.published | idle)
    assert (found.needed, found.idle + found.harmful) == (15, 2)
