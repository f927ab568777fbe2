"""Prompt pairs: from tokens, text and files; padding means nothing; all faults at once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.data import PromptPairs
from edgewise.errors import EdgewiseError, FormatError, ProblemError, SettingError

fixed = settings(derandomize=True, deadline=None, max_examples=60)
PADDED = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
LENGTHS = [3, 2]


def places(pairs: PromptPairs) -> list[list[int]]:
    """Where each prompt's answer is read, in the padded row."""
    return [row.nonzero().flatten().tolist() for row in pairs.answer_at]


# --- from tokens


def test_tensors_lists_and_ragged_lists_say_the_same():
    ragged = PromptPairs.from_tokens([[1, 2, 3], [4, 5]], [[1, 9, 3], [4, 8]], answers=[6, 7])
    padded = PromptPairs.from_tokens(
        PADDED,
        torch.tensor([[1, 9, 3, 0, 0], [4, 8, 0, 0, 0]]),
        answers=torch.tensor([6, 7]),
        lengths=torch.tensor(LENGTHS),
    )
    for pairs, width in ((ragged, 3), (padded, 5)):  # a batch padded by the user keeps its width
        assert pairs.n_positions == width
        assert pairs.clean[:, :3].tolist() == [[1, 2, 3], [4, 5, 0]]
        assert pairs.corrupted[:, :3].tolist() == [[1, 9, 3], [4, 8, 0]]
        assert pairs.lengths.tolist() == LENGTHS
        assert pairs.real[:, :3].tolist() == [[True, True, True], [True, True, False]]
        assert not pairs.real[:, 3:].any()
        assert pairs.answers.tolist() == [[6], [7]]
        assert pairs.wrong is None
        assert places(pairs) == [[2], [1]]
        assert len(pairs) == 2
        assert pairs.clean.dtype == pairs.lengths.dtype == pairs.answers.dtype == torch.int64


def test_left_padding_puts_every_prompts_end_last():
    pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5]], padding="left", answer_positions=[0, -1])
    assert pairs.clean[0].tolist() == [1, 2, 3]
    assert pairs.clean[1, 1:].tolist() == [4, 5]
    assert pairs.real.tolist() == [[True, True, True], [False, True, True]]
    assert places(pairs) == [[0], [2]]
    assert places(PromptPairs.from_tokens([[1, 2, 3], [4, 5]], padding="left")) == [[2], [2]]


def test_without_lengths_a_tensor_is_all_tokens():
    assert PromptPairs.from_tokens(PADDED).lengths.tolist() == [5, 5]


def test_several_answers_are_padded_with_minus_one():
    pairs = PromptPairs.from_tokens([[1], [2]], answers=[[5], [6, 7]], wrong=[[1, 2, 3], [4]])
    assert pairs.answers.tolist() == [[5, -1], [6, 7]]
    assert pairs.wrong.tolist() == [[1, 2, 3], [4, -1, -1]]
    same = PromptPairs.from_tokens(
        [[1], [2]],
        answers=torch.tensor([[5, -1], [6, 7]]),
        wrong=torch.tensor([[1, 2, 3], [4, -1, -1]]),
    )
    assert same.sha256 == pairs.sha256


def test_answer_positions_count_from_either_end_of_the_prompts_own_tokens():
    for positions in ([0, -1], torch.tensor([0, -1]), [-3, 1]):
        pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5]], answer_positions=positions)
        assert places(pairs) == [[0], [1]]


def test_an_answer_mask_may_mark_several_positions():
    mask = torch.tensor([[True, False, True], [True, True, False]])
    pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5]], answer_positions=mask)
    assert places(pairs) == [[0, 2], [0, 1]]
    mask.zero_()
    assert places(pairs) == [[0, 2], [0, 1]]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_an_answer_mask_has_the_shape_of_the_tokens_it_came_with(padding):
    """The tensor is wider than its longest prompt; the mask is as wide as the tensor."""
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[:, [0, 1] if padding == "right" else [3, 4]] = True
    pairs = PromptPairs.from_tokens(
        PADDED if padding == "right" else PADDED.flip(1),
        lengths=LENGTHS,
        answer_positions=mask,
        padding=padding,
    )
    assert places(pairs) == ([[0, 1], [0, 1]] if padding == "right" else [[3, 4], [3, 4]])


