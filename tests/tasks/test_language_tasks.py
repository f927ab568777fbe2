"""Language tasks on models: the papers' token layouts for any tokenizer, choices, refusals."""

import re
from pathlib import Path

import pytest
import torch

import edgewise as ew
from edgewise.data.tokenizers import WordTokenizer
from edgewise.errors import ProblemError, SettingError, UnknownName
from edgewise.tasks import TASKS, published_circuit
from edgewise.tasks.language import BEHAVIOURS, examples
from edgewise.tasks.language.token_fit import TokenFit
from language_models import LongestWord, language_model

KINDS = ("words", "byte-pairs")
EVERY = [(name, kind) for name in BEHAVIOURS for kind in KINDS]


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return language_model(request.param)


@pytest.fixture(scope="module")
def words_model():
    return language_model("words")


def _texts(model, rows, real):
    return [model.tokenizer.decode(row[at].tolist()) for row, at in zip(rows, real, strict=True)]


# --- layouts, on two kinds of tokenizer


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_prompts_are_the_examples(model, name):
    task = ew.load_task(name, model, n=6, seed=2)
    for split, problem in (("validation", task.problem), ("test", task.test)):
        pairs = problem.pairs
        drawn = examples(name, 6, 2, split=split)
        if model.name == "random-byte-pairs" and name == "greater-than":
            continue  # fewer years are two tokens there, so others are drawn
        start = "<bos>" if model.name == "random-words" else "<|endoftext|>"
        start = start if BEHAVIOURS[name].bos else ""
        assert _texts(model, pairs.clean, pairs.real) == [start + e.clean for e in drawn]
        assert _texts(model, pairs.corrupted, pairs.real) == [start + e.corrupted for e in drawn]
        for i, example in enumerate(drawn):
            if len(example.answer_at) == 1:
                kept = pairs.answers[i][pairs.answers[i] >= 0].tolist()
                assert [model.tokenizer.decode([k]) for k in kept] == list(example.answers)


@pytest.mark.parametrize(
    ("name", "n_tokens", "places"),
    [
        ("ioi", 15, {"IO": 2, "S1": 4, "S1+1": 5, "S2": 10, "END": 14}),
        ("greater-than", 10, {"noun": 1, "XX1": 6, "YY": 7, "END": 9}),
        ("docstring", 41, {"A_def": 11, "C_def": 15, "A_doc": 27, "B_doc": 34, "END": 40}),
    ],
)
def test_the_papers_layouts(model, name, n_tokens, places):
    pairs = ew.load_task(name, model, n=20).problem.pairs
    assert pairs.lengths.unique().tolist() == [n_tokens]
    for span, place in places.items():
        assert pairs.spans[span].nonzero()[:, 1].tolist() == [place] * 20
    assert (pairs.answer_at == pairs.spans["END"]).all()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_corruptions_change_exactly_the_stated_tokens(model, name):
    for corruption, rule in BEHAVIOURS[name].corruptions.items():
        for template in BEHAVIOURS[name].templates:
            pairs = ew.load_task(
                name, model, n=4, corruption=corruption, template=template
            ).problem.pairs
            changed = pairs.clean != pairs.corrupted
            assert (changed.sum(dim=1) > 0).all()
            if name == "induction" or "attractor" in rule.changes:
                continue  # tests of the text say which words these change
            named = torch.stack([pairs.spans[s] for s in rule.changes]).any(dim=0)
            assert not (changed & ~named).any()


