"""Corrupted prompts made from clean ones: lengths stay, nothing is left as it was."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.data import PromptPairs, random_tokens, shuffled, swap_entities, swap_tokens
from edgewise.data.corruption import corrupt, special_ids
from edgewise.data.tokenizers import WordTokenizer
from edgewise.errors import ProblemError, SettingError

fixed = settings(derandomize=True, deadline=None, max_examples=80)


def rows_of(pairs: PromptPairs, name: str) -> list[list[int]]:
    return [row[real].tolist() for row, real in zip(getattr(pairs, name), pairs.real, strict=True)]


# --- swapping


def test_entities_change_places_everywhere():
    prompts = ["Ann and Bob met. Bob gave Anna's hat to Ann", "Bob, Ann"]
    assert swap_entities(prompts, ("Ann", "Bob")) == [
        "Bob and Ann met. Ann gave Anna's hat to Bob",
        "Ann, Bob",
    ]
    assert swap_entities(["a b", "c d"], [("a", "b"), ("c", "d")]) == ["b a", "d c"]
    assert swap_entities(["New York and York (UK)"], ("New York", "(UK)")) == [
        "(UK) and York New York"
    ]
    assert swap_tokens([[0, 5, 7, 5], [7, 5]], (5, 7)) == [[0, 7, 5, 7], [5, 7]]


@fixed
@given(st.lists(st.sampled_from(["Ann", "Bob", "saw", ","]), min_size=1, max_size=9))
def test_swapping_twice_changes_nothing(words):
    text = " ".join(["Ann", "Bob", *words])
    once = swap_entities([text], ("Ann", "Bob"))
    assert once != [text]
    assert swap_entities(once, ("Bob", "Ann")) == [text]


def test_entities_that_are_not_there():
    with pytest.raises(ProblemError) as caught:
        swap_entities(["Ann", "Anna Bob"], ("Ann", "Bob"))
    assert caught.value.faults == (
        "prompt 0: it does not have 'Bob'.",
        "prompt 1: it does not have 'Ann'.",
    )
    with pytest.raises(ProblemError, match="1 pairs for 3 prompts"):
        swap_tokens([[1], [2], [3]], [(1, 2)])
    with pytest.raises(ProblemError, match="prompt 0: it does not have 3"):
        swap_tokens([[1]], (1, 3))


# --- shuffling

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=12)


@fixed
@given(ROWS, st.integers(0, 5), st.sampled_from(["right", "left"]))
def test_shuffling_gives_each_the_text_of_another_of_its_length(rows, seed, padding):
    pairs = PromptPairs.from_tokens(rows, answers=[row[0] for row in rows], padding=padding)
    sizes = {size: [row for row in rows if len(row) == size] for size in set(map(len, rows))}
    possible = all(
        2 * max(Counter(map(tuple, group)).values()) <= len(group) for group in sizes.values()
    )
    if not possible:
        with pytest.raises(ProblemError, match="no other prompt of its"):
            shuffled(pairs, seed=seed)
        return
    made = shuffled(pairs, seed=seed)
    corrupted = rows_of(made, "corrupted")
    assert all(a != b and len(a) == len(b) for a, b in zip(rows, corrupted, strict=True))
    assert Counter(map(tuple, corrupted)) == Counter(map(tuple, rows))
    assert made.sha256 == shuffled(pairs, seed=seed).sha256
    assert pairs.corrupted is None
    assert torch.equal(made.answers, pairs.answers)


def test_every_prompt_without_a_partner_is_named():
    with pytest.raises(ProblemError) as caught:
        shuffled(PromptPairs.from_tokens([[1], [2], [1, 2], [3, 4, 5]]))
    assert caught.value.faults == (
        "pair 2: no other prompt of its 2 tokens is left to be its corrupted one.",
        "pair 3: no other prompt of its 3 tokens is left to be its corrupted one.",
    )


# --- random tokens


@fixed
@given(ROWS, st.integers(0, 5), st.sampled_from(["right", "left"]))
def test_random_tokens_change_every_token_but_special_ones(rows, seed, padding):
    rows = [[9, *row] for row in rows]
    pairs = PromptPairs.from_tokens(rows, padding=padding)
    made = random_tokens(pairs, 10, special=[9, 5], seed=seed)
    for clean, other in zip(rows, rows_of(made, "corrupted"), strict=True):
        assert other[0] == 9
        assert all(a != b and b not in (5, 9) for a, b in zip(clean[1:], other[1:], strict=True))
    assert made.sha256 == random_tokens(pairs, 10, special=[9, 5], seed=seed).sha256


def test_every_other_token_is_equally_likely():
    pairs = PromptPairs.from_tokens([[2]] * 3000)
    drawn = Counter(random_tokens(pairs, [1, 2, 3, 7]).corrupted.flatten().tolist())
    assert set(drawn) == {1, 3, 7}
    assert max(drawn.values()) - min(drawn.values()) < 150
    outside = PromptPairs.from_tokens([[5]] * 3000)  # not among those to draw: all four may come
    assert len(set(random_tokens(outside, [1, 2, 3, 7]).corrupted.flatten().tolist())) >= 3


def test_only_the_named_positions_change():
    pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5, 6]], spans={"S2": [1, 2]})
    made = random_tokens(pairs, 50, at="S2")
    assert (made.corrupted != made.clean).nonzero().tolist() == [[0, 1], [1, 2]]
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[:, 0] = True
    changed = random_tokens(pairs, 50, at=mask).corrupted != pairs.clean
    assert torch.equal(changed, mask)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocabulary": 1}, SettingError, "1 tokens to draw from"),
        ({"vocabulary": 9, "at": "S2"}, SettingError, "no span named 'S2'; tokens has none"),
        ({"vocabulary": 9, "special": [1, 2]}, ProblemError, "pair 0: no token of it may be"),
        ({"vocabulary": 9, "seed": -1}, SettingError, "seed is -1"),
        ({"vocabulary": 9, "at": torch.ones(1, 2, dtype=torch.bool)}, SettingError, "at is a"),
    ],
)
def test_what_cannot_be_drawn(arguments, error, message):
    pairs = PromptPairs.from_tokens([[1, 2], [3, 2]])
    with pytest.raises(error, match=message):
        random_tokens(pairs, **arguments)


# --- by name, as the command line has it


def test_by_name():
    pairs = PromptPairs.from_tokens([[3, 0, 1], [3, 1, 2]], spans={"last": -1})
    words = WordTokenizer(("1", "2", "3", "BOS", "compiler_pad"), bos=3)
    assert special_ids(words) == (3, 4)
    for how in ("shuffle", "random", "random:last"):
        made = corrupt(pairs, how, n_tokens=5, tokenizer=words, seed=1)
        assert (made.corrupted[:, 0] == 3).all()
        assert made.corrupted.max() <= 3
    with pytest.raises(SettingError, match="no corruption named 'shufle'. Known: 'shuffle'"):
        corrupt(pairs, "shufle", n_tokens=5, tokenizer=None)
    with pytest.raises(SettingError, match="has corrupted prompts; to make others, leave its own"):
        corrupt(made, "shuffle", n_tokens=5, tokenizer=None)
