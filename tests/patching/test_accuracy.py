"""How often the full model is right: by which rule, with which BOS, and where it is said."""

import json
from dataclasses import replace

import pytest
import torch

import edgewise as ew
from commands import edgewise
from models import random_model


class Letters:
    """A tokenizer of single letters; `^` is BOS."""

    bos = 0
    adds_bos = True

    def encode(self, text):
        return ["^abcdefghij".index(letter) for letter in text]

    def decode(self, ids):
        return "".join("^abcdefghij"[i] for i in ids)


@pytest.fixture(scope="module")
def model():
    return replace(random_model(d_vocab=11, d_vocab_out=11, n_ctx=9, seed=5), tokenizer=Letters())


def _pairs(model, bos, padding="right", **answers):
    texts = ["abc", "bcd", "fghij", "jihg", "ea"]
    return ew.PromptPairs.from_text(
        texts, [text[::-1] for text in texts], tokenizer=model, bos=bos, padding=padding, **answers
    )


def _by_hand(model, texts, answers, wrong, *, bos):
    right = []
    for text, answer, other in zip(texts, answers, wrong, strict=True):
        ids = torch.tensor([[0, *model.tokenizer.encode(text)][0 if bos else 1 :]])
        row = model(ids)[0, -1]
        a, b = model.tokenizer.encode(answer)[0], model.tokenizer.encode(other)[0]
        right.append(float(row[a] > row[b]))
    return right


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("bos", [True, False])
def test_the_other_convention_is_what_it_would_be(model, bos, padding):
    """Prompts of several lengths on both sides: the same as asking one by one."""
    answers, wrong = list("abcde"), list("fghia")
    texts = ["abc", "bcd", "fghij", "jihg", "ea"]
    pairs = _pairs(model, bos, padding, answers=answers, wrong=wrong)
    problem = ew.Problem(model, pairs, "kl")
    found = problem.accuracy()
    assert found.metric == "fraction-correct"
    assert found.values["fraction-correct"].tolist() == _by_hand(
        model, texts, answers, wrong, bos=bos
    )
    assert found.bos == bos
    assert found.low, "or the other one is not tried"
    other = _by_hand(model, texts, answers, wrong, bos=not bos)
    assert found.other_bos == pytest.approx(sum(other) / 5)
    again = ew.Problem(model, _pairs(model, not bos, padding, answers=answers, wrong=wrong), "kl")
    assert again.accuracy().share == pytest.approx(found.other_bos)
    said = f"{'without' if bos else 'with'} BOS: {found.other_bos:.0%} (--{'no-' * bos}bos)"
    assert said in str(found)
    of_ids = ew.Problem(model, replace(pairs, bos=None), "kl").accuracy()
    assert of_ids.other_bos == found.other_bos
    assert "bos)" not in str(of_ids), "token ids are as they are given"


def test_what_a_problem_has_computed_is_not_computed_again(model, monkeypatch):
    problem = ew.Problem(model, _pairs(model, True, answers=list("abcde")), "kl", batch_size=2)
    problem.baselines()
    calls = []
    from edgewise.patching import accuracy

    kept = accuracy._clean_rows
    monkeypatch.setattr(accuracy, "_clean_rows", lambda *args: calls.append(args) or kept(*args))
    found = problem.accuracy()
    assert problem.accuracy() is found
    assert len(calls) == 1, "the other convention alone"
    fresh = ew.Problem(model, problem.pairs, "kl")
    assert fresh.accuracy().to_json() == found.to_json()


def test_prompts_without_answers_have_nothing_to_judge_by(model):
    assert ew.Problem(model, _pairs(model, True), "kl").accuracy() is None
    program = ew.load_task(
        "tracr-histogram"
    ).problem  # outputs at every position are no next tokens
    assert program.accuracy() is None


def test_within_a_prompt_the_next_token_is_right():
    task = ew.load_task("induction", "small-lm", n=8)
    found = task.problem.accuracy()
    pairs, model = task.problem.pairs, task.problem.model
    top = model(pairs.clean).argmax(dim=-1)
    right = [
        sum(top[i, k] == pairs.clean[i, k + 1] for k in range(13, 23)).item() / 10 for i in range(8)
    ]
    assert found.metric == "next-token"
    assert found.values["next-token"].tolist() == pytest.approx(right)
    assert found.share > 0.9


def test_a_convention_that_cannot_be_run_is_not_tried(model):
    long = ew.PromptPairs.from_text(
        ["abcdefghi"], ["ihgfedcba"], tokenizer=model, bos=False, answers=["a"], wrong=["b"]
    )
    swapped = replace(long, answers=long.wrong, wrong=long.answers)
    shares = [ew.Problem(model, pairs, "kl").accuracy() for pairs in (long, swapped)]
    assert {found.other_bos for found in shares} == {None}, "it has 9 tokens, and takes no more"
    at_bos = replace(_pairs(model, True, answers=list("abcde")), answer_at=torch.eye(6)[:5] > 2)
    at_bos.answer_at[:, 0] = True
    assert ew.Problem(model, at_bos, "kl").accuracy().other_bos is None
    plain = random_model(d_vocab=11, d_vocab_out=11)
    tokens = ew.PromptPairs.from_tokens([[1, 2]], [[2, 1]], answers=[3], wrong=[4])
    found = ew.Problem(plain, tokens, "kl").accuracy()
    assert (found.bos, found.other_bos) == (None, None), "no tokenizer, no BOS"


def test_a_run_records_it_and_warns(model):
    answers, wrong = list("abcde"), list("fghia")
    pairs = _pairs(model, True, answers=answers, wrong=wrong)
    low = ew.Problem(model, pairs, "logit-diff")
    run = ew.eap(low, edges=3)
    found = low.accuracy()
    assert run.measurements["accuracy"] == found.to_json()
    assert [note for note in run.notes if "right on" in note] == [f"On these prompts {found}"]
    program = ew.discover(ew.load_task("tracr-reverse").problem, threshold=0.1)
    assert "accuracy" not in program.measurements
    good = ew.eap(ew.load_task("ioi", n=5, metric="logit-diff").problem, edges=3)
    assert good.measurements["accuracy"]["share"] == 1
    assert not [note for note in good.notes if "right on" in note]


# --- the command line


def test_discover_says_it_before_the_work_and_json_stays_clean(capsys):
    ask = (
        "discover",
        "--task",
        "ioi",
        "--n",
        "5",
        "--method",
        "eap",
        "--metric",
        "logit-diff",
        "--edges",
        "3",
    )
    code, out, err = edgewise(capsys, *ask)
    assert code == 0
    line = "The full model is right on 100% of 5 prompts (the best right answer beats the best "
    assert line in " ".join(err.split())
    code, out, err = edgewise(capsys, *ask, "--json")
    assert json.loads(out)["measurements"]["accuracy"]["share"] == 1
    code, out, err = edgewise(capsys, "discover", "--task", "or-gate", "--threshold", "1")
    assert "The prompts have no answers to judge the full model by." in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("ioj",), "no task named 'ioj'. Did you mean 'ioi'"),
        (("ioi", "--columns", "clean=x"), "--columns is for --pairs; a task has its prompts."),
        (("x.jsonl", "--n", "3"), "--n is for tasks; a file has its prompts."),
        (("tracr-reverse", "--bos"), "tracr-reverse has no choice of bos"),
    ],
)
def test_what_does_not_fit(capsys, more, message):
    code, _, err = edgewise(capsys, "tasks", "check", *more)
    assert code == 2
    assert message in " ".join(err.split())