def test_years_that_are_not_two_tokens_are_left_out():
    model = language_model("byte-pairs")
    reader = TokenFit(model.tokenizer, "it")
    run = {(f" {c}", f"{y:02}"): None for c in range(11, 18) for y in range(2, 99)}
    kept = [r for r in run if reader.fits(r)]
    assert 30 < len(kept) < len(run), "digits merge across the two halves of some"
    pairs = ew.load_task("greater-than", model, n=40).problem.pairs
    years = {(model.tokenizer.decode([a]), model.tokenizer.decode([b])) for a, b in
             pairs.clean[:, 6:8].tolist()}  # fmt: skip
    assert years <= set(kept)
    assert pairs.lengths.unique().tolist() == [10]


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces", "threes"])
def test_years_cut_otherwise_are_asked_for_the_token_of_the_tens_digit(kind):
    model = language_model(kind)
    for corruption in BEHAVIOURS["greater-than"].corruptions:
        pairs = ew.load_task("greater-than", model, n=25, corruption=corruption).problem.pairs
        decode = model.tokenizer.decode
        for i in range(25):
            text = decode(pairs.clean[i].tolist())
            said = re.fullmatch(r"The \w+ lasted from the year (1[1-7])(\d\d) to (.*)", text)
            century, digits, end = said.groups()
            start = century + digits[0] if kind == "threes" else digits[0]
            assert end == ("" if kind == "threes" else century), "what is asked comes next"
            right, wrong = (
                {decode([k]) for k in ids[i][ids[i] >= 0].tolist()}
                for ids in (pairs.answers, pairs.wrong)
            )
            every = {f"{century if kind == 'threes' else ''}{k}" for k in range(10)}
            assert right == {token for token in every if token > start}
            assert wrong == {token for token in every if token < start}
            # They are what the tokenizer makes of whole years.
            later = model.tokenizer.encode(f"{text}{'' if end else century}99")
            assert later[: len(pairs.clean[i])] == pairs.clean[i].tolist()
            assert decode([later[len(pairs.clean[i])]]) in right
            changed = (pairs.clean[i] != pairs.corrupted[i]).nonzero().flatten().tolist()
            year = pairs.spans["year" if kind == "threes" else "YY"]
            within = pairs.spans["noun"] if corruption == "random-noun" else year
            assert set(changed) <= set(within[i].nonzero().flatten().tolist())
            if corruption != "random-noun":
                assert (
                    decode(pairs.corrupted[i].tolist())[: -len(end) or None].split()[-2][2]
                    != digits[0]
                ), "the corrupted prompt has other answers"
        assert (pairs.spans["END"] == pairs.answer_at).all()


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces"])
@pytest.mark.parametrize("template", BEHAVIOURS["addition"].templates)
def test_sums_of_digits_are_asked_for_the_tens_digit(kind, template):
    model = language_model(kind)
    for corruption in BEHAVIOURS["addition"].corruptions:
        pairs = ew.load_task(
            "addition", model, n=25, corruption=corruption, template=template
        ).problem.pairs
        decode, n = model.tokenizer.decode, pairs.n_positions
        for i in range(25):
            text = decode(pairs.clean[i].tolist())
            first, second = map(int, text.rpartition(",")[2].rstrip("=").split("+"))
            total = str(first + second)
            assert decode(pairs.answers[i].tolist()) == total[0]
            assert sorted(decode([k]) for k in pairs.wrong[i].tolist()) == [
                digit for digit in "123456789" if digit != total[0]
            ]
            whole = model.tokenizer.encode(text + total)
            assert whole[:n] == pairs.clean[i].tolist()
            assert whole[n] == pairs.answers[i].item()
            if corruption != "both":
                changed = decode(pairs.corrupted[i].tolist()).rpartition(",")[2].rstrip("=")
                assert str(sum(map(int, changed.split("+"))))[0] != total[0]


def test_sums_stay_whole_where_numbers_are_in_threes():
    pairs = ew.load_task("addition", language_model("threes"), n=5).problem.pairs
    assert pairs.wrong.shape == (5, 89)


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces", "threes"])
def test_every_task_loads_whatever_the_cut_of_numbers(kind):
    model = language_model(kind, n_ctx=99)
    for name in BEHAVIOURS:
        task = ew.load_task(name, model, n=4)
        assert task.problem.loss(ew.Circuit.full(task.problem.graph)) is not None


def test_years_that_fit_no_cut_are_refused_with_what_would_work():
    words = [w for w in BEHAVIOURS["greater-than"].vocabulary() if not w.strip().isdigit()]
    whole = [f" {year}" for year in range(1100, 1800)]
    with pytest.raises(
        SettingError,
        match=r"0 of 679 years .* Not so: ' 11'\+'02', .* otherwise would do, but it has of "
        r"' '\+'1'\+'7'\+'3'\+'2': 0, ' 1'\+'7'\+'3'\+'2': 0, ' '\+'173'\+'2': 0\.",
    ):
        ew.load_task("greater-than", language_model(words=[*words, *whole]), n=4)


