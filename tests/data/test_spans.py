"""Named spans of positions: by index, mask or phrase, under every kind of tokenizer."""

import numpy as np
import pytest
import torch
from words import Growing, positions

from edgewise.data import PromptPairs, swap_entities
from edgewise.data.texts import occurrences
from edgewise.errors import ProblemError
from language_models import LongestWord
from tiny_tokenizers import KINDS, tiny

ROWS = [[1, 2, 3, 4], [5, 6, 7]]
ONES = torch.ones(2, 4, dtype=torch.bool)


def test_an_index_for_all_one_for_each_several_or_a_mask():
    mask = np.array([[True, False, True, False], [False, True, False, False]])
    spans = {"start": 0, "S2": [2, 1], "end": [[-1], [-1]]}
    pairs = PromptPairs.from_tokens(ROWS, spans=spans)
    assert list(pairs.spans) == list(spans)
    assert [positions(pairs, name) for name in spans] == [[[0], [0]], [[2], [1]], [[3], [2]]]
    left = PromptPairs.from_tokens(ROWS, spans={"names": [[0, 2], (1,)]}, padding="left")
    assert positions(left, "names") == [[0, 2], [2]]
    for given_mask in (mask, torch.from_numpy(mask)):
        pairs = PromptPairs.from_tokens(ROWS, spans={"a": given_mask})
        assert positions(pairs, "a") == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"a": 3}, "pair 1: span 'a': 3 is no position of its 3 tokens."),
        ({"a": [0, -4]}, "pair 1: span 'a': -4 is no position"),
        ({"a": [0, []]}, "pair 1: span 'a': it has no position; every prompt must"),
        ({"a": [0, "x"]}, "pair 1: span 'a': it is the text 'x'; pass the model"),
        ({"a": [0, 1.5]}, "1.5 is no position"),
        ({"a": [0, True]}, "True is no position"),
        ({"a": [0]}, "there are 1 span 'a' for 2 prompts"),
        ({"a": "b"}, "span 'a': it is the text 'b'; pass the model's tokenizer"),
        ({"a": None}, "span 'a' is None; it must be a list"),
        ({"a": 0, "b": [0, 1]}, "pair 0: position 0 is in spans 'a' and 'b'; spans must not"),
        ({"a": ONES[:, :3]}, "positions has 3 entries for 4"),
        ({"a": ONES}, "pair 1: span 'a': padding is no position"),
        ({"a": ~ONES}, "pair 0: span 'a': it has no position"),
        ({}, "spans is {}; it must map names to positions, or be left out"),
        ({"": 0}, "a span is named ''; a name must be text."),
        ({"a[b]": 0}, "the span name 'a[b]' has '[', which names of edges cannot hold."),
    ],
)
def test_each_fault_says_where_and_what(spans, message):
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_tokens(ROWS, spans=spans)
    assert any(message in fault for fault in caught.value.faults)


def test_every_fault_is_reported_at_once():
    with pytest.raises(ProblemError) as caught:
        PromptPairs.from_tokens(ROWS, spans={"a": [9, []], "c": 1}, answers=[1])
    places = [(fault.where, fault.column) for fault in caught.value.faults]
    assert places == [("", ""), ("pair 0", "spans"), ("pair 1", "spans")]


# --- phrases

ZH, JA, TH = "王丽和李强去了公园，李强把花给了", "京都は古い町です", "นกกินแมลงและแมวกิน"


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("Anna saw Ann's Ann", "Ann", ["Ann", "Ann"]),
        (ZH, "李强", ["李强", "李强"]),
        (JA, "古い", ["古い"]),
        (TH, "กิน", ["กิน", "กิน"]),
        (TH, "ก", ["ก"]),  # elsewhere a vowel sign makes it another character
        ("철수는 영희를 철수가", "철수", ["철수", "철수"]),
        ("सीता घर गई", "घर", ["घर"]),
        ("सीता घर गई", "घ", []),
        ("قرأ سالم الكتاب", "سالم", ["سالم"]),
        ("Ann은 Bob", "Ann", ["Ann"]),
        ("Rene\u0301e and Rene", "Rene", ["Rene"]),
        ("Rene\u0301e and Rene", "Renée", ["Rene\u0301e"]),
        ("👨‍👩‍👧 or 👨", "👨", ["👨"]),
        ("👍🏽 or 👍", "👍", ["👍"]),
        ("🇫🇷🇮🇹", "🇮🇹", ["🇮🇹"]),
        ("🇫🇷🇮🇹", "🇷🇮", []),
        ("it is 3.5 (or 35)", "3", ["3"]),
        ("a_b b", "b", ["b"]),
    ],
)
def test_whole_words_and_whole_characters(text, phrase, found):
    assert [text[start:stop] for start, stop, _ in occurrences(text, phrase)] == found


