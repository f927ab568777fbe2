"""Spans and swaps by characters of the text that was given, under every kind of tokenizer."""

import pytest

from edgewise.data import PromptPairs, swap_entities
from edgewise.data.phrases import occurrences
from edgewise.errors import ProblemError
from language_models import LongestWord
from tiny_tokenizers import KINDS, tiny

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
    assert swap_entities(["奈良と京都。京都は"], ("奈良", "京都")) == ["京都と奈良。奈良は"]
    assert swap_entities(["นกกินแมว"], ("นก", "แมว")) == ["แมวกินนก"]
    assert swap_entities(["小李和小李子"], ("小李", "小李子")) == ["小李子和小李"]
    with pytest.raises(ProblemError, match="it does not have '小李'"):
        swap_entities(["小李子"], ("小李", "小李子"))


def span_of(tokenizer, text, phrase, **options) -> tuple[list[int], list[int]]:
    pairs = PromptPairs.from_text([text], tokenizer=tokenizer, spans={"S": [phrase]}, **options)
    return pairs.spans["S"][0].nonzero().flatten().tolist(), pairs.clean[0].tolist()


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
    wanted = [
        k
        for k, (low, high) in enumerate(whole["offset_mapping"])
        if low < start + len(word) and high > start and not own_space[k]
    ]
    assert places == wanted
    assert places == list(range(places[0], places[-1] + 1))
    covered = [whole["offset_mapping"][k] for k in places]
    assert min(low for low, _ in covered) <= start
    assert max(high for _, high in covered) >= start + len(word)
    assert not any(tokenizer.decode([ids[k]]).strip() == "" for k in places)


def test_tokens_that_hold_a_part_belong_to_the_span_and_two_spans_share_none():
    tokenizer = tiny("byte-level")
    ids = tokenizer.encode(ZH)
    crossing = next(k for k, i in enumerate(ids) if tokenizer.decode([i]) == "王丽\ufffd")
    assert span_of(tokenizer, ZH, "王丽")[0] == [crossing]
    assert span_of(tokenizer, ZH, "和")[0][0] == crossing
    with pytest.raises(ProblemError, match="is in spans 'A' and 'B'; spans must not overlap"):
        PromptPairs.from_text([ZH], tokenizer=tokenizer, spans={"A": ["王丽"], "B": ["和"]})


def test_tokenizers_without_offsets_are_read_by_what_their_tokens_decode_to():
    tokenizer = LongestWord(["王丽", "和", "李强", " saw", "Ann"])
    assert span_of(tokenizer, "王丽和李强", "李强", bos=True) == ([3], [0, 1, 2, 3])
    assert span_of(tokenizer, "Ann saw", "saw") == ([1], [5, 4])