def test_numpy_arrays_and_small_integers_will_do():
    clean, corrupted = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[1, 9, 3], [4, 9, 6]])
    pairs = PromptPairs.from_tokens(
        clean,
        corrupted.astype(np.int32),
        answers=np.array([[1], [2]]),
        wrong=torch.tensor([3, 4], dtype=torch.int32),
        lengths=np.array([2, 3]),
    )
    assert pairs.lengths.tolist() == [2, 3]
    assert (pairs.answers.tolist(), pairs.wrong.tolist()) == ([[1], [2]], [[3], [4]])
    mask = np.array([[True, False, True], [False, False, True]])
    assert places(PromptPairs.from_tokens(clean, answer_positions=mask)) == [[0, 2], [2]]


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
        assert pairs.clean.tolist() == [[7, 97, 98]]
        assert pairs.answers.tolist() == [[100]]
    with pytest.raises(ProblemError, match="text need a tokenizer; pass the model"):
        PromptPairs.from_text(["ab"], tokenizer=None)


def test_repr_is_short():
    assert (
        repr(PromptPairs.from_tokens([[1, 2, 3], [4, 5]]))
        == "PromptPairs(2 of 2 to 3 tokens, tokens)"
    )


# --- faults


def faults_of(*args, **kwargs) -> list[str]:
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_tokens(*args, **kwargs)
    return list(caught.value.faults)


def test_every_fault_is_reported_at_once():
    found = faults_of(
        [[1, 2], [3], []], [[1], [3, 4], []], answers=[1, 2], wrong=[[], [1], [2]], source="mine"
    )
    assert found == [
        "there are 2 answers for 3 prompts.",
        "pair 0: clean has 2 tokens, corrupted 1. Pairs must have equal length.",
        "pair 0: wrong is empty.",
        "pair 1: clean has 1 tokens, corrupted 2. Pairs must have equal length.",
        "pair 2: the clean prompt is empty.",
    ]


def test_one_fault_is_told_once():
    assert len(faults_of(PADDED, PADDED, lengths=[3])) == 1
    assert len(faults_of(PADDED, lengths=[3, 0])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clean": []}, "there are no prompts"),
        ({"clean": torch.zeros(0, 4, dtype=torch.int64)}, "there are no prompts"),
        ({"clean": [[1], []]}, "pair 1: the clean prompt is empty"),
        ({"clean": [[1], [2]], "corrupted": [[1]]}, "there are 1 corrupted for 2 prompts"),
        ({"clean": [[1]], "answers": [1, 2]}, "there are 2 answers for 1 prompts"),
        ({"clean": [[1]], "wrong": [[]]}, "pair 0: wrong is empty"),
        ({"clean": [[1]], "answers": torch.tensor([[-1]])}, "pair 0: answers is empty"),
        ({"clean": PADDED, "lengths": [6, 1]}, "pair 0: length 6 does not fit 5 clean tokens"),
        ({"clean": PADDED, "lengths": [5, 0]}, "pair 1: length 0 does not fit 5 clean tokens"),
        ({"clean": PADDED, "lengths": [5]}, "there are 1 lengths for 2 prompts"),
        ({"clean": PADDED, "answer_positions": [0]}, "1 answer_positions for 2 prompts"),
        ({"clean": [[1, 2]], "answer_positions": [2]}, "position 2 is outside its 2 tokens"),
        ({"clean": [[1, 2]], "answer_positions": [-3]}, "position -3 is outside its 2 tokens"),
        (
            {"clean": [[1, 2], [3]], "answer_positions": torch.ones(2, 2, dtype=torch.bool)},
            "pair 1, answer_positions: a padded place is no answer position",
        ),
        (
            {"clean": [[1, 2]], "answer_positions": torch.zeros(1, 2, dtype=torch.bool)},
            "pair 0, answer_positions: it has no answer position",
        ),
        (
            {"clean": [[1, 2]], "answer_positions": torch.ones(1, 3, dtype=torch.bool)},
            "the mask of answer positions has 3 entries for 2 positions",
        ),
    ],
)
def test_each_fault_says_where_and_what(arguments, message):
    with pytest.raises(ProblemError, match=f"(?s)my prompts: .*{message}"):
        PromptPairs.from_tokens(arguments.pop("clean"), **arguments, source="my prompts")


