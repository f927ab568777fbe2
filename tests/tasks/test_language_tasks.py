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
from edgewise.tasks.language.language_task import TokenFit
from language_models import LongestWord, language_model


@pytest.fixture(scope="module", params=["words", "byte-pairs"])
def model(request):
    return language_model(request.param)


@pytest.fixture(scope="module")
def words_model():
    return language_model("words")


def _texts(model, rows, real):
    return [model.tokenizer.decode(row[at].tolist()) for row, at in zip(rows, real, strict=True)]


def _words(model, ids):
    """The words of a row of answers, without its padding."""
    return [model.tokenizer.decode([k]) for k in ids[ids >= 0].tolist()]


# --- layouts, on two kinds of tokenizer


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_prompts_are_the_examples(model, name):
    if model.name == "random-byte-pairs" and name == "greater-than":
        return  # fewer years are two tokens there, so others are drawn
    task = ew.load_task(name, model, n=6, seed=2)
    start = "<bos>" if model.name == "random-words" else "<|endoftext|>"
    start = start if BEHAVIOURS[name].bos else ""
    for split, problem in (("validation", task.problem), ("test", task.test)):
        pairs, drawn = problem.pairs, examples(name, 6, 2, split=split)
        assert _texts(model, pairs.clean, pairs.real) == [start + e.clean for e in drawn]
        assert _texts(model, pairs.corrupted, pairs.real) == [start + e.corrupted for e in drawn]
        for i, example in enumerate(drawn):
            if len(example.answer_at) == 1:
                assert _words(model, pairs.answers[i]) == list(example.answers)


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


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if name != "induction"])
def test_corruptions_change_exactly_the_stated_tokens(model, name):
    for corruption, rule in BEHAVIOURS[name].corruptions.items():
        for template in BEHAVIOURS[name].templates:
            how = {"corruption": corruption, "template": template}
            pairs = ew.load_task(name, model, n=4, **how).problem.pairs
            changed = pairs.clean != pairs.corrupted
            assert (changed.sum(dim=1) > 0).all()
            if "attractor" not in rule.changes:  # which may be the last word, and has no span then
                named = torch.stack([pairs.spans[s] for s in rule.changes]).any(dim=0)
                assert not (changed & ~named).any()


def test_years_that_are_not_two_tokens_are_left_out():
    model = language_model("byte-pairs")
    reader = TokenFit(model.tokenizer, "it")
    runs = [(f" {century}", f"{year:02}") for century in range(11, 18) for year in range(2, 99)]
    fitting = {run for run in runs if reader.fits(run)}
    assert 30 < len(fitting) < len(runs), "digits merge across the two halves of some"
    pairs = ew.load_task("greater-than", model, n=40).problem.pairs
    assert {tuple(_words(model, row[6:8])) for row in pairs.clean} <= fitting
    assert pairs.lengths.unique().tolist() == [10]


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces", "threes"])
@pytest.mark.parametrize("corruption", BEHAVIOURS["greater-than"].corruptions)
def test_years_cut_otherwise_are_asked_for_the_token_of_the_tens_digit(kind, corruption):
    model, threes = language_model(kind), kind == "threes"
    pairs = ew.load_task("greater-than", model, n=25, corruption=corruption).problem.pairs
    decode = model.tokenizer.decode
    for i in range(25):
        text = decode(pairs.clean[i].tolist())
        match = re.fullmatch(r"The \w+ lasted from the year (1[1-7])(\d\d) to (.*)", text)
        century, digits, end = match.groups()
        before = century if threes else ""
        assert end == ("" if threes else century), "what is asked comes next"
        tokens = [f"{before}{k}" for k in range(10)]
        right, wrong = (set(_words(model, ids[i])) for ids in (pairs.answers, pairs.wrong))
        assert right == {token for token in tokens if token > before + digits[0]}
        assert wrong == {token for token in tokens if token < before + digits[0]}
        # They are what the tokenizer makes of whole years.
        later = model.tokenizer.encode(f"{text}{before}99")
        assert later[: len(pairs.clean[i])] == pairs.clean[i].tolist()
        assert decode([later[len(pairs.clean[i])]]) in right
        span = "noun" if corruption == "random-noun" else "year" if threes else "YY"
        assert not ((pairs.clean[i] != pairs.corrupted[i]) & ~pairs.spans[span][i]).any()
        if corruption != "random-noun":
            corrupted = decode(pairs.corrupted[i].tolist())
            assert re.search(r"year \d\d(\d)", corrupted)[1] != digits[0], "it has other answers"
    assert (pairs.spans["END"] == pairs.answer_at).all()


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces"])
@pytest.mark.parametrize("template", BEHAVIOURS["addition"].templates)
def test_sums_of_digits_are_asked_for_the_tens_digit(kind, template):
    def total(ids):
        text = model.tokenizer.decode(ids.tolist())
        return text, str(sum(map(int, text.rpartition(",")[2].rstrip("=").split("+"))))

    model = language_model(kind)
    for corruption in BEHAVIOURS["addition"].corruptions:
        how = {"corruption": corruption, "template": template}
        pairs = ew.load_task("addition", model, n=25, **how).problem.pairs
        for i in range(25):
            text, number = total(pairs.clean[i])
            assert _words(model, pairs.answers[i]) == [number[0]]
            assert sorted(_words(model, pairs.wrong[i])) == [*"123456789".replace(number[0], "")]
            whole = model.tokenizer.encode(text + number)
            clean = [*pairs.clean[i].tolist(), pairs.answers[i].item()]
            assert whole[: len(clean)] == clean
            if corruption != "both":
                assert total(pairs.corrupted[i])[1][0] != number[0]


