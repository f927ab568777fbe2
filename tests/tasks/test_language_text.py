"""Language tasks as text: layouts of the papers, corruptions that change what they say, splits."""

import re
import subprocess
import sys

import pytest

from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError, UnknownName
from edgewise.tasks.language import BEHAVIOURS, SPLITS, examples, split_of, vocabulary
from edgewise.tasks.language.behaviour import Template
from edgewise.tasks.language.induction import completions, draw_sequence

EVERY = [(name, template) for name, b in BEHAVIOURS.items() for template in b.templates]
CORRUPTED = [(name, c) for name, b in BEHAVIOURS.items() for c in b.corruptions]


def _changed(example):
    pairs = zip(example.clean_words, example.corrupted_words, strict=True)
    return {i for i, (clean, corrupted) in enumerate(pairs) if clean != corrupted}


# --- layouts


def test_ioi_has_the_papers_fifteen_words():
    for example in examples("ioi", 30):
        io, subject, place, thing = (
            example.clean_words[example.spans[name][0]] for name in ("IO", "S1", "place", "object")
        )
        assert example.clean == (
            f"Then,{io} and{subject} went to the{place}.{subject} gave a{thing} to"
        )
        assert len(example.clean_words) == 15
        assert example.answers == (io,)
        assert example.wrong == (subject,)
        places = {"IO": 2, "S1": 4, "S1+1": 5, "place": 8, "S2": 10, "object": 13, "END": 14}
        assert example.spans == {name: (at,) for name, at in places.items()}


def test_the_ioi_family_has_fifteen_sentences_in_two_orders():
    family = BEHAVIOURS["ioi"].templates
    assert len({t.text for t in family["family-abba"]}) == 15
    assert {t.text for t in family["family"]} == {
        t.text for order in ("family-abba", "family-baba") for t in family[order]
    }
    for order, first in (("abba", "IO"), ("baba", "S1")):
        for example in examples("ioi", 60, template=f"family-{order}"):
            names = ("IO", "S1")
            assert min(names, key=lambda name: example.spans[name]) == first


def test_greater_than_has_the_papers_ten_words_with_the_year_at_seven():
    for example in examples("greater-than", 60):
        words = example.clean_words
        assert len(words) == 10
        assert (
            example.clean == f"The{words[1]} lasted from the year{words[6]}{words[7]} to{words[9]}"
        )
        assert words[6] == words[9]
        assert re.fullmatch(" 1[1-7]", words[6])
        assert "03" <= words[7] <= "97", "each century's first and last year are left out"
        assert example.answers == tuple(f"{y:02}" for y in range(int(words[7]) + 1, 100))
        assert example.wrong == tuple(f"{y:02}" for y in range(int(words[7]) + 1))
        assert example.corrupted_words[7] == "01"


def test_docstring_has_the_papers_forty_words_behind_bos():
    assert BEHAVIOURS["docstring"].bos
    for example in examples("docstring", 30):
        words, spans = example.clean_words, example.spans
        assert len(words) == 40
        assert words[:3:2] == ("\n", words[2])
        assert [words[i] for i in (17, 18, 19, 22 + 1)] == ["):", "\n   ", ' """', "\n\n   "]
        assert words[-3:] == ("\n   ", " :", "param")
        a, b, c = (words[spans[f"{x}_def"][0]] for x in "ABC")
        assert (a, b) == tuple(words[spans[f"{x}_doc"][0]] for x in "AB")
        assert example.answers == (c,)
        assert len(set(example.wrong)) == 13
        in_prompt = {words[spans[x][0]] for x in ("P_def", "Q_def", "A_def", "B_def", "S_def")}
        assert in_prompt < set(example.wrong)
        assert words[spans["method"][0]] not in example.wrong


@pytest.mark.parametrize("template", ["repeated", "remixed", "single"])
def test_induction_answers_only_where_a_repeated_bigram_is_completed(template):
    for example in examples("induction", 30, template=template):
        words = example.clean_words
        sequence = [*words, None]
        for i, answer in zip(example.answer_at, example.answers, strict=True):
            before = words.index(words[i])
            assert before < i
            assert words[before + 1] == answer
            assert sequence[i + 1] in (answer, None)
        for i in set(range(len(words) - 1)) - set(example.answer_at):
            before = words.index(words[i])
            assert before == i or words[before + 1] != words[i + 1]
        if template == "single":
            assert example.answer_at == (len(words) - 1,)
            assert words[example.spans["B1"][0]] == example.answers[0]
            assert set(example.wrong) == set(words) - set(example.answers)