# A process of its own, where no runtime type check refuses these before the library does.
WRONG_TYPES = """
import torch
from edgewise.data import PromptPairs
from edgewise.errors import ProblemError
make, rows = PromptPairs.from_tokens, torch.tensor([[1, 2], [3, 4]])
cases = {
    "fractions for ids": lambda: make([[1.7, 2]]),
    "words for ids": lambda: make([["1", "x"]]),
    "None for an id": lambda: make([[1, None]]),
    "one list for a list of lists": lambda: make([1, 2]),
    "fractions for ids, in a tensor": lambda: make(rows / 2, rows, answers=[1, 2]),
    "ids [pos] for [batch pos]": lambda: make(rows[0], rows, answers=[1, 2]),
    "truth values for ids": lambda: make(rows.bool()),
    "fractions for answers": lambda: make(rows, answers=[1.5, 2.5]),
    "a float tensor for answers": lambda: make(rows, answers=torch.tensor([1.0, 2.0])),
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
    except ProblemError as error:
        if any("there are 0" in fault or "for 0" in fault for fault in error.faults):
            print(name, "brings faults of its own making:", *error.faults)
    except Exception as error:
        print(name, "raises", type(error).__name__)
"""


def test_wrong_types_are_refused_by_name_outside_the_tests_too():
    command = [sys.executable, "-c", WRONG_TYPES]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


# --- the content hash

ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4)


@fixed
@given(ROWS, st.integers(0, 3), st.data())
def test_padding_does_not_change_the_hash(rows, extra, data):
    answers = [data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)) for _ in rows]
    at = [data.draw(st.integers(-len(row), len(row) - 1)) for row in rows]
    width, sizes = max(map(len, rows)) + extra, [len(row) for row in rows]
    right = torch.tensor([row + [8] * (width - len(row)) for row in rows])
    left = torch.tensor([[8] * (width - len(row)) + row for row in rows])

    def hashed(clean, **how):
        return PromptPairs.from_tokens(clean, clean, answers=answers, **how).sha256

    assert hashed(rows, answer_positions=at) == hashed(
        rows, answer_positions=[place % size for place, size in zip(at, sizes, strict=True)]
    )
    assert (
        hashed(rows, answer_positions=at)
        == hashed(rows, answer_positions=at, padding="left")
        == hashed(right, answer_positions=at, lengths=sizes)
        == hashed(left, answer_positions=at, lengths=sizes, padding="left")
    )


def test_content_changes_the_hash():
    make = PromptPairs.from_tokens
    every = [
        make([[1, 2]]),
        make([[2, 1]]),
        make([[1, 2, 0]]),
        make([[1], [2]]),
        make([[1, 2]], [[1, 2]]),
        make([[1, 2]], [[2, 1]]),
        make([[1, 2]], answers=[1]),
        make([[1, 2]], wrong=[1]),
        make([[1, 2]], answers=[2]),
        make([[1, 2]], answers=[[1, 2]]),
        make([[1, 2]], answers=[1], wrong=[2]),
        make([[1, 2]], answer_positions=[0]),
        make([[1, 2], [1, 2]]),
    ]
    assert len({pairs.sha256 for pairs in every}) == len(every)


def test_the_hash_is_the_same_on_every_machine():
    pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5]], [[1, 9, 3], [4, 8]], answers=[6, 7])
    assert pairs.sha256 == "f962134736de89996404433a82c082887860e2563c6b8fe79a2b8784b5789412"
    assert (
        pairs.sha256
        == PromptPairs.from_tokens(
            pairs.clean,
            pairs.corrupted,
            answers=pairs.answers,
            lengths=pairs.lengths,
            source="elsewhere",
        ).sha256
    )


# --- subset and batches


