"""Prompt pairs from tokens and text: padding means nothing, and all faults are told at once."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from words import letters, positions

from edgewise.data import PromptPairs
from edgewise.errors import ProblemError, SettingError

fixed = settings(derandomize=True, deadline=None, max_examples=60)
make = PromptPairs.from_tokens
PADDED = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
LENGTHS = [3, 2]
ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4)


# --- from tokens


def test_tensors_arrays_and_ragged_lists_say_the_same():
    corrupted = torch.tensor([[1, 9, 3, 0, 0], [4, 8, 0, 0, 0]])
    ragged = make([[1, 2, 3], [4, 5]], [[1, 9, 3], [4, 8]], answers=[6, 7])
    padded = make(PADDED, corrupted, answers=torch.tensor([6, 7]), lengths=torch.tensor(LENGTHS))
    arrays = make(
        PADDED.numpy(), corrupted.numpy().astype(np.int32), answers=np.array([[6], [7]]),
        lengths=np.array(LENGTHS),
    )  # fmt: skip
    for pairs, width in ((ragged, 3), (padded, 5), (arrays, 5)):  # a padded batch keeps its width
        assert pairs.n_positions == width
        assert pairs.clean[:, :3].tolist() == [[1, 2, 3], [4, 5, 0]]
        assert pairs.real.sum(dim=1).tolist() == pairs.lengths.tolist() == LENGTHS
        assert pairs.answers.tolist() == [[6], [7]]
        assert pairs.clean.dtype == pairs.lengths.dtype == pairs.answers.dtype == torch.int64
        # The same on every machine: runs of before are recognised by it.
        assert pairs.sha256 == "f962134736de89996404433a82c082887860e2563c6b8fe79a2b8784b5789412"
    assert make(PADDED).lengths.tolist() == [5, 5]
    assert repr(ragged) == "PromptPairs(2 of 2 to 3 tokens, tokens)"


def test_left_padding_puts_the_end_of_every_prompt_last():
    pairs = make([[1, 2, 3], [4, 5]], padding="left", answer_positions=[0, -1])
    assert pairs.clean[1, 1:].tolist() == [4, 5]
    assert pairs.real.tolist() == [[True, True, True], [False, True, True]]
    assert positions(pairs) == [[0], [2]]


def test_several_answers_are_padded_with_minus_one():
    pairs = make([[1], [2]], answers=[[5], [6, 7]], wrong=[[1, 2, 3], [4, 4]])
    assert pairs.answers.tolist() == [[5, -1], [6, 7]]
    assert pairs.wrong.tolist() == [[1, 2, 3], [4, -1, -1]], "given twice, it would count twice"
    same = make([[1], [2]], answers=pairs.answers, wrong=pairs.wrong)
    assert same.sha256 == pairs.sha256


def test_answer_positions_are_indices_from_either_end_or_a_mask():
    for at in ([0, -1], torch.tensor([0, -1]), [-3, 1]):
        assert positions(make([[1, 2, 3], [4, 5]], answer_positions=at)) == [[0], [1]]
    mask = torch.tensor([[True, False, True], [True, True, False]])
    for given_mask in (mask, mask.numpy()):
        pairs = make([[1, 2, 3], [4, 5]], answer_positions=given_mask)
        assert positions(pairs) == [[0, 2], [0, 1]]
    wide = torch.zeros(2, 5, dtype=torch.bool)
    wide[:, 3:] = True  # as wide as the tensor it came with, wider than its longest prompt
    pairs = make(PADDED.flip(1), lengths=LENGTHS, answer_positions=wide, padding="left")
    assert positions(pairs) == [[3, 4], [3, 4]]


# --- faults


def test_every_fault_is_reported_at_once_and_only_once():
    with pytest.raises(ProblemError, match="mine: 6 faults") as caught:
        make([[1, 2], [3], []], [[1], [3, 4], []], answers=[1], wrong=[[], [1], 2], source="mine")
    places = [(fault.where, fault.column) for fault in caught.value.faults]
    assert places == [
        ("", ""), ("pair 0", "corrupted"), ("pair 0", "wrong"), ("pair 1", "corrupted"),
        ("pair 2", "clean"), ("pair 2", "corrupted"),
    ]  # fmt: skip


ONES = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clean": []}, "there are no prompts"),
        ({"clean": torch.zeros(0, 4, dtype=torch.int64)}, "there are no prompts"),
        ({"clean": [[1], []]}, "pair 1: the clean prompt is empty"),
        ({"clean": [[1], [2]], "corrupted": [[1]]}, "there are 1 corrupted for 2 prompts"),
        ({"clean": [[1]], "answers": torch.tensor([[-1]])}, "pair 0, answers: it is empty"),
        ({"clean": PADDED, "lengths": [6, 1]}, "pair 0.*: length 6 does not fit 5 clean tokens"),
        ({"clean": PADDED, "lengths": [5]}, "there are 1 lengths for 2 prompts"),
        ({"clean": [[1, 2]], "answer_positions": [2]}, "2 is no answer position of its 2 tokens"),
        ({"clean": [[1, 2], [3]], "answer_positions": ONES}, "pair 1.*: padding is no answer"),
        ({"clean": [[1, 2]], "answer_positions": ~ONES[:1]}, "it has no answer position"),
        ({"clean": [[1], [2]], "answer_positions": ONES}, "has 2 entries for 1 positions"),
    ],
)
def test_each_fault_says_where_and_what(arguments, message):
    with pytest.raises(ProblemError, match=f"(?s)my prompts: .*{message}"):
        make(arguments.pop("clean"), **arguments, source="my prompts")


# A process of its own, where no runtime type check refuses these before the library does.
WRONG_TYPES = """
import torch
from edgewise.data import PromptPairs
from edgewise.errors import ProblemError, SettingError
make, rows = PromptPairs.from_tokens, torch.tensor([[1, 2], [3, 4]])
cases = {
    "fractions for ids": lambda: make([[1.7, 2]]),
    "words for ids": lambda: make([["1", "x"]]),
    "None for an id": lambda: make([[1, None]]),
    "None for a prompt": lambda: make([[1]], [None]),
    "None for an answer": lambda: make([[1]], answers=[None]),
    "one list for a list of lists": lambda: make([1, 2]),
    "fractions for ids, in a tensor": lambda: make(rows / 2, rows, answers=[1, 2]),
    "ids [pos] for [batch pos]": lambda: make(rows[0], rows, answers=[1, 2]),
    "truth values for ids": lambda: make(rows.bool()),
    "fractions for answers": lambda: make(rows, answers=[1.5, 2.5]),
    "words for answers": lambda: make(rows, answers=["a", "b"]),
    "one number for answers": lambda: make(rows, answers=torch.tensor(3)),
    "answers [batch answer more]": lambda: make(rows, answers=torch.ones(2, 1, 2).long()),
    "fractions for lengths": lambda: make(rows, lengths=[1.9, 2]),
    "lengths [batch 1]": lambda: make(rows, lengths=torch.tensor([[1], [2]])),
    "fractions for positions": lambda: make(rows, answer_positions=[0.9, 1]),
    "an integer mask": lambda: make(rows, answer_positions=torch.ones(2, 2).long()),
    "an id beyond int64": lambda: make([[10**30]]),
    "an answer beyond int64": lambda: make([[1]], answers=[10**30]),
    "padding in the centre": lambda: make(rows, padding="centre"),
}
for name, case in cases.items():
    try:
        case()
        print(name, "is accepted")
    except (ProblemError, SettingError) as error:
        if "for 0" in str(error):
            print(name, "brings faults of its own making:", error)
