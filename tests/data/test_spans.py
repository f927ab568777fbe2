"""Named spans of positions: masks per prompt, disjoint, in every prompt; faults by prompt."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.data import PromptPairs
from edgewise.errors import ProblemError

ROWS = [[1, 2, 3, 4], [5, 6, 7]]


def places(pairs: PromptPairs, name: str) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in pairs.spans[name]]


def faults_of(spans, rows=ROWS, **how) -> list[str]:
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_tokens(rows, spans=spans, **how)
    return list(caught.value.faults)


def test_an_index_for_all_one_for_each_or_several():
    pairs = PromptPairs.from_tokens(ROWS, spans={"start": 0, "S2": [2, 1], "end": [[-1], [-1]]})
    assert places(pairs, "start") == [[0], [0]]
    assert places(pairs, "S2") == [[2], [1]]
    assert places(pairs, "end") == [[3], [2]]
    assert list(pairs.spans) == ["start", "S2", "end"]
    pairs = PromptPairs.from_tokens(ROWS, spans={"names": [[0, 2], (1,)]}, padding="left")
    assert places(pairs, "names") == [[0, 2], [2]]


def test_masks_of_torch_and_numpy():
    mask = np.array([[True, False, True, False], [False, True, False, False]])
    for given_mask in (mask, torch.from_numpy(mask)):
        pairs = PromptPairs.from_tokens(ROWS, spans={"a": given_mask})
        assert places(pairs, "a") == [[0, 2], [1]]
    given_mask.zero_()
    assert places(pairs, "a") == [[0, 2], [1]]


def test_subsets_and_batches_keep_them():
    pairs = PromptPairs.from_tokens(ROWS, spans={"a": [2, 1], "b": 0})
    assert places(pairs.subset(1, 2), "a") == [[1]]
    joined = torch.cat([batch.spans["a"] for batch in pairs.batches(1)])
    assert torch.equal(joined, pairs.spans["a"])
    assert places(dataclasses.replace(pairs, source="other"), "b") == [[0], [0]]


def test_they_do_not_change():
    pairs = PromptPairs.from_tokens(ROWS, spans={"a": 0})
    with pytest.raises(TypeError):
        pairs.spans["b"] = pairs.spans["a"]


def test_they_are_content():
    make = PromptPairs.from_tokens
    every = [
        make(ROWS),
        make(ROWS, spans={"a": 0}),
        make(ROWS, spans={"b": 0}),
        make(ROWS, spans={"a": 1}),
        make(ROWS, spans={"a": [0, 1]}),
        make(ROWS, spans={"a": [[0, 1], 0]}),
        make(ROWS, spans={"a": 0, "b": 1}),
    ]
    assert len({pairs.sha256 for pairs in every}) == len(every)
    same = make(ROWS, spans={"b": [-3, -2], "a": 0}, padding="left")
    assert same.sha256 == every[-1].sha256


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_padding_does_not_move_them(sizes, data):
    rows = [list(range(size)) for size in sizes]
    at = [data.draw(st.sets(st.integers(0, size - 1), min_size=1)) for size in sizes]
    spans = {"a": [sorted(one) for one in at]}
    right = PromptPairs.from_tokens(rows, spans=spans)
    left = PromptPairs.from_tokens(rows, spans=spans, padding="left")
    assert right.sha256 == left.sha256
    for pairs in (right, left):
        found = [set(pairs.clean[i][pairs.spans["a"][i]].tolist()) for i in range(len(rows))]
        assert found == at


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"a": 3}, "pair 1: position 3 of span 'a' is outside its 3 tokens."),
        ({"a": [0, -4]}, "pair 1: position -4 of span 'a' is outside its 3 tokens."),
        ({"a": [0, []]}, "pair 1: it has no position of span 'a'; every prompt must"),
        ({"a": [0, "x"]}, "pair 1: span 'a' is the text 'x'; pass the model"),
        ({"a": [0, 1.5]}, "pair 1: 1.5 is no position of span 'a'"),
        ({"a": [0, True]}, "pair 1: True is no position of span 'a'"),
        ({"a": [0]}, "there are 1 span 'a' for 2 prompts"),
        ({"a": "b"}, "span 'a' is the text 'b'; pass the model's tokenizer"),
        ({"a": None}, "span 'a' is None; it must be a list"),
        ({"a": 0, "b": [0, 1]}, "pair 0: position 0 is in spans 'a' and 'b'; spans must not"),
        (
            {"a": torch.ones(2, 3, dtype=torch.bool)},
            "positions of span 'a' has 3 entries for 4",
        ),
        (
            {"a": torch.ones(2, 4, dtype=torch.bool)},
            "pair 1: a padded place is no position",
        ),
        ({"a": torch.zeros(2, 4, dtype=torch.bool)}, "pair 0: it has no position of span 'a'"),
        ({}, "spans is {}; it must map names to positions, or be left out"),
        ({"": 0}, "a span is named ''; a name must be text."),
        ({"a[b]": 0}, "the span name 'a[b]' has '[', which names of edges cannot hold."),
        ({"a->b": 0}, "the span name 'a->b' has '>'"),
        ({" a": 0}, "has white space at its ends"),
        ({"a\n": 0}, "has an unprintable character"),
    ],
)
def test_each_fault_says_where_and_what(spans, message):
    assert any(message in fault for fault in faults_of(spans))


def test_every_fault_is_reported_at_once():
    assert faults_of({"a": [9, []], "b@": 0, "c": 1}, answers=[1]) == [
        "there are 1 answers for 2 prompts.",
        "the span name 'b@' has '@', which names of edges cannot hold.",
        "pair 0: position 9 of span 'a' is outside its 4 tokens.",
        "pair 1: it has no position of span 'a'; every prompt must have one.",
    ]
