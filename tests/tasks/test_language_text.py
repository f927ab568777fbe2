"""Language tasks as text: layouts of the papers, corruptions that change what they say, splits."""

import re
import subprocess
import sys

import pytest

from edgewise.data.tokenizers import spaced_words
from edgewise.errors import SettingError, UnknownName
from edgewise.tasks.language import BEHAVIOURS, SPLITS, Words, examples, split_of, vocabulary
from edgewise.tasks.language.behaviour import Template
from edgewise.tasks.language.induction import completions

EVERY = [(name, template) for name, b in BEHAVIOURS.items() for template in b.templates]
PROMPTS = (
    "d9715565976e408d691e567b8a8ca3c5d19087b41b85b242470c667291f4d0e8"  # of all tasks, with seed 7
)
FEW = {"capitals": 6, "sports": 6}  # of tasks with few prompts


def _changed(example):
    pairs = zip(example.clean_words, example.corrupted_words, strict=True)
    return {i for i, (clean, corrupted) in enumerate(pairs) if clean != corrupted}


def _words(example, *spans, of="clean_words"):
    return [getattr(example, of)[example.spans[span][0]] for span in spans]


# --- layouts


def test_ioi_has_the_papers_fifteen_words():
    for example in examples("ioi", 30):
        io, subject, place, thing = _words(example, "IO", "S1", "place", "object")
        assert example.clean == (
            f"Then,{io} and{subject} went to the{place}.{subject} gave a{thing} to"
        )
        assert (example.answers, example.wrong) == ((io,), (subject,))
        places = {"IO": 2, "S1": 4, "S1+1": 5, "place": 8, "S2": 10, "object": 13, "END": 14}
        assert example.spans == {name: (at,) for name, at in places.items()}


def test_the_ioi_family_has_fifteen_sentences_in_two_orders():
    family = BEHAVIOURS["ioi"].templates
    assert len({t.text for t in family["family-abba"]}) == 15
    assert {*family["family"]} == {*family["family-abba"], *family["family-baba"]}
    for order, first in (("abba", "IO"), ("baba", "S1")):
        for example in examples("ioi", 60, template=f"family-{order}"):
            assert min(("IO", "S1"), key=lambda name: example.spans[name]) == first


def test_greater_than_has_the_papers_ten_words_with_the_year_at_seven():
    for example in examples("greater-than", 60):
        _, noun, *_, century, year, _, end = words = example.clean_words
        assert example.clean == f"The{noun} lasted from the year{century}{year} to{end}"
        assert (len(words), century) == (10, end)
        assert re.fullmatch(" 1[1-7]", century)
        assert "03" <= year <= "97", "each century's first and last year are left out"
        assert example.answers == tuple(f"{y:02}" for y in range(int(year) + 1, 100))
        assert example.wrong == tuple(f"{y:02}" for y in range(int(year) + 1))
        assert example.corrupted_words[7] == "01"


def test_docstring_has_the_papers_forty_words_behind_bos():
    assert BEHAVIOURS["docstring"].bos
    for example in examples("docstring", 30):
        words = example.clean_words
        assert len(words) == 40
        assert [words[i] for i in (0, 17, 18, 19, 23)] == ["\n", "):", "\n   ", ' """', "\n\n   "]
        assert words[-3:] == ("\n   ", " :", "param")
        assert _words(example, "A_def", "B_def") == _words(example, "A_doc", "B_doc")
        assert list(example.answers) == _words(example, "C_def")
        assert len(set(example.wrong)) == 13
        assert {*_words(example, "P_def", "Q_def", "A_def", "B_def", "S_def")} < {*example.wrong}
        assert not {*_words(example, "method")} & {*example.wrong}


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
            assert _words(example, "B1") == list(example.answers)
            assert set(example.wrong) == set(words) - set(example.answers)


def test_answers_are_right():
    for example in examples("addition", 60):
        assert example.answers == (str(sum(map(int, _words(example, "first", "second")))),)
        assert len(example.wrong) == 89
    for example in examples("colours", 60):
        words = example.clean_words
        colour = words[words.index(*_words(example, "asked")) - 1]
        assert example.answers == (colour,)
        assert {*example.wrong} == {*_words(example, "colour1", "colour2", "colour3")} - {colour}
    for example in examples("pronouns", 60):
        assert {*example.answers, *example.wrong} == {" he", " she"}
    for example in examples("agreement", 60):
        verbs = (" is", " was", " has"), (" are", " were", " have")
        assert example.answers == verbs[example.clean_words[1].endswith("s")]
        assert not set(example.answers) & set(example.wrong)


# --- corruptions


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_corruption_changes_exactly_what_it_says_of_the_same_prompts(name):
    behaviour, clean = BEHAVIOURS[name], {}
    for corruption, rule in behaviour.corruptions.items():
        for template, family in behaviour.templates.items():
            drawn = examples(name, FEW.get(name, 20), template=template, corruption=corruption)
            texts = [example.clean for example in drawn]
            assert clean.setdefault(template, texts) == texts
            changed = [_changed(example) for example in drawn]
            assert all(changed)
            if name != "induction":
                # The attractor may be the last word.
                slots = (*rule.changes, "END") if "attractor" in rule.changes else rule.changes
                places = [{i for s in slots for i in e.spans.get(s, ())} for e in drawn]
                assert all(new <= at for new, at in zip(changed, places, strict=True))
                if len(family) == 1:
                    assert set().union(*changed) == places[0]


