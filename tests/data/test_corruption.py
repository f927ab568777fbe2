"""Corrupted prompts made from clean ones: lengths stay, nothing is left as it was."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.data import PromptPairs, random_tokens, shuffled, swap_entities, swap_tokens
from edgewise.data.corruption import corrupt, special_ids
from edgewise.data.tokenizers import WordTokenizer
from edgewise.errors import ProblemError, SettingError, UnknownName

fixed = settings(derandomize=True, deadline=None, max_examples=80)
ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=12)
PADDING = st.sampled_from(["right", "left"])


def corrupted_rows(pairs: PromptPairs) -> list[list[int]]:
    return [row[real].tolist() for row, real in zip(pairs.corrupted, pairs.real, strict=True)]


# --- swapping


def test_entities_change_places_everywhere():
    prompts = ["Ann and Bob met. Bob gave Anna's hat to Ann", "Bob, Ann"]
    swapped = ["Bob and Ann met. Ann gave Anna's hat to Bob", "Ann, Bob"]
    assert swap_entities(prompts, ("Ann", "Bob")) == swapped
    assert swap_entities(swapped, [("Ann", "Bob"), ("Bob", "Ann")]) == prompts
    long = ["New York and York (UK)"]
    assert swap_entities(long, ("New York", "(UK)")) == ["(UK) and York New York"]
    assert swap_tokens([[0, 5, 7, 5], [7, 5]], (5, 7)) == [[0, 7, 5, 7], [5, 7]]


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


@fixed
@given(ROWS, st.integers(0, 5), PADDING)
def test_shuffling_gives_each_the_text_of_another_of_its_length(rows, seed, padding):
    pairs = PromptPairs.from_tokens(rows, answers=[row[0] for row in rows], padding=padding)
    counts = Counter(map(tuple, rows))
    sizes = Counter(map(len, rows))
    alone = {f"pair {i}" for i, r in enumerate(rows) if 2 * counts[tuple(r)] > sizes[len(r)]}
    if alone:
        with pytest.raises(ProblemError, match="no other prompt of its") as caught:
            shuffled(pairs, seed=seed)
        assert {fault.where for fault in caught.value.faults} == alone
        return
    made = shuffled(pairs, seed=seed)
    corrupted = corrupted_rows(made)
    assert all(a != b and len(a) == len(b) for a, b in zip(rows, corrupted, strict=True))
    assert Counter(map(tuple, corrupted)) == counts
    assert made.sha256 == shuffled(pairs, seed=seed).sha256
    assert pairs.corrupted is None


# --- random tokens


@fixed
@given(ROWS, st.integers(0, 5), PADDING)
def test_random_tokens_change_every_token_but_special_ones(rows, seed, padding):
    rows = [[9, *row] for row in rows]
    pairs = PromptPairs.from_tokens(rows, padding=padding)
    made = random_tokens(pairs, 10, special=[9, 5], seed=seed)
    for clean, corrupted in zip(rows, corrupted_rows(made), strict=True):
        assert corrupted[0] == 9
        assert not {5, 9} & {*corrupted[1:]}
        assert all(a != b for a, b in zip(clean[1:], corrupted[1:], strict=True))
    assert made.sha256 == random_tokens(pairs, 10, special=[9, 5], seed=seed).sha256


def test_every_other_token_is_equally_likely():
    for token, possible in ((2, {1, 3, 7}), (5, {1, 2, 3, 7})):  # 5 is not one of those to draw
        pairs = PromptPairs.from_tokens([[token]] * 3000)
        drawn = Counter(random_tokens(pairs, [1, 2, 3, 7]).corrupted.flatten().tolist())
        assert set(drawn) == possible
        if token == 2:
            assert max(drawn.values()) - min(drawn.values()) < 150


def test_only_the_named_positions_change():
    pairs = PromptPairs.from_tokens([[1, 2, 3], [4, 5, 6]], spans={"S2": [1, 2]})
    for at in ("S2", pairs.spans["S2"]):
        changed = random_tokens(pairs, 50, at=at).corrupted != pairs.clean
        assert torch.equal(changed, pairs.spans["S2"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocabulary": 1}, SettingError, "1 tokens to draw from"),
        ({"vocabulary": 9, "at": "S2"}, UnknownName, "no span named 'S2'"),
        ({"vocabulary": 9, "special": [1, 2]}, ProblemError, "pair 0: no token of it may be"),
        ({"vocabulary": 9, "seed": -1}, SettingError, "seed is -1"),
        ({"vocabulary": 9, "at": torch.ones(1, 2, dtype=torch.bool)}, SettingError, "at is a"),
    ],
)
def test_what_cannot_be_drawn(arguments, error, message):
    pairs = PromptPairs.from_tokens([[1, 2], [3, 2]])
    with pytest.raises(error, match=message):
        random_tokens(pairs, **arguments)


def test_corruptions_by_name():
    pairs = PromptPairs.from_tokens([[3, 0, 1], [3, 1, 2]], spans={"last": -1})
    words = WordTokenizer(("1", "2", "3", "BOS", "compiler_pad"), bos=3)
    assert special_ids(words) == (3, 4)
    for how in ("shuffle", "random", "random:last"):
        made = corrupt(pairs, how, n_tokens=5, tokenizer=words, seed=1)
        assert (made.corrupted[:, 0] == 3).all()
        assert made.corrupted.max() <= 3
    assert torch.equal(made.corrupted != pairs.clean, pairs.spans["last"])
