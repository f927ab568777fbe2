"""Answers of several tokens: by their first token where it tells right from wrong, else whole."""

from dataclasses import replace

import pytest
import torch
import transformers

import edgewise as ew
from edgewise.data import PromptPairs, random_tokens, shuffled
from edgewise.data.prompt_checks import cautions
from edgewise.errors import ProblemError, SettingError
from edgewise.evaluation import faithfulness
from language_models import LongestWord
from models import random_model
from tiny_tokenizers import tiny

CLEAN = ["Ann saw the", "The dog saw the"]
CORRUPTED = ["Ann dog the", "The cat saw the"]


def pairs_of(answers, wrong=None, kind="byte-level", **options) -> PromptPairs:
    return PromptPairs.from_text(
        CLEAN, options.pop("corrupted", None), tokenizer=tiny(kind),
        answers=answers, wrong=wrong, **options,
    )  # fmt: skip


def pieces(text, kind="byte-level") -> list[int]:
    return tiny(kind).encode(text)


def test_the_first_token_is_scored_where_it_tells_right_from_wrong():
    assert len(pieces(" Paris Rome")) > 1
    pairs = pairs_of([" Paris Rome", " Rome"], [" cat", " dog"])
    assert pairs.answers.tolist() == [[pieces(" Paris Rome")[0]], [pieces(" Rome")[0]]]
    assert not pairs.whole_answers
    (note,) = pairs.notes
    assert "1 answer has several tokens (such as ' Paris Rome')" in note
    assert "the first token of an answer is scored" in note
    assert cautions(pairs, ["line 1", "line 2"])[0] == note
    assert pairs_of([" Rome", " dog"]).notes == ()


def test_whole_answers_where_a_wrong_one_begins_alike():
    right, wrong = " Paris Rome", " Paris dog"
    pairs = pairs_of([right, " Rome"], [wrong, " dog"], spans={"end": -1, "verb": "saw"})
    n = [len(pieces(text)) for text in CLEAN]
    k = [len(pieces(right)), 1]
    assert pairs.whole_answers
    assert pairs.wrong is None
    assert pairs.lengths.tolist() == [n[0] + k[0] - 1, n[1]]
    assert pairs.clean[0][pairs.real[0]].tolist() == pieces(CLEAN[0] + right)[:-1]
    assert pairs.answer_at[0].nonzero().flatten().tolist() == list(range(n[0] - 1, n[0] + k[0] - 1))
    assert pairs.answers[0].tolist() == pieces(right)
    assert pairs.spans["end"].nonzero()[:, 1].tolist() == [n[0] - 1, n[1] - 1]
    assert pairs.answers_in_order.flatten().tolist() == [*pieces(right), pieces(" Rome")[0]]
    assert "1 prompt has a right answer that begins with the same token" in pairs.notes[0]
    left = pairs_of(
        [right, " Rome"], [wrong, " dog"], spans={"end": -1, "verb": "saw"}, padding="left"
    )
    assert left.sha256 == pairs.sha256
    firsts = PromptPairs.from_tokens(
        [row[real].tolist() for row, real in zip(pairs.clean, pairs.real, strict=True)],
        answers=[row[:k[i]].tolist() for i, row in enumerate(pairs.answers)],
        answer_positions=[at.nonzero().flatten().tolist() for at in pairs.answer_at],
        spans={"end": [n[0] - 1, n[1] - 1], "verb": [n[0] - 2, n[1] - 2]},
    )  # fmt: skip
    assert firsts.sha256 != pairs.sha256, "several right answers, each at every position"


@pytest.fixture(scope="module")
def model():
    size = len(tiny("byte-level"))
    made = random_model(d_vocab=size, d_vocab_out=size, n_ctx=32)
    return replace(made, tokenizer=ew.data.tokenizers.as_tokenizer(tiny("byte-level")))