@pytest.mark.parametrize("kind", ["digits", "sentence-pieces", "threes"])
def test_every_task_loads_whatever_the_cut_of_numbers(kind):
    model = language_model(kind, n_ctx=99)
    tasks = {name: ew.load_task(name, model, n=4) for name in BEHAVIOURS}
    assert (tasks["addition"].problem.pairs.wrong.shape[1] == 89) == (kind == "threes")  # whole


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
        assert at.nonzero().flatten().tolist() == list(range(13, 24))
        assert row[14:] == [row[row.index(token) + 1] for token in row[13:-1]]


# --- models without a tokenizer


@pytest.mark.parametrize("template", ["repeated", "remixed", "single"])
@pytest.mark.parametrize("d_vocab", [16, 40])
def test_induction_takes_any_vocabulary(template, d_vocab):
    model = language_model("ids", d_vocab=d_vocab, d_vocab_out=d_vocab)
    for corruption in BEHAVIOURS["induction"].corruptions:
        how = {"n": 8, "template": template, "corruption": corruption}
        task = ew.load_task("induction", model, **how)
        pairs = task.problem.pairs
        assert pairs.sha256 == ew.load_task("induction", model, **how).problem.pairs.sha256
        assert (pairs.clean[pairs.real] != pairs.corrupted[pairs.real]).any()
        assert (pairs.answers is not None) == (template == "single")
        assert all(row.unique(return_counts=True)[1].max() == 2 for row in pairs.clean)
        splits = [{tuple(r) for r in p.pairs.clean.tolist()} for p in (task.problem, task.test)]
        assert not splits[0] & splits[1]


# --- problems


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_language_task_is_a_problem(words_model, name):
    task = ew.load_task(name, words_model, n=4)
    assert task.name == name
    assert task.published is None, "the model has another shape than the paper's"
    assert task.problem.graph == words_model.graph
    assert task.problem.metric.name == TASKS[name].metric
    value, empty = task.problem.baselines()
    assert value != empty
    clean = [{tuple(row.tolist()) for row in p.pairs.clean} for p in (task.problem, task.test)]
    assert not clean[0] & clean[1]


def test_choices_are_recorded_and_reproduce(words_model):
    choices = {"template": "family", "corruption": "swap", "n": 5, "seed": 3}
    first, again, other = (
        ew.load_task("ioi", words_model, **{**choices, "seed": seed}).problem for seed in (3, 3, 4)
    )
    assert dict(first.origin) == {"task": "ioi", "model": "random-words", **choices}
    assert first.pairs.sha256 == again.pairs.sha256 != other.pairs.sha256