def test_induction_takes_any_symbols():
    from random import Random

    for template in ("repeated", "remixed", "single"):
        for seed in range(20):
            sequence = draw_sequence(Random(seed), range(16), template, half=8)
            assert completions(sequence)
            assert max(sequence.count(symbol) for symbol in sequence) == 2


# --- answers that one can check


def test_answers_are_right():
    for example in examples("addition", 60):
        first, second = (int(example.clean_words[example.spans[x][0]]) for x in ("first", "second"))
        assert example.answers == (str(first + second),)
        assert len(example.wrong) == 89
    for example in examples("colours", 60):
        words, spans = example.clean_words, example.spans
        asked = words.index(words[spans["asked"][0]])
        assert example.answers == (words[asked - 1],)
        assert set(example.wrong) == {words[spans[f"colour{i}"][0]] for i in (1, 2, 3)} - {
            words[asked - 1]
        }
    for example in examples("pronouns", 60):
        assert {*example.answers, *example.wrong} == {" he", " she"}
    for example in examples("agreement", 60):
        plural = example.clean_words[1].endswith("s")
        assert example.answers == (
            (" are", " were", " have") if plural else (" is", " was", " has")
        )
        assert not set(example.answers) & set(example.wrong)


# --- corruptions


@pytest.mark.parametrize(("name", "corruption"), CORRUPTED)
def test_a_corruption_changes_exactly_what_it_says(name, corruption):
    behaviour = BEHAVIOURS[name]
    stated = behaviour.corruptions[corruption].changes
    n = 6 if name in ("capitals", "sports") else 20
    for template in behaviour.templates:
        seen = set()
        for example in examples(name, n, template=template, corruption=corruption):
            end = {"END"} if "attractor" in stated else set()  # a slot that may be the last word
            if name == "induction":
                allowed = set(range(len(example.clean_words)))
            else:
                allowed = {i for s in {*stated, *end} for i in example.spans.get(s, ())}
            assert _changed(example)
            assert _changed(example) <= allowed
            seen |= _changed(example)
        if name != "induction" and len(behaviour.templates[template]) == 1:
            assert seen == allowed


def test_ioi_corruptions():
    def names(words, example):
        return [words[example.spans[s][0]] for s in ("IO", "S1", "S2")]

    for corruption in BEHAVIOURS["ioi"].corruptions:
        for example in examples("ioi", 30, template="family", corruption=corruption):
            io, subject, again = names(example.clean_words, example)
            new = names(example.corrupted_words, example)
            assert io != subject == again
            if corruption == "abc":
                assert len({*new, io, subject}) == 5
            elif corruption == "swap":
                assert new == [io, subject, io]
            elif corruption == "order":
                assert new == [subject, io, subject]
            else:
                assert len({*new, io, subject}) == 3
                changed = ["IO", "S1", "S2"].index(corruption.upper())
                assert new[changed] not in (io, subject)


def test_induction_corruptions_break_the_repetition():
    for template in BEHAVIOURS["induction"].templates:
        for corruption in ("first-a", "first-b"):
            for example in examples("induction", 20, template=template, corruption=corruption):
                clean, twin = example.clean_words, example.corrupted_words
                assert not completions(twin)
                start = min(example.answer_at)
                moved = {clean.index(clean[i]) for i in example.answer_at}
                shift = 1 if corruption == "first-b" else 0
                assert _changed(example) == {i + shift for i in moved}
                assert max(_changed(example)) <= start
        for example in examples("induction", 20, template=template, corruption="other"):
            assert not set(example.corrupted_words) & set(example.clean_words)


# --- seeds, splits, vocabulary


