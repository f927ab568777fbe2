"""Bundled programs compute what they say; their structural truth comes from weights alone."""

import pytest
import torch

import edgewise as ew
from edgewise.model.bundled import PROGRAMS as BUNDLED
from edgewise.model.bundled import bundled_program
from edgewise.tasks import published_circuit
from models import random_model

PROGRAMS = [name for name in BUNDLED if not name.endswith("-gate")]


@pytest.mark.parametrize("name", BUNDLED)
def test_outputs_are_the_programs(name):
    """Decoded outputs of our runtime equal the RASP evaluation recorded when it was compiled."""
    program, model = bundled_program(name), ew.load_model(name)
    tolerance = program.output.get("tolerance", 0) + 1e-4
    for example in program.examples:
        logits = model(torch.tensor([example["tokens"]]))[0]
        for position, expected in enumerate(example["expected"]):
            if expected is None:  # undefined in RASP
                continue
            if program.output["kind"] == "numerical":
                assert logits[position].item() == pytest.approx(expected, abs=tolerance)
            else:
                assert program.output["labels"][int(logits[position].argmax())] == expected


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("ablation", ["zero", "corrupted"])
def test_the_structural_truth_is_enough_and_all_that_acdc_finds(name, ablation):
    """The truth alone computes every program exactly: edges outside it cannot matter.

    With zero ablation a sender without live inputs is silent, because no program has biases. What
    ACDC then misses are queries and keys: selectors that are always true, and defaults never used
    (docs/programs.md).
    """
    task = ew.load_task(name, n=6, ablation=ablation)
    assert task.problem.loss(task.truth) < 1e-8
    empty = task.problem.loss(ew.Circuit.empty(task.problem.graph))
    nothing_differs = name == "tracr-length" and ablation == "corrupted"  # both are as long
    assert empty > 1e-4 or nothing_differs
    run = ew.acdc(task.problem, threshold=1e-3)
    assert (run.circuit - task.truth).n_edges == 0
    if ablation == "zero":
        full = ew.load_task(name)
        missed = full.truth - ew.acdc(full.problem, threshold=1e-3).circuit
        assert {edge.receiver.slot for edge in missed.edges} <= {"q", "k"}


def test_truth_of_the_papers_tasks_contains_their_published_circuits():
    """docs/programs.md explains every difference listed here."""
    reverse = ew.load_task("tracr-reverse")
    assert (reverse.published - reverse.truth).n_edges == 0
    assert {edge.name for edge in (reverse.truth - reverse.published).edges} == {
        "tok_embed->a0.h0.q",
        "a0.h0.q->a0.h0",
        "tok_embed->a0.h0.k",
        "a0.h0.k->a0.h0",
        "tok_embed->a3.h0.q",
        "tok_embed->a3.h0.k",
    }
    xproportion = ew.load_task("tracr-xproportion")
    assert xproportion.truth == xproportion.published
    assert [c.n_edges for c in (reverse.published, xproportion.published)] == [15, 10]
    with pytest.raises(ew.EdgewiseError, match="no published circuit named 'tracr-revers'"):
        published_circuit("tracr-revers")


# --- prompts


@pytest.mark.parametrize("name", BUNDLED)
def test_prompts_are_legal_reproducible_and_split(name):
    def prompts(pairs):
        rows = zip(pairs.clean, pairs.real, strict=True)
        return {tuple(row[real].tolist()) for row, real in rows}

    program = bundled_program(name)
    task, again = (ew.load_task(name, seed=3) for _ in range(2))
    assert task.problem.pairs.sha256 == again.problem.pairs.sha256
    legal = {*program.inputs, program.bos}
    assert all(set(prompt) <= legal for prompt in prompts(task.problem.pairs))
    if task.test is not task.problem:
        assert not prompts(task.problem.pairs) & prompts(task.test.pairs)


def test_the_papers_prompts():
    task = ew.load_task("tracr-reverse", ablation="corrupted")
    pairs = task.problem.pairs
    assert len(pairs) == 6
    assert pairs.clean.tolist()[0] == [3, 0, 1, 2]
    assert pairs.answer_at.tolist()[0] == [False, True, True, True]
    assert task.problem.ablation.position_permutation == (2, 3, 0, 1)
    assert (pairs.clean != pairs.corrupted).any(dim=1).all(), "a derangement has no fixed points"
    assert task.test is task.problem
    pairs = ew.load_task("tracr-xproportion", data="paper").problem.pairs
    assert tuple(pairs.clean.shape) == (50, 4)
    assert len({tuple(row) for row in pairs.clean.tolist()}) == 50
    assert set(pairs.clean.flatten().tolist()) == {0, 1, 2, 3}
    right = ew.load_task("tracr-xproportion").problem.pairs
    assert (right.clean[:, 0] == 0).all()
    assert set(right.clean[:, 1:].flatten().tolist()) == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tracr-revers", {}, "no task named 'tracr-revers'. Did you mean 'tracr-reverse'"),
        ("tracr-reverse", {"n": 7}, "asked for 7 prompts; tracr-reverse has 6"),
        ("tracr-reverse", {"n": 0}, "a task needs at least 1"),
        ("tracr-reverse", {"data": "papre"}, "Did you mean 'paper'"),
        ("tracr-xproportion", {"n": 200}, "tracr-xproportion has 128"),
        ("or-gate", {"ablation": "corrupted"}, "needs corrupted prompts"),
        ("tracr-reverse", {"metric": "nll"}, "metric 'nll' needs answers"),
        ("tracr-xproportion", {"metric": "kl"}, "always 0 for a model with one output"),
        ("tracr-sort", {"model": "tracr-xproportion"}, "of models shaped like 'tracr-sort'"),
    ],
)
def test_bad_requests(name, options, message):
    with pytest.raises(ew.EdgewiseError, match=message):
        ew.load_task(name, **options)


def test_truth_needs_a_model_without_norms_and_a_fine_graph():
    with pytest.raises(ew.EdgewiseError, match="has norms; structural truth is for compiled"):
        ew.structural_truth(random_model())
    model = ew.load_model("tracr-reverse")
    with pytest.raises(ew.EdgewiseError, match="needs a graph of heads with split q/k/v"):
        ew.structural_truth(model, ew.Graph.of(model, split_qkv=False))