def test_a_family_has_prompts_of_several_lengths(model):
    pairs = ew.load_task("ioi", model, n=40, template="family").problem.pairs
    assert len(pairs.lengths.unique()) > 3
    subject, again, io = (pairs.clean[pairs.spans[s]] for s in ("S1", "S2", "IO"))
    assert torch.equal(subject, again)
    assert torch.equal(io, pairs.answers[:, 0])
    assert torch.equal(subject, pairs.wrong[:, 0])


def test_induction_reads_answers_where_bigrams_come_back(model):
    pairs = ew.load_task("induction", model, n=10).problem.pairs
    assert pairs.answers is None
    for row, at in zip(pairs.clean.tolist(), pairs.answer_at, strict=True):
        assert row[0] == model.tokenizer.bos
        places = at.nonzero().flatten().tolist()
        assert places == list(range(13, 24))
        for i in places[:-1]:
            assert row[i + 1] == row[row.index(row[i]) + 1]


# --- models without a tokenizer


@pytest.mark.parametrize("template", ["repeated", "remixed", "single"])
@pytest.mark.parametrize("d_vocab", [16, 40])
def test_induction_takes_any_vocabulary(template, d_vocab):
    model = language_model("ids", d_vocab=d_vocab, d_vocab_out=d_vocab)
    for corruption in BEHAVIOURS["induction"].corruptions:
        task = ew.load_task("induction", model, n=8, template=template, corruption=corruption)
        again = ew.load_task("induction", model, n=8, template=template, corruption=corruption)
        assert task.problem.pairs.sha256 == again.problem.pairs.sha256
        pairs = task.problem.pairs
        assert (pairs.clean[pairs.real] != pairs.corrupted[pairs.real]).any()
        assert (pairs.answers is not None) == (template == "single")
        splits = [{tuple(r) for r in p.pairs.clean.tolist()} for p in (task.problem, task.test)]
        assert not splits[0] & splits[1]


def test_text_needs_a_tokenizer():
    with pytest.raises(SettingError, match="ioi is a task of text, and random-0 has no tokenizer"):
        ew.load_task("ioi", language_model("ids"))
    with pytest.raises(SettingError, match="random-0 knows 11 tokens; induction needs at least 16"):
        ew.load_task("induction", language_model("ids", d_vocab=11, d_vocab_out=11))


# --- problems


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_language_task_is_a_problem(words_model, name):
    task = ew.load_task(name, words_model, n=4)
    assert task.name == name
    assert task.published is None, "the model has another shape than the paper's"
    assert task.problem.graph == words_model.graph
    assert task.problem.metric.name == TASKS[name].metric
    full = ew.Circuit.full(task.problem.graph)
    value, empty = task.problem.baselines()
    assert value != empty
    assert task.problem.loss(full) == pytest.approx(task.problem.metric.loss_sign * value)
    clean = [{tuple(row.tolist()) for row in p.pairs.clean} for p in (task.problem, task.test)]
    assert not clean[0] & clean[1]


def test_choices_are_recorded_and_reproduce(words_model):
    choices = {"template": "family", "corruption": "swap", "n": 5, "seed": 3}
    task = ew.load_task("ioi", words_model, **choices)
    assert dict(task.problem.origin) == {"task": "ioi", "model": "random-words", **choices}
    assert (
        task.problem.pairs.sha256
        == ew.load_task("ioi", words_model, **choices).problem.pairs.sha256
    )
    other = ew.load_task("ioi", words_model, **{**choices, "seed": 4})
    assert task.problem.pairs.sha256 != other.problem.pairs.sha256


def test_bos_is_the_papers_unless_asked(words_model):
    assert ew.load_task("ioi", words_model, n=3, bos=True).problem.pairs.n_positions == 16
    assert ew.load_task("docstring", words_model, n=3, bos=False).problem.pairs.n_positions == 40
    spans = ew.load_task("ioi", words_model, n=3, bos=True).problem.pairs.spans
    assert spans["IO"].nonzero()[:, 1].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ioi", {"n_layers": 12, "n_heads": 12}),
        ("greater-than", {"n_layers": 12, "n_heads": 12}),
        ("docstring", {"n_layers": 4, "n_heads": 8, "attention_only": True}),
    ],
)
def test_the_published_circuit_comes_with_the_papers_shape(name, shape):
    model = language_model("words", **shape)
    task = ew.load_task(name, model, n=2)
    assert task.published == published_circuit(name)
    assert task.problem.graph == task.published.graph
    assert task.problem.loss(task.published) == task.problem.loss(task.published)


