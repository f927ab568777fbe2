"""A problem checks its parts against each other, before any work, and reports all faults."""

import subprocess
import sys

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, ProblemError, SettingError, UnknownName
from models import random_circuit, random_model, random_pairs


def test_all_faults_are_reported_at_once():
    model = random_model()
    pairs = ew.PromptPairs.from_tokens([[1, 2, 99], [1, 2, 3]], answers=[[5], [44]])
    with pytest.raises(ProblemError) as caught:
        ew.Problem(model, pairs, "logit-diff", "corrupted", batch_size=0)
    message = str(caught.value)
    assert len(caught.value.faults) == 5
    for part in (
        "problem of tokens on random-0: 5 faults",
        "pair 0: clean has token id 99; the model knows 0 to 10.",
        "pair 1: answers has token id 44",
        "metric 'logit-diff' needs wrong",
        "ablation 'corrupted' needs corrupted prompts",
        "batch_size is 0",
    ):
        assert part in message


def permuted(*order):
    return {"ablation": ew.Ablation("corrupted", position_permutation=order)}


def averaged(rows, kind="mean"):
    return {"ablation": ew.Ablation(kind, prompts=ew.PromptPairs.from_tokens(rows))}


ADDED = ew.Graph.build(2, 2, mlps=False, split_embed=True)
SHORTFORMER = {"positions": "shortformer", "attention_only": True}


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ({}, {"metric": "kld"}, "no metric named 'kld'"),
        ({}, {"ablation": "corupted"}, "Did you mean 'corrupted'"),
        ({}, {"graph": ew.Graph.build(3, 2)}, "the graph has 3 layers of 2 .*random-0 has 2"),
        ({}, {"graph": ew.Graph.build(2, 2, mlps=False)}, "no MLPs"),
        (SHORTFORMER, {"graph": ADDED}, "adds no position embeddings"),
        ({}, permuted(1, 0), "position_permutation has 2 places for 6 positions"),
        ({}, permuted(*range(11)), "position_permutation has 11 places"),
        ({"positions": "none"}, permuted(1, 0, 2, 3, 4, 5), "moves nothing"),
        ({}, averaged([[1, 2, 3]], "mean-positional"), "the ablation prompts have at most 3"),
        ({}, averaged([[1, 2, 999]]), "ablation prompt has token id 999"),
        ({}, averaged([[1] * 11]), "ablation prompts of up to 11 tokens"),
    ],
)
def test_parts_that_do_not_fit(shape, change, message):
    model = random_model(**shape)
    with pytest.raises((ProblemError, UnknownName), match=message):
        ew.Problem(model, random_pairs(model), **{"metric": "kl"} | change)


def test_corrupted_prompts_that_change_nothing():
    model = random_model()
    same = ew.PromptPairs.from_tokens([[1, 2]], [[1, 2]])
    with pytest.raises(ProblemError, match="every corrupted prompt equals its clean one"):
        ew.Problem(model, same, "kl", "corrupted")
    ew.Problem(model, same, "kl", "zero")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("corrupted", {"position_permutation": (0, 0, 1)}, r"\(0, 0, 1\) is not a permutation"),
        ("zero", {"position_permutation": (0, 1)}, "'zero' takes no position_permutation"),
        ("zero", {"prompts": True}, "'zero' takes no prompts; only means do"),
    ],
)
def test_ablations_that_are_none(kind, options, message):
    if "prompts" in options:
        options = {"prompts": random_pairs(random_model())}
    with pytest.raises(SettingError, match=message):
        ew.Ablation(kind, **options)


def test_direction_is_applied_in_the_loss_alone():
    model = random_model()
    pairs = random_pairs(model)
    circuit = random_circuit(model.graph)
    for metric, sign in (("kl", 1), ("logit-diff", -1), ("nll", 1), ("accuracy", -1)):
        problem = ew.Problem(model, pairs, metric, "corrupted")
        assert problem.loss(circuit) == sign * problem.value(circuit)
        per_prompt = problem.per_prompt(circuit)
        assert per_prompt.shape == (4,)
        assert problem.value(circuit) == pytest.approx(per_prompt.mean().item())