@fixed
@given(ROWS, st.integers(1, 6) | st.none())
def test_batches_are_the_pairs_in_order(rows, size):
    pairs = PromptPairs.from_tokens(rows, rows, answers=[row[0] for row in rows], wrong=None)
    batches = pairs.batches(size)
    assert all(len(batch) <= (size or len(rows)) for batch in batches)
    assert len(batches) == -(-len(rows) // (size or len(rows)))
    for name in ("clean", "corrupted", "lengths", "answer_at", "answers", "real"):
        assert torch.equal(
            torch.cat([getattr(batch, name) for batch in batches]), getattr(pairs, name)
        )
    assert all(batch.wrong is None and batch.padding == pairs.padding for batch in batches)


def test_a_subset_is_those_pairs():
    rows = [[1, 2, 3], [4, 5], [6]]
    pairs = PromptPairs.from_tokens(rows, answers=[[1], [2, 3], [4]])
    assert (
        pairs.subset(1, 3).sha256 == PromptPairs.from_tokens(rows[1:], answers=[[2, 3], [4]]).sha256
    )
    assert pairs.subset(0, 3).sha256 == pairs.sha256
    assert len(pairs) == 3


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_at_least_one_prompt(size):
    pairs = PromptPairs.from_tokens([[1], [2]])
    with pytest.raises(SettingError, match=str(size)):
        pairs.batches(size)


def test_nothing_changes_what_it_was_given():
    clean, answers, lengths = PADDED.clone(), torch.tensor([[1, -1], [2, 3]]), torch.tensor(LENGTHS)
    pairs = PromptPairs.from_tokens(clean, clean, answers=answers, lengths=lengths)
    before = pairs.sha256
    pairs.batches(1), pairs.subset(0, 1), pairs.real
    assert torch.equal(clean, PADDED)
    clean.zero_(), answers.zero_(), lengths.zero_()
    again = PromptPairs.from_tokens(
        pairs.clean, pairs.corrupted, answers=pairs.answers, lengths=pairs.lengths
    )
    assert again.sha256 == before


# --- from text


class Letters:
    """A token for each of a few letters and words; a space belongs to the word after it."""

    words = ("<bos>", "a", "b", "c", " yes", " no")

    def __init__(self, bos: int | None = 0) -> None:
        self.bos = bos

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            known = [i for i, word in enumerate(self.words) if text.startswith(word)]
            if not known:
                raise ValueError(f"no token for {text!r}")
            ids.append(known[0])
            text = text[len(self.words[known[0]]) :]
        return ids

    def decode(self, ids) -> str:
        return "".join(self.words[i] for i in ids)


def test_text_is_its_tokens():
    text = PromptPairs.from_text(
        ["abc", "ca"],
        ["bbc", "cb"],
        tokenizer=Letters(),
        answers=[" yes", " no"],
        wrong=[[" no", "a"], [" yes"]],
    )
    tokens = PromptPairs.from_tokens(
        [[1, 2, 3], [3, 1]], [[2, 2, 3], [3, 2]], answers=[4, 5], wrong=[[5, 1], [4]]
    )
    assert text.sha256 == tokens.sha256


def test_bos_goes_before_every_prompt_and_no_answer():
    pairs = PromptPairs.from_text(
        ["ab", "c"], ["ba", "a"], tokenizer=Letters(), answers=["a", "b"], bos=True
    )
    assert (
        pairs.sha256
        == PromptPairs.from_tokens([[0, 1, 2], [0, 3]], [[0, 2, 1], [0, 1]], answers=[1, 2]).sha256
    )


def test_bos_twice_or_without_one():
    with pytest.raises(ProblemError, match="pair 0, clean: the text begins with the BOS"):
        PromptPairs.from_text(["<bos>ab"], tokenizer=Letters(), bos=True)
    with pytest.raises(ProblemError, match="the tokenizer has no BOS token"):
        PromptPairs.from_text(["ab"], tokenizer=Letters(bos=None), bos=True)


def test_every_fault_of_text_is_reported_at_once():
    with pytest.raises(ProblemError, match="text: 4 faults") as caught:
        PromptPairs.from_text(
            ["ab", "zz"], tokenizer=Letters(), answers=["yes", "q"], wrong=["a", ""]
        )
    assert caught.value.faults == (
        "pair 0: no token for 'yes'",
        "pair 1: no token for 'zz'",
        "pair 1: no token for 'q'",
        "pair 1: the wrong answer '' is no token.",
    )


@pytest.mark.parametrize("texts", [{"clean": "ab"}, {"clean": ["a", "b"], "answers": "ab"}])
def test_one_text_is_not_a_list_of_its_letters(texts):
    with pytest.raises(ProblemError, match="list"):
        PromptPairs.from_text(texts.pop("clean"), **texts, tokenizer=Letters())


# --- from files


def pairs_of(folder: Path, *lines: str, tokenizer=None, **options) -> PromptPairs:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return PromptPairs.from_file(path, tokenizer=tokenizer, **options)


def test_a_file_may_come_from_windows(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"clean": [1]}\r\n{"clean": [2]}\r\n')
    assert PromptPairs.from_file(str(path)).clean.tolist() == [[1], [2]]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_only_newlines_end_a_line(tmp_path, character):
    """JSON allows these inside a text; `str.splitlines` breaks lines at them."""
    text = json.dumps({"clean": [1], "note": f"x{character}y"}, ensure_ascii=False)
    assert pairs_of(tmp_path, text).clean.tolist() == [[1]]


def test_bos_is_not_ignored_for_a_file_of_ids(tmp_path):
    with pytest.raises(EdgewiseError, match="bos"):
        pairs_of(tmp_path, '{"clean": [1, 2]}', tokenizer=Letters(), bos=True)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read the pairs file .*no\.jsonl: No such file"):
        PromptPairs.from_file(tmp_path / "no.jsonl")
    with pytest.raises(FormatError, match="Is a directory"):
        PromptPairs.from_file(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="line 1 has the byte 0x.., which is not UTF-8"):
        PromptPairs.from_file(tmp_path / "binary")