def test_docstring_can_be_measured_as_its_authors_do(words_model):
    problem = ew.load_task("docstring", words_model, n=3, metric="logit-margin").problem
    logits = words_model(problem.pairs.clean)[:, -1]
    right = logits.gather(1, problem.pairs.answers)[:, 0]
    wrong = logits.gather(1, problem.pairs.wrong).amax(dim=1)
    found = problem.per_prompt(ew.Circuit.full(problem.graph))
    assert torch.allclose(found, right - wrong)
    assert problem.pairs.wrong.shape == (3, 13)


# --- refusals


def test_a_task_without_a_model_says_what_to_give(monkeypatch):
    monkeypatch.setattr("edgewise.tasks.registry.BUNDLED", ())
    with pytest.raises(SettingError, match="ioi needs a model: give one, such as 'gpt2'"):
        ew.load_task("ioi")


def test_unknown_choices(words_model):
    with pytest.raises(UnknownName, match="no corruption of ioi named 'swop'. Did you mean 'swap'"):
        ew.load_task("ioi", words_model, corruption="swop")
    with pytest.raises(UnknownName, match="no template of ioi named 'all'. Known: 'paper'"):
        ew.load_task("ioi", words_model, template="all")
    with pytest.raises(SettingError, match="ioi has no choice of kind of data"):
        ew.load_task("ioi", words_model, data="paper")
    with pytest.raises(SettingError, match="tracr-reverse has no choice of corruption"):
        ew.load_task("tracr-reverse", corruption="abc")
    with pytest.raises(SettingError, match="tracr-reverse has no choice of bos"):
        ew.load_task("tracr-reverse", bos=True)
    with pytest.raises(ProblemError, match="metric 'nll' needs answers"):
        ew.load_task("induction", words_model, metric="nll")
    assert ew.load_task("induction", words_model, template="single", metric="nll").problem.loss


def test_words_the_tokenizer_lacks_are_left_out_or_named():
    names = [" Mary", " John", " Anna", " Tom", " Kate", " Paul"]
    text = "Then, went to the park. gave a book to"
    words = [" and", *names, *examples("ioi", 1)[0].clean_words[:2]]
    words += [" " + w for w in text.replace(".", "").split()[1:]] + ["."]
    pairs = ew.load_task("ioi", language_model(words=words), n=4).problem.pairs
    assert pairs.lengths.unique().tolist() == [15]
    with pytest.raises(
        SettingError, match=r"4 of \d+ names are single tokens of random-words's tokenizer; .* 6"
    ):
        ew.load_task("ioi", language_model(words=[w for w in words if w not in names[:2]]), n=20)


def test_a_token_for_unknown_words_is_no_word():
    class WithUnknown(LongestWord):
        def encode(self, text):
            try:
                return super().encode(text)
            except ValueError:
                return [0]

    assert not TokenFit(WithUnknown(["Mary"]), "it").fits((" John",))
    assert not TokenFit(WordTokenizer(["Mary"]), "it").fits((" John",))
    assert TokenFit(WordTokenizer(["Mary", "17", "32"]), "it").fits((" Mary",))


def test_a_tokenizer_that_joins_words_loses_the_span_but_not_the_prompt():
    words = [w for w in examples("ioi", 1)[0].clean_words if w != " to"]
    joined = LongestWord([*{*words, *BEHAVIOURS["ioi"].vocabulary()}, " gave a"])
    drawn = examples("ioi", 3)
    pairs = TokenFit(joined, "it").pairs(drawn, bos=False, source="ioi")
    assert pairs.lengths.tolist() == [14] * 3
    assert {"IO", "S2", "END"} <= set(pairs.spans)


# --- the page


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_page_says_every_choice_and_span(name):
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    behaviour = BEHAVIOURS[name]
    assert f"`{behaviour.metric}`" in section
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    named = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    assert named == [*behaviour.templates, *behaviour.corruptions]
    spans = section.partition("\nSpans: ")[2]
    for template in behaviour.templates:
        for example in examples(name, 5, template=template):
            for span in example.spans:
                numbered = span.rstrip("0123456789") in ("word", "colour", "object")
                assert f"`{span}`" in spans or (numbered and f"`{span[:-1]}1`" in spans)