def test_nll_is_minus_the_mean_log_probability_of_the_whole_answer(model):
    right = [" Paris Rome", " Rome is"]
    pairs = pairs_of(right, [" Paris dog", " Rome dog"], corrupted=CORRUPTED)
    problem = ew.Problem(model, pairs, "nll", "zero")
    value = problem.per_prompt(ew.Circuit.full(problem.graph))
    for i, (prompt, answer) in enumerate(zip(CLEAN, right, strict=True)):
        ids, own = pieces(prompt + answer), pieces(answer)
        real = torch.ones(1, len(ids), dtype=torch.bool)
        logs = model(torch.tensor([ids]), real)[0].log_softmax(dim=-1)
        at = torch.arange(len(ids) - len(own) - 1, len(ids) - 1)
        wanted = -logs[at, torch.tensor(own)].mean()
        torch.testing.assert_close(value[i].double(), wanted.double(), rtol=1e-6, atol=1e-6)
    pooled = problem.with_(pairs=pairs.by_position())
    each = pooled.per_prompt(ew.Circuit.full(problem.graph))
    counts = torch.tensor([len(pieces(answer)) for answer in right])
    again = torch.stack([part.mean() for part in each.split(counts.tolist())])
    torch.testing.assert_close(again, value)
    run = ew.discover(problem.with_(ablation="corrupted"), "eap-ig", edges=5, steps=2)
    assert run.notes[0] == pairs.notes[0]
    assert faithfulness(problem, run.circuit)
    with pytest.raises(ProblemError, match="whole answers are scored; use nll, match-nll, accur"):
        ew.Problem(model, pairs, "logit-diff", "zero")


def test_whole_answers_stay_behind_corrupted_prompts():
    pairs = pairs_of([" Paris Rome", " Rome"], [" Paris dog", " dog"])
    noisy = random_tokens(pairs, len(tiny("byte-level")), seed=1)
    assert (noisy.corrupted == pairs.clean)[0, -pairs.forced[0].sum() :].all()
    assert (noisy.corrupted != pairs.clean)[pairs.real & ~pairs.forced].all()
    with pytest.raises(SettingError, match="whole answers stand behind the prompts"):
        shuffled(pairs)


def test_whole_answers_that_cannot_be_scored():
    with pytest.raises(ProblemError, match="pair 1: it has 2 right answers; as pair 0 has one"):
        pairs_of([" Paris Rome", [" Rome", " dog"]], [" Paris dog", " cat"])
    with pytest.raises(ProblemError, match="leave answer_positions out"):
        pairs_of([" Paris Rome", " Rome"], [" Paris dog", " dog"], answer_positions=[0, 0])


# --- spaces


def llama_2() -> transformers.PreTrainedTokenizerFast:
    return tiny("prepend")


@pytest.mark.parametrize("given", [["table.", "Rome"], [" table.", " Rome"]])
def test_an_answer_is_read_as_it_stands_behind_its_prompt(given):
    """A tokenizer that puts a space before every text reads both spellings as the same token."""
    pairs = pairs_of(given, kind="prepend")
    words = llama_2().convert_ids_to_tokens(pairs.answers.flatten().tolist())
    assert words == ["▁table.", "▁Rome"]
    assert pairs.notes == ()


def test_text_without_spaces_goes_on_without_one():
    tokenizer = tiny("metaspace")
    pairs = PromptPairs.from_text(["李强把花给了"], tokenizer=tokenizer, answers=["王丽"])
    assert tokenizer.convert_ids_to_tokens(pairs.answers[0].tolist()) == ["王丽"]


def test_the_hint_names_the_spelling_that_is_one_token():
    with pytest.raises(ProblemError, match="'Rome' is 2 tokens .*; with a leading space it is"):
        pairs_of(["Rome", " dog"])
    tokenizer = LongestWord(["Ann", " saw", "dog", " ", "do", "g"])
    ids = tokenizer.encode(" dog")
    assert len(ids) == 2
    assert pieces("t") != pieces(" t")
    (note,) = pairs_of(["t", " dog"]).notes
    assert note.startswith("1 answer runs into the prompt's last word, such as 't'; ' t' is a tok")
    with pytest.raises(ProblemError, match="' dog' is 2 tokens .*; without its leading space it"):
        PromptPairs.from_dataset([{"clean": [1, 2], "answers": [" dog"]}], tokenizer=tokenizer)
    assert PromptPairs.from_text(["Ann saw"], tokenizer=tokenizer, answers=[" dog"]).notes
