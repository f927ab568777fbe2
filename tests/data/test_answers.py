"""Answers of several tokens: by their first token where it tells right from wrong, else whole."""

from dataclasses import replace

import pytest
import torch
from words import letters, positions

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


def pairs_of(answers, wrong=None, kind="byte-level", corrupted=None, **options) -> PromptPairs:
    return PromptPairs.from_text(
        CLEAN, corrupted, tokenizer=tiny(kind), answers=answers, wrong=wrong, **options
    )


def pieces(text) -> list[int]:
    return tiny("byte-level").encode(text)


def test_the_first_token_is_scored_where_it_tells_right_from_wrong():
    assert len(pieces(" Paris Rome")) > 1
    pairs = pairs_of([" Paris Rome", " Rome"], [" cat", " dog"])
    assert pairs.answers.tolist() == [[pieces(" Paris Rome")[0]], [pieces(" Rome")[0]]]
    assert not pairs.whole_answers
    (note,) = pairs.notes
    assert "in 1 of 2 prompts, such as pair 0, an answer has several tokens; the first" in note
    assert cautions(pairs, ["line 1", "line 2"])[0] == note
    assert pairs_of([" Rome", " dog"]).notes == ()


def test_whole_answers_where_a_wrong_one_begins_alike():
    right, spans = " Paris Rome", {"end": -1, "verb": "saw"}
    pairs = pairs_of([right, " Rome"], [" Paris dog", " dog"], spans=spans)
    n = [len(pieces(text)) for text in CLEAN]
    k = len(pieces(right))
    assert (pairs.whole_answers, pairs.wrong) == (True, None)
    assert pairs.lengths.tolist() == [n[0] + k - 1, n[1]]
    assert pairs.clean[0][pairs.real[0]].tolist() == pieces(CLEAN[0] + right)[:-1]
    assert positions(pairs)[0] == list(range(n[0] - 1, n[0] + k - 1))
    assert pairs.answers[0].tolist() == pieces(right)
    assert positions(pairs, "end") == [[n[0] - 1], [n[1] - 1]]
    assert pairs.answers_in_order.flatten().tolist() == [*pieces(right), pieces(" Rome")[0]]
    assert "in 1 of 2 prompts, such as pair 0, a right answer begins with" in pairs.notes[0]
    left = pairs_of([right, " Rome"], [" Paris dog", " dog"], spans=spans, padding="left")
    assert left.sha256 == pairs.sha256
    several = replace(pairs, whole_answers=False)
    assert several.sha256 != pairs.sha256, "several right answers, each at every position"


def test_nll_is_minus_the_mean_log_probability_of_the_whole_answer():
    tokenizer = ew.data.as_tokenizer(tiny("byte-level"))
    size = tokenizer.n_tokens
    model = replace(random_model(d_vocab=size, d_vocab_out=size, n_ctx=32), tokenizer=tokenizer)
    right = [" Paris Rome", " Rome is"]
    pairs = pairs_of(right, [" Paris dog", " Rome dog"], corrupted=CORRUPTED)
    problem = ew.Problem(model, pairs, "nll", "zero")
    value = problem.per_prompt(ew.Circuit.full(problem.graph))
    for i, (prompt, answer) in enumerate(zip(CLEAN, right, strict=True)):
        ids, own = pieces(prompt + answer), pieces(answer)
        logs = model(torch.tensor([ids]), torch.ones(1, len(ids)).bool())[0].log_softmax(dim=-1)
        at = torch.arange(len(ids) - len(own) - 1, len(ids) - 1)
        expected = -logs[at, torch.tensor(own)].mean()
        torch.testing.assert_close(value[i].double(), expected.double(), rtol=1e-6, atol=1e-6)
    pooled = problem.with_(pairs=pairs.by_position())
    rows = pooled.per_prompt(ew.Circuit.full(problem.graph))
    means = [part.mean() for part in rows.split([len(pieces(answer)) for answer in right])]
    torch.testing.assert_close(torch.stack(means), value)
    run = ew.discover(problem.with_(ablation="corrupted"), "eap-ig", edges=5, steps=2)
    assert run.notes[0] == pairs.notes[0]
    assert faithfulness(problem, run.circuit)
    with pytest.raises(ProblemError, match="whole answers are scored; use nll, match-nll, accur"):
        ew.Problem(model, pairs, "logit-diff", "zero")


def test_whole_answers_stay_behind_corrupted_prompts():
    pairs = pairs_of([" Paris Rome", " Rome"], [" Paris dog", " dog"])
    noisy = random_tokens(pairs, len(tiny("byte-level")), seed=1)
    same = noisy.corrupted == pairs.clean
    assert pairs.forced.any()
    assert torch.equal(same[pairs.real], pairs.forced[pairs.real])
    with pytest.raises(SettingError, match="whole answers stand behind the prompts"):
        shuffled(pairs)


def test_whole_answers_that_cannot_be_scored():
    with pytest.raises(
        ProblemError, match="pair 1.*as an answer of pair 0 begins .* give a prompt one"
    ):
        pairs_of([" Paris Rome", [" Rome", " dog"]], [" Paris dog", " cat"])
    with pytest.raises(ProblemError, match="no answer_positions"):
        pairs_of([" Paris Rome", " Rome"], [" Paris dog", " dog"], answer_positions=[0, 0])


# --- spaces


@pytest.mark.parametrize("answers", [["table.", "Rome"], [" table.", " Rome"]])
def test_an_answer_is_read_as_it_stands_behind_its_prompt(answers):
    """A tokenizer that puts a space before every text reads both spellings as the same token."""
    pairs = pairs_of(answers, kind="prepend")
    words = tiny("prepend").convert_ids_to_tokens(pairs.answers.flatten().tolist())
    assert (words, pairs.notes) == (["▁table.", "▁Rome"], ())


def test_text_without_spaces_goes_on_without_one():
    tokenizer = tiny("metaspace")
    pairs = PromptPairs.from_text(["李强把花给了"], tokenizer=tokenizer, answers=["王丽"])
    assert tokenizer.convert_ids_to_tokens(pairs.answers[0].tolist()) == ["王丽"]


def test_the_hint_names_the_spelling_that_is_one_token():
    with pytest.raises(ProblemError, match="'Rome' is 2 tokens .*; with a leading space it is"):
        pairs_of(["Rome", " dog"])
    (note,) = pairs_of(["t", " dog"]).notes
    assert note.startswith("1 answer runs into the prompt's last word, such as 't'; ' t' is a tok")
    tokenizer = LongestWord(["Ann", " saw", "dog", " ", "do", "g"])
    with pytest.raises(ProblemError, match="' dog' is 2 tokens .*; without its leading space it"):
        PromptPairs.from_dataset([{"clean": [1, 2], "answers": [" dog"]}], tokenizer=tokenizer)
    assert PromptPairs.from_text(["Ann saw"], tokenizer=tokenizer, answers=[" dog"]).notes
    assert PromptPairs.from_text(["ab"], tokenizer=letters(), answers=["c"]).notes == ()