def test_a_metric_of_the_users_own():
    def margin(logits, rows):
        return logits.gather(1, rows.answers)[:, 0] - logits.max(dim=-1).values

    model = random_model()
    pairs = random_pairs(model)
    circuit = random_circuit(model.graph)
    plain = ew.Problem(model, pairs, margin, "corrupted")
    better = ew.Problem(model, pairs, ew.Metric("margin", "logits", True, margin), "corrupted")
    assert plain.loss(circuit) == plain.value(circuit)
    assert better.loss(circuit) == -plain.loss(circuit)
    logits = ew.run_circuit(plain, circuit)[:, -1]
    expected = logits.gather(1, pairs.answers)[:, 0] - logits.max(dim=-1).values
    torch.testing.assert_close(plain.per_prompt(circuit), expected)


def test_a_metric_that_is_not_a_number_names_its_prompts():
    def broken(logits, rows):
        return torch.where(rows.prompt == 2, torch.nan, logits[:, 0])

    model = random_model()
    problem = ew.Problem(model, random_pairs(model), broken, "corrupted")
    with pytest.raises(MetricError, match=r"'broken' is nan for 1 of 4 prompts \(prompt 2\)"):
        ew.acdc(problem, threshold=0.1)


def test_a_circuit_of_another_graph_of_the_same_model_can_be_run():
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    coarse = ew.Graph.of(model, split_heads=False)
    assert problem.loss(ew.Circuit.full(coarse)) < 1e-9
    with pytest.raises(SettingError, match="the graph has 5 layers"):
        problem.loss(ew.Circuit.full(ew.Graph.build(5, 2)))


def test_changing_a_part_makes_a_new_problem():
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    zero = problem.with_(ablation="zero")
    assert (problem.ablation.kind, zero.ablation.kind) == ("corrupted", "zero")
    with pytest.raises(SettingError, match="a problem has no 'refrence'"):
        problem.with_(refrence="zero")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    model = random_model(dtype=dtype)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    loss = problem.loss(ew.Circuit.full(model.graph))
    assert abs(loss) < (1e-6 if dtype == torch.float32 else 1e-2)
    assert problem.per_prompt(ew.Circuit.full(model.graph)).dtype == torch.float32


def test_an_error_in_a_metric_leaves_gradients_as_they_were():
    """The exception is held, as a notebook does: its frames must not hold the gradient switch."""
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), lambda logits, rows: logits, "corrupted")
    with pytest.raises(MetricError, match="must return one number") as caught:
        problem.loss(ew.Circuit.full(model.graph))
    assert caught.value is not None
    assert torch.is_grad_enabled()


def test_a_users_metric_cannot_change_what_later_ones_see():
    def writes(logits, rows):
        rows.clean_logits.sub_(5)
        return (logits - rows.clean_logits).square().mean(dim=-1)

    model = random_model()
    problem = ew.Problem(model, random_pairs(model), writes, "corrupted")
    full = ew.Circuit.full(model.graph)
    assert problem.loss(full) == problem.loss(full)


def test_first_use_under_inference_mode_caches_plain_tensors():
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    with torch.inference_mode():
        problem.loss(ew.Circuit.full(model.graph))
    for batch in problem.evaluator(model.graph).batches:
        assert not batch.ablation.senders.dense().is_inference()
        assert not batch.rows.clean_logits.is_inference()


def test_forward_passes_count_ablations_too():
    model = random_model()
    graph = ew.Graph.of(model, switches=True)
    for ablation, passes in (("zero", 3), ("corrupted", 4), ("mean", 4)):
        problem = ew.Problem(model, random_pairs(model), "kl", ablation, graph=graph)
        problem.loss(ew.Circuit.full(graph))
        assert problem.passes() == (passes, 0), ablation


def test_wrong_kinds_of_things_are_named():
    code = """
import sys; sys.path.insert(0, "tests")
from models import random_model, random_pairs
import edgewise as ew
model = random_model(); pairs = random_pairs(model)
problem = ew.Problem(model, pairs, "kl")
for make in (
    lambda: ew.Problem("tracr-reverse", pairs, "kl"),
    lambda: ew.Problem(model, [[1, 2]], "kl"),
    lambda: ew.Problem(model, pairs, "kl", batch_size=2.5),
    lambda: ew.recovery(ew.Circuit.full(model.graph), None),
    lambda: ew.discover(ew.load_task("or-gate"), "acdc", threshold=0.1),
    lambda: ew.load_task("tracr-sort", n="5"),
    lambda: ew.load_task("tracr-sort", seed=2**70),
    lambda: ew.acdc(problem, threshold="0.1"),
    lambda: ew.acdc(problem, threshold=0.1, absolute="no"),
):
    try:
        make()
        print("accepted")
    except ew.EdgewiseError as error:
        assert "\\n" not in str(error), error
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