"""


def test_wrong_types_are_refused_by_name_outside_the_tests_too():
    command = [sys.executable, "-c", WRONG_TYPES]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


# --- the content hash


@fixed
@given(ROWS, st.integers(0, 3), st.data())
def test_padding_does_not_change_the_hash(rows, extra, data):
    answers = [data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)) for _ in rows]
    at = [data.draw(st.integers(-len(row), len(row) - 1)) for row in rows]
    from_start = [k % len(row) for k, row in zip(at, rows, strict=True)]
    spans = {"a": [data.draw(st.integers(0, len(row) - 1)) for row in rows], "z": 0}
    spans = spans if all(spans["a"]) else {"a": spans["a"]}
    width, sizes = max(map(len, rows)) + extra, [len(row) for row in rows]
    right = torch.tensor([row + [8] * (width - len(row)) for row in rows])
    left = torch.tensor([[8] * (width - len(row)) + row for row in rows])
    how = {"answers": answers, "answer_positions": at, "spans": spans}
    same = [
        make(rows, rows, **how),
        make(rows, rows, **how | {"answer_positions": from_start}),
        make(rows, rows, **how, padding="left"),
        make(right, right, **how, lengths=sizes),
        make(left, left, **how, lengths=sizes, padding="left"),
    ]
    assert len({pairs.sha256 for pairs in same}) == 1


def test_content_changes_the_hash():
    different = [
        make([[1, 2]]),
        make([[2, 1]]),
        make([[1, 2, 0]]),
        make([[1], [2]]),
        make([[1, 2]], [[1, 2]]),
        make([[1, 2]], [[2, 1]]),
        make([[1, 2]], answers=[1]),
        make([[1, 2]], wrong=[1]),
        make([[1, 2]], answers=[[1, 2]]),
        make([[1, 2]], answers=[1], wrong=[2]),
        make([[1, 2]], answer_positions=[0]),
        make([[1, 2], [1, 2]]),
        make([[1, 2]], spans={"a": 0}),
        make([[1, 2]], spans={"b": 0}),
        make([[1, 2]], spans={"a": 1}),
        make([[1, 2]], spans={"a": [[0, 1]]}),
        make([[1, 2]], spans={"a": 0, "b": 1}),
    ]
    assert len({pairs.sha256 for pairs in different}) == len(different)


# --- new pairs from old


@fixed
@given(ROWS, st.integers(1, 6) | st.none())
def test_batches_are_the_pairs_in_order(rows, size):
    pairs = make(rows, rows, answers=[row[0] for row in rows], spans={"a": 0}, padding="left")
    batches = pairs.batches(size)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    for name in ("clean", "corrupted", "lengths", "answer_at", "answers", "real"):
        parts = [getattr(batch, name) for batch in batches]
        assert torch.equal(torch.cat(parts), getattr(pairs, name))
    assert torch.equal(torch.cat([batch.spans["a"] for batch in batches]), pairs.spans["a"])
    assert pairs.taken([*range(len(rows))]).sha256 == pairs.sha256
    with pytest.raises(SettingError, match="there are rows 0 to"):
        pairs.taken([len(rows)])
    with pytest.raises(SettingError, match="a batch of 0"):
        pairs.batches(0)


def test_nothing_changes_what_it_was_given_nor_later_with_it():
    clean, answers, lengths = PADDED.clone(), torch.tensor([[1, -1], [2, 3]]), torch.tensor(LENGTHS)
    mask = torch.ones(2, 5, dtype=torch.bool) & (clean > 0)
    pairs = make(clean, clean, answers=answers, lengths=lengths, spans={"a": mask})
    before = pairs.sha256
    pairs.batches(1), pairs.subset(0, 1), pairs.real
    assert torch.equal(clean, PADDED)
    clean.zero_(), answers.zero_(), lengths.zero_(), mask.zero_()
    assert pairs.subset(0, 2).sha256 == before
    with pytest.raises(TypeError):
        pairs.spans["b"] = pairs.spans["a"]


# --- from text


def test_text_is_its_tokens_and_bos_goes_before_every_prompt_and_no_answer():
    text = PromptPairs.from_text(
        ["abc", "ca"], ["bbc", "cb"], tokenizer=letters(), answers=[" yes", 5],
        wrong=[[" no", "a"], [" yes"]], bos=True,
    )  # fmt: skip
    tokens = make(
        [[0, 1, 2, 3], [0, 3, 1]], [[0, 2, 2, 3], [0, 3, 2]], answers=[4, 5], wrong=[[5, 1], [4]]
    )
    assert text.sha256 == tokens.sha256
    with pytest.raises(ProblemError, match="pair 0, clean: the text begins with the BOS"):
        PromptPairs.from_text(["<bos>ab"], tokenizer=letters(), bos=True)
    without = letters()
    without.bos = None
    with pytest.raises(ProblemError, match="the tokenizer has no BOS token"):
        PromptPairs.from_text(["ab"], tokenizer=without, bos=True)


def test_a_model_or_a_tokenizer_of_transformers_will_do_for_text():
    class OfTransformers:
        bos_token_id = 7

        def encode(self, text, add_special_tokens):
            assert not add_special_tokens
            return [ord(letter) for letter in text]

        def decode(self, ids):
            return "".join(map(chr, ids))

    class Model:
        tokenizer = OfTransformers()

    for source in (OfTransformers(), Model()):
        pairs = PromptPairs.from_text(["ab"], ["ac"], tokenizer=source, bos=True, answers=["d"])
        assert (pairs.clean.tolist(), pairs.answers.tolist()) == ([[7, 97, 98]], [[100]])
    with pytest.raises(ProblemError, match="text need a tokenizer; pass the model"):
        PromptPairs.from_text(["ab"], tokenizer=None)


def test_every_fault_of_text_is_reported_at_once():
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_text(
            ["ab", "zz"], tokenizer=letters(), answers=["yes", "q"], wrong=["a", ""]
        )
    places = [(fault.where, fault.column) for fault in caught.value.faults]
    pairs = ["pair 0", "pair 1", "pair 1", "pair 1"]
    assert places == list(zip(pairs, ["answers", "clean", "answers", "wrong"], strict=True))
    for texts in ({"clean": "ab"}, {"clean": ["a", "b"], "answers": "ab"}):
        with pytest.raises(ProblemError, match="list"):  # of letters
            PromptPairs.from_text(texts.pop("clean"), **texts, tokenizer=letters())
