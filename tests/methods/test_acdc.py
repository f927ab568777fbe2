"""Plain ACDC: its decisions are the oracle's, the reference implementations', and the paper's."""

import os
import subprocess
import sys

import pytest
import torch

import edgewise as ew
import oracle
from edgewise.methods.steps import receiver_steps
from models import SHAPES, random_model, random_pairs
from peers import load_peers


def oracle_problem(seed, ablation, metric, *, switches=False, **shape):
    """A Hugging Face GPT-2 of random weights, and the same problem in both worlds."""
    hf = oracle.random_gpt2(seed, **shape)
    generator = torch.Generator().manual_seed(seed)
    vocab = hf.config.vocab_size
    clean, corrupted = torch.randint(vocab, (2, 3, 5), generator=generator)
    answers, wrong = torch.randint(vocab, (2, 3), generator=generator)
    wrong = torch.where(wrong == answers, (wrong + 1) % vocab, wrong)
    model = ew.load_model(hf)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted, answers=answers, wrong=wrong)
    graph = ew.Graph.of(model, switches=switches)
    problem = ew.Problem(model, pairs, metric, ablation, graph=graph)
    given = {"ablation": ablation, "metric": metric, "answers": answers, "wrong": wrong}
    return hf, clean, corrupted, problem, {**given, "switches": switches}


def assert_same_decisions(run, tests, kept, atol=1e-9):
    assert [d.edge.name for d in run.trace] == [edge for edge, _, _ in tests]
    assert [d.kept for d in run.trace] == [keep for _, _, keep in tests]
    ours = torch.tensor([d.delta for d in run.trace], dtype=torch.float64)
    theirs = torch.tensor([delta for _, delta, _ in tests], dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)
    assert {edge.name for edge in run.circuit.edges} == set(kept)


@pytest.mark.parametrize("engine", ["plain", "incremental"])
@pytest.mark.parametrize("seed", range(4))
def test_an_edge_whose_delta_is_the_threshold_is_kept(seed, engine):
    """Algorithm 1 removes an edge if the loss rises by strictly less than the threshold."""
    *_, problem, _ = oracle_problem(seed, "corrupted", "kl", n_head=2, d_model=12)
    tested = ew.acdc(problem, threshold=1e-12, engine="plain").trace
    index = next(i for i, decision in enumerate(tested) if decision.delta > 1e-6)
    delta = tested[index].delta  # those before it are removed at this threshold, too
    at, above = (
        ew.acdc(problem, threshold=threshold, engine=engine).trace[index]
        for threshold in (delta, delta * (1 + 1e-12))
    )
    assert at.edge == above.edge == tested[index].edge
    assert (at.kept, above.kept) == (True, False)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("ablation", ["corrupted", "zero"])