def test_bos_is_the_papers_unless_asked(words_model):
    pairs = ew.load_task("ioi", words_model, n=3, bos=True).problem.pairs
    assert pairs.n_positions == 16
    assert pairs.spans["IO"].nonzero()[:, 1].tolist() == [3, 3, 3]
    assert ew.load_task("docstring", words_model, n=3, bos=False).problem.pairs.n_positions == 40


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ioi", {"n_layers": 12, "n_heads": 12}),
        ("greater-than", {"n_layers": 12, "n_heads": 12}),
        ("docstring", {"n_layers": 4, "n_heads": 8, "attention_only": True}),
    ],
)
def test_the_published_circuit_comes_with_the_papers_shape(name, shape):
    task = ew.load_task(name, language_model("words", **shape), n=2)
    assert task.published == published_circuit(name)
    assert task.problem.graph == task.published.graph
    assert torch.isfinite(torch.tensor(task.problem.loss(task.published)))


# --- refusals


def test_a_task_without_a_model_says_what_to_give(monkeypatch):
    monkeypatch.setattr("edgewise.tasks.registry.BUNDLED", ())
    with pytest.raises(SettingError, match="ioi needs a model: give one, such as 'gpt2'"):
        ew.load_task("ioi")


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("ioi", {"corruption": "swop"}, "no corruption of ioi named 'swop'. Did you mean 'swap'"),
        ("ioi", {"template": "all"}, "no template of ioi named 'all'. Known: 'paper'"),
        ("ioi", {"data": "paper"}, "ioi has no choice of kind of data"),
        ("ioi", {"n": True}, "n is True; it must be a whole number"),
        ("induction", {"metric": "nll"}, "metric 'nll' needs answers"),
        ("tracr-reverse", {"corruption": "abc"}, "has no choice of corruption"),
        ("tracr-reverse", {"bos": True}, "has no choice of bos"),
        ("tracr-reverse", {"n": 7}, "asked for 7 prompts; tracr-reverse has 6"),
        ("tracr-xproportion", {"n": 0}, "a task needs at least 1"),
        ("tracr-reverse", {"model": "or-gate"}, "a task of models shaped like 'tracr-reverse'"),
        ("ioi", {"model": language_model("ids")}, "a task of text, and random-0 has no tokenizer"),
        (
            "induction",
            {"model": language_model("ids", d_vocab=11, d_vocab_out=11)},
            "random-0 knows 11 tokens; induction needs at least 16",
        ),
    ],
)
def test_refusals(words_model, name, choices, message):
    model = {} if name.startswith("tracr") else {"model": words_model}
    with pytest.raises((UnknownName, SettingError, ProblemError), match=message):
        ew.load_task(name, **{**model, **choices})


def test_words_the_tokenizer_lacks_are_left_out_or_named():
    names = [" Mary", " John", " Anna", " Tom", " Kate", " Paul"]
    rest = ["went", "to", "the", "park", "gave", "a", "book", "to"]
    words = ["Then", ",", ".", " and", *names, *(f" {word}" for word in rest)]
    pairs = ew.load_task("ioi", language_model(words=words), n=4).problem.pairs
    assert pairs.lengths.unique().tolist() == [15]
    few = language_model(words=[word for word in words if word not in names[:2]])
    with pytest.raises(
        SettingError, match=r"4 of \d+ names are single tokens of random-words's tokenizer; .* 6"
    ):
        ew.load_task("ioi", few, n=20)


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
    words = {*examples("ioi", 1)[0].clean_words, *BEHAVIOURS["ioi"].vocabulary()}
    joined = LongestWord([*words, " gave a"])
    pairs = TokenFit(joined, "it").pairs(examples("ioi", 3), bos=False, source="ioi")
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
    text = section.partition("\nSpans: ")[2]
    for template in behaviour.templates:
        spans = {span for e in examples(name, 5, template=template) for span in e.spans}
        for span in spans:
            numbered = span.rstrip("0123456789") in ("word", "colour", "object")
            assert f"`{span}`" in text or (numbered and f"`{span[:-1]}1`" in text)