@pytest.mark.parametrize(("name", "template"), EVERY)
def test_seeds_reproduce_and_splits_are_disjoint(name, template):
    n = 6 if name in ("capitals", "sports") else 25
    texts = {}
    for split in SPLITS:
        drawn = examples(name, n, 3, split=split, template=template)
        assert drawn == examples(name, n, 3, split=split, template=template)
        assert len({e.clean for e in drawn}) == n
        assert {split_of(e.clean) for e in drawn} == {split}
        texts[split] = {e.clean for e in drawn}
    assert texts["train"] != {
        e.clean for e in examples(name, n, 4, split="train", template=template)
    }


def test_every_corruption_has_the_same_clean_prompts():
    for name, behaviour in BEHAVIOURS.items():
        drawn = [[e.clean for e in examples(name, 6, corruption=c)] for c in behaviour.corruptions]
        assert all(clean == drawn[0] for clean in drawn)


def test_a_hash_seed_changes_nothing():
    code = (
        "from edgewise.tasks.language import BEHAVIOURS, examples\n"
        "print([(e.clean, e.corrupted, e.wrong) for n in BEHAVIOURS for e in examples(n, 3, 7)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": h}, capture_output=True, check=True
        ).stdout
        for h in ("0", "1")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(("name", "template"), EVERY)
def test_the_vocabulary_cuts_every_text_into_its_words(name, template):
    """Taking the longest known word each time gives the words back."""
    longest_first = sorted(vocabulary(), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    own = set(vocabulary(name))
    n = 6 if name in ("capitals", "sports") else 30
    for corruption in BEHAVIOURS[name].corruptions:
        for e in examples(name, n, template=template, corruption=corruption):
            for text, words in ((e.clean, e.clean_words), (e.corrupted, e.corrupted_words)):
                assert tuple(pattern.findall(text)) == words
                assert words == spaced_words(text)
            assert {*e.clean_words, *e.corrupted_words, *e.answers, *e.wrong} <= own


@pytest.mark.parametrize(("name", "template"), EVERY)
def test_spans_name_each_place_once(name, template):
    for example in examples(name, 6, template=template):
        places = [i for at in example.spans.values() for i in at]
        assert len(set(places)) == len(places)
        assert set(places) <= set(range(len(example.clean_words)))
        assert set(example.answer_at) <= set(range(len(example.clean_words)))


# --- refusals


def test_errors():
    with pytest.raises(UnknownName, match="no language task named 'iol'. Did you mean 'ioi'"):
        examples("iol", 3)
    with pytest.raises(UnknownName, match="no corruption of ioi named 'abd'. Did you mean 'abc'"):
        examples("ioi", 3, corruption="abd")
    with pytest.raises(UnknownName, match="no template of ioi named 'baba'"):
        examples("ioi", 3, template="baba")
    with pytest.raises(UnknownName, match="no split named 'dev'"):
        examples("ioi", 3, split="dev")
    with pytest.raises(SettingError, match="asked for 0 prompts"):
        examples("ioi", 0)
    with pytest.raises(
        SettingError, match=r"asked for 90 .* capitals; its test split gave \d+ dif"
    ):
        examples("capitals", 90, split="test", template="plain")


def test_words_that_are_not_tokens_are_left_out_or_named():
    known = {" Mary", " John", " Anna", " Tom", " Kate", " Paul"}
    drawn = examples("ioi", 20, fits=lambda run: run[0] in known or run[0][1].islower())
    assert {e.answers[0] for e in drawn} <= known
    with pytest.raises(
        SettingError,
        match=r"0 of \d+ names are single tokens of the filter given; .* least 6. Not so: ",
    ):
        examples("ioi", 20, fits=lambda run: False)
    with pytest.raises(SettingError, match=r"years from .* are 2 tokens .* Not so: ' 11'.'02'"):
        examples("greater-than", 20, fits=lambda run: len(run) == 1)


def test_templates_keep_spaces_with_words():
    words, spans = Template("Is {x}, the {y}{z} here?", after=("x",)).fill(
        {"x": "Mary Ann", "y": "17", "z": "32"}
    )
    assert words == ("Is", " Mary", " Ann", ",", " the", " 17", "32", " here", "?")
    assert spans == {"x": (1, 2), "x+1": (3,), "y": (5,), "z": (6,), "END": (8,)}