def test_ioi_corruptions():
    for corruption in BEHAVIOURS["ioi"].corruptions:
        for example in examples("ioi", 30, template="family", corruption=corruption):
            io, subject, again = _words(example, "IO", "S1", "S2")
            new = _words(example, "IO", "S1", "S2", of="corrupted_words")
            assert io != subject == again
            if corruption in ("swap", "order"):
                swapped = [io, subject, io] if corruption == "swap" else [subject, io, subject]
                assert new == swapped
            else:
                assert len({*new, io, subject}) == (5 if corruption == "abc" else 3)


@pytest.mark.parametrize("template", BEHAVIOURS["induction"].templates)
def test_induction_corruptions_break_the_repetition(template):
    for shift, corruption in enumerate(("first-a", "first-b")):
        for example in examples("induction", 20, template=template, corruption=corruption):
            words = example.clean_words
            assert not completions(example.corrupted_words)
            firsts = {words.index(words[i]) + shift for i in example.answer_at}
            assert _changed(example) == firsts
            assert max(firsts) <= min(example.answer_at)
    for example in examples("induction", 20, template=template, corruption="other"):
        assert not set(example.corrupted_words) & set(example.clean_words)


# --- seeds, splits, vocabulary


@pytest.mark.parametrize(("name", "template"), EVERY)
def test_seeds_reproduce_and_splits_are_disjoint(name, template):
    n = FEW.get(name, 25)
    for split in SPLITS:
        drawn = examples(name, n, 3, split=split, template=template)
        assert drawn == examples(name, n, 3, split=split, template=template)
        assert len({e.clean for e in drawn}) == n
        assert {split_of(e.clean) for e in drawn} == {split}
    others = examples(name, n, 4, split=split, template=template)
    assert {e.clean for e in drawn} != {e.clean for e in others}


def test_prompts_of_a_seed_stay_what_they_are_whatever_the_hash_seed():
    code = (
        "from hashlib import sha256\n"
        "from edgewise.tasks.language import BEHAVIOURS, examples\n"
        "drawn = [(e.clean, e.corrupted, e.answers, e.wrong) for n, b in BEHAVIOURS.items()\n"
        "         for t in b.templates for c in b.corruptions\n"
        "         for e in examples(n, 3, 7, template=t, corruption=c)]\n"
        "print(sha256(repr(drawn).encode()).hexdigest())"
    )
    for seed in ("0", "1"):
        run = [sys.executable, "-c", code]
        text = subprocess.run(run, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        assert text.stdout.decode().strip() == PROMPTS


@pytest.mark.parametrize(("name", "template"), EVERY)
def test_the_vocabulary_cuts_every_text_into_its_words_and_spans_name_each_once(name, template):
    """Taking the longest known word each time gives the words back."""
    longest_first = sorted(vocabulary(), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    own = set(vocabulary(name))
    for corruption in BEHAVIOURS[name].corruptions:
        for e in examples(name, FEW.get(name, 30), template=template, corruption=corruption):
            for text, words in ((e.clean, e.clean_words), (e.corrupted, e.corrupted_words)):
                assert tuple(pattern.findall(text)) == words == spaced_words(text)
            assert {*e.clean_words, *e.corrupted_words, *e.answers, *e.wrong} <= own
            places = [i for at in e.spans.values() for i in at]
            assert len(set(places)) == len(places)
            assert {*places, *e.answer_at} <= set(range(len(e.clean_words)))


# --- refusals


@pytest.mark.parametrize(
    ("name", "n", "choices", "message"),
    [
        ("iol", 3, {}, "no language task named 'iol'. Did you mean 'ioi'"),
        ("ioi", 3, {"corruption": "abd"}, "no corruption of ioi named 'abd'. Did you mean 'abc'"),
        ("ioi", 3, {"template": "baba"}, "no template of ioi named 'baba'"),
        ("ioi", 3, {"split": "dev"}, "no split named 'dev'"),
        ("ioi", 0, {}, "asked for 0 prompts"),
        ("capitals", 90, {"split": "test"}, r"asked for 90 .* its test split gave \d+ dif"),
        (
            "ioi",
            9,
            {"words": Words(lambda run: False)},
            r"0 of \d+ names are single .* least 6. Not so: ",
        ),
        (
            "greater-than",
            9,
            {"words": Words(lambda run: len(run) == 1)},
            "years .* are 2 tokens .*' 11'",
        ),
    ],
)
def test_refusals(name, n, choices, message):
    with pytest.raises((SettingError, UnknownName), match=message):
        examples(name, n, **choices)


def test_words_that_are_not_tokens_are_left_out():
    known = {" Mary", " John", " Anna", " Tom", " Kate", " Paul"}
    drawn = examples("ioi", 20, words=Words(lambda run: run[0] in known or run[0][1].islower()))
    assert {e.answers[0] for e in drawn} <= known


def test_templates_keep_spaces_with_words():
    words, spans = Template("Is {x}, the {y}{z} here?", after=("x",)).fill(
        {"x": "Mary Ann", "y": "17", "z": "32"}
    )
    assert words == ("Is", " Mary", " Ann", ",", " the", " 17", "32", " here", "?")
    assert spans == {"x": (1, 2), "x+1": (3,), "y": (5,), "z": (6,), "END": (8,)}