def test_decisions_are_the_oracles(seed, ablation):
    """Loops over a Hugging Face GPT-2, none of our runtime, float64: every decision, in order."""
    metric = ("kl", "logit-diff")[seed % 2]
    head_order = ("descending", "ascending")[seed // 2 % 2]
    switches = seed % 3 == 0
    hf, clean, corrupted, problem, given = oracle_problem(
        seed, ablation, metric, switches=switches, n_head=2 + seed % 2, d_model=12
    )
    # Thresholds on the scale of the whole effect, so that some edges go and some stay.
    scale = problem.loss(ew.Circuit.empty(problem.graph)) - problem.loss(
        ew.Circuit.full(problem.graph)
    )
    threshold = max(abs(scale) * (0.003, 0.01, 0.03)[seed % 3], 1e-4)
    tests, kept = oracle.acdc(
        hf, clean, corrupted, threshold=threshold, head_order=head_order, **given
    )
    assert seed or 0 < len(kept) < problem.graph.n_edges  # some edges go and some stay
    for engine in ("plain", "incremental"):
        run = ew.acdc(problem, threshold=threshold, head_order=head_order, engine=engine)
        assert_same_decisions(run, tests, kept)


def test_decisions_and_losses_of_the_original_code_and_autocircuit():
    """Three thresholds of the independent implementations' fixture, float32."""
    hf, tokens, data = load_peers(torch.float32)
    prompts, answers = [tokens[name] for name in ("clean", "corrupted")], tokens["answers"]
    pairs = ew.PromptPairs.from_tokens(*prompts, answers=answers, wrong=tokens["wrong"])
    problem = ew.Problem(ew.load_model(hf), pairs, "kl", "corrupted")
    for expected in data["acdc_kl"]:
        run = ew.acdc(problem, threshold=expected["threshold"], head_order="ascending")
        assert_same_decisions(run, expected["tests"], expected["kept"], atol=2e-6)
    for expected in data["evaluations"]:
        circuit = ew.Circuit.of(problem.graph, expected["kept"])
        assert problem.loss(circuit) == pytest.approx(expected["kl"], abs=2e-6)
        logits, theirs = ew.run_circuit(problem, circuit)[:3, -1], expected["logits_last"]
        torch.testing.assert_close(logits, torch.tensor(theirs), rtol=0, atol=1.5e-5)


@pytest.mark.parametrize("data", ["legal", "paper"])
def test_programs_are_recovered_as_published(data):
    """tracr-reverse exactly at any threshold, of tracr-xproportion no false edge at all."""
    reverse, share = ew.load_task("tracr-reverse", data=data), ew.load_task("tracr-xproportion")
    for threshold in (1e-5, 1e-3, 0.05, 0.1):
        run = ew.acdc(reverse.problem, threshold=threshold)
        assert run.circuit == reverse.published
        for head_order in ("descending", "ascending"):
            circuit = ew.acdc(share.problem, threshold=threshold, head_order=head_order).circuit
            assert (circuit - share.published).n_edges == 0


@pytest.mark.parametrize(("head_order", "head"), [("descending", 0), ("ascending", 1)])
def test_an_or_gate_keeps_the_head_tested_last_and_an_and_gate_both(head_order, head):
    """Either head of an OR is enough, so the first one tested is removed (spec 5.7)."""
    settings = {"threshold": 0.01, "head_order": head_order}
    run = ew.acdc(ew.load_task("or-gate").problem, **settings)
    assert [edge.name for edge in run.circuit.edges] == [f"a0.h{head}->m0", "m0->logits"]
    task = ew.load_task("and-gate")
    assert ew.acdc(task.problem, **settings).circuit == task.published


def test_order_of_receivers():
    """Spec section 2.4, written out for two layers of two heads with switches."""
    graph = ew.Graph.build(2, 2, split_embed=True, switches=True)
    steps = list(receiver_steps(graph))
    order = [step.receiver.name for step in steps]
    layer = ["m{0}"]
    for _ in range(2):  # first the switches, then the ports
        layer += [f"a{{0}}.h{head}.{slot}" for slot in "vkq" for head in (1, 0)]
    expected = ["logits"] + [name.format(1) for name in layer] + [name.format(0) for name in layer]
    assert order == expected
    assert [e.sender.name for e in steps[0].edges] == [
        "m1", "a1.h1", "a1.h0", "m0", "a0.h1", "a0.h0", "tok_embed", "pos_embed"
    ]  # fmt: skip
    assert [e.sender.name for e in steps[1].edges][:2] == ["a1.h1", "a1.h0"]
    ascending = next(receiver_steps(graph, "ascending")).edges
    assert [e.sender.name for e in ascending][:3] == ["m1", "a1.h0", "a1.h1"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("absolute", [False, True])
def test_trace_replays(shape, absolute):
    """Applying the decisions one by one gives the losses and the circuit that the run reports.

    With `absolute` an edge whose removal helps much is kept as well.
    """
    model = random_model(**SHAPES[shape])
    graph = ew.Graph.of(model, switches=True)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted", graph=graph)
    run = ew.acdc(problem, threshold=0.05, absolute=absolute)
    circuit, loss = ew.Circuit.full(graph), problem.loss(ew.Circuit.full(graph))
    tested, compared = set(), abs if absolute else float
    for decision in run.trace:
        without = circuit.without(decision.edge)
        assert decision.delta == pytest.approx(problem.loss(without) - loss, abs=1e-9)
        assert decision.kept == (compared(decision.delta) >= 0.05)
        if not decision.kept:
            circuit, loss = without, loss + decision.delta
        assert decision.loss == pytest.approx(loss, abs=1e-9)
        tested.add(decision.edge)
    untested = [edge for edge in graph.edges if edge not in tested]
    assert circuit.without(*untested) == run.circuit
    assert len(untested) == run.cost.edges_skipped == graph.n_edges - len(run.trace)
    assert problem.loss(run.circuit) == pytest.approx(loss, abs=1e-9)
    assert run.margin == pytest.approx(min(abs(compared(d.delta) - 0.05) for d in run.trace))


def test_prune_drops_dangling_nodes_with_a_corrupted_ablation_alone():
    model = random_model(seed=3)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    plain, pruned = (ew.acdc(problem, threshold=0.1, prune=prune) for prune in (False, True))
    assert pruned.circuit == plain.circuit.pruned()
    with pytest.raises(ew.EdgewiseError, match="prune drops nodes that no input reaches"):
        ew.acdc(problem.with_(ablation="zero"), threshold=0.1, prune=True)


def test_batch_split_changes_no_decision():
    model = random_model()
    pairs = random_pairs(model, lengths=[6, 4, 5, 6, 3])
    decisions = []
    for size in (None, 1, 2, 3):
        problem = ew.Problem(model, pairs, "kl", "corrupted", batch_size=size)
        trace = ew.acdc(problem, threshold=0.03).trace
        decisions.append([(decision.edge, decision.kept) for decision in trace])
    assert all(each == decisions[0] for each in decisions)


_SCRIPT = """
import sys
sys.path.insert(0, "tests")
import torch
torch.set_num_threads(1)
from models import random_model, random_pairs
import edgewise as ew
model = random_model()
graph = ew.Graph.of(model, switches=True)
problem = ew.Problem(model, random_pairs(model), "kl", "corrupted", graph=graph)
run = ew.acdc(problem, threshold=0.03)
print(run.circuit.id, run.problem.pairs_sha256, [(d.edge.name, d.delta) for d in run.trace])
"""


def test_hash_seeds_change_nothing():
    how = {"capture_output": True, "text": True, "check": True}
    results = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, **how
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(results) == 1