def test_swaps_where_words_stand_side_by_side():
    assert swap_entities([ZH], ("王丽", "李强")) == ["李强和王丽去了公园，王丽把花给了"]
    assert swap_entities(["小李和小李子"], ("小李", "小李子")) == ["小李子和小李"]
    with pytest.raises(ProblemError, match="it does not have '小李'"):
        swap_entities(["小李子"], ("小李", "小李子"))


def span_of(tokenizer, text, phrase, **options) -> tuple[list[int], list[int]]:
    pairs = PromptPairs.from_text([text], tokenizer=tokenizer, spans={"S": [phrase]}, **options)
    return positions(pairs, "S")[0], pairs.clean[0].tolist()


def test_spans_by_position_or_phrase_in_rows():
    row = {
        "clean": "Mary and Jeffrey went. Jeffrey gave it to Mary, to",
        "spans": {
            "S1": ["Jeffrey", 1], "S2": ["Jeffrey", 2], "IO": ["Mary", -1], "gave": "gave it",
            "end": -1, "names": [0, 1],
        },
    }  # fmt: skip
    for bos in (0, 1):
        pairs = PromptPairs.from_dataset([row], tokenizer=Growing(), bos=bool(bos))
        found = {name: positions(pairs, name)[0] for name in pairs.spans}
        assert found == {
            "S1": [2 + bos], "S2": [5 + bos], "IO": [9 + bos], "gave": [6 + bos, 7 + bos],
            "end": [11 + bos], "names": [0, 1],  # indices count BOS
        }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("The dog saw Ann, and Ann saw it", ("Ann", 2)),
        ("THE CAT saw Zoë", "CAT"),
        (ZH, "王丽"),
        (ZH, ("李强", -1)),
        (JA, "古い"),
        (TH, ("กิน", 2)),
        ("Zoë drank 🍊 with 🍋.", "🍋"),
        ("in Ａｔｈｅｎｓ with José", "Ａｔｈｅｎｓ"),
        ("  Ann saw", "Ann"),
    ],
)
def test_a_span_is_every_token_with_a_character_of_it(kind, bos, text, phrase):
    tokenizer = tiny(kind, bos=bos)
    places, ids = span_of(tokenizer, text, phrase)
    whole = tokenizer(text, add_special_tokens=True, return_offsets_mapping=True)
    assert whole["input_ids"] == ids
    word = phrase if isinstance(phrase, str) else phrase[0]
    start = text.rindex(word)
    own_space = [tokenizer.decode([i]).strip() == "" and i != tokenizer.bos_token_id for i in ids]
    assert places == [
        k
        for k, (low, high) in enumerate(whole["offset_mapping"])
        if low < start + len(word) and high > start and not own_space[k]
    ]
    covered = [whole["offset_mapping"][k] for k in places]
    assert min(low for low, _ in covered) <= start
    assert max(high for _, high in covered) >= start + len(word)


def test_tokens_that_hold_a_part_belong_to_the_span_and_two_spans_share_none():
    tokenizer = tiny("byte-level")
    ids = tokenizer.encode(ZH)
    crossing = next(k for k, i in enumerate(ids) if tokenizer.decode([i]) == "王丽\ufffd")
    assert span_of(tokenizer, ZH, "王丽")[0] == [crossing]
    assert span_of(tokenizer, ZH, "和")[0][0] == crossing
    with pytest.raises(ProblemError, match="is in spans 'A' and 'B'; spans must not overlap"):
        PromptPairs.from_text([ZH], tokenizer=tokenizer, spans={"A": ["王丽"], "B": ["和"]})


def test_tokenizers_without_offsets_are_read_by_what_their_tokens_decode_to():
    class Bytes:
        bos = None

        def encode(self, text):
            return list(text.encode())

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    tokenizer = LongestWord(["王丽", "和", "李强", " saw", "Ann"])
    assert span_of(tokenizer, "王丽和李强", "李强", bos=True) == ([3], [0, 1, 2, 3])
    assert span_of(tokenizer, "Ann saw", "saw") == ([1], [5, 4])
    assert span_of(Bytes(), "é à b", "à")[0] == [3, 4]
