"""One behaviour in several settings: what varies, a run for each, and going on when stopped."""

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, OutputError, SettingError, UnknownName
from edgewise.tasks.language import BEHAVIOURS
from language_models import language_model
from models import random_model, random_pairs


def test_every_corruption_of_the_same_clean_prompts():
    model = language_model()
    tasks = ew.load_variants("ioi", model, over=["corruption"], n=5)
    assert list(tasks) == list(BEHAVIOURS["ioi"].corruptions)
    assert [t.problem.origin["corruption"] for t in tasks.values()] == list(tasks)
    clean = {task.problem.pairs.clean.numpy().tobytes() for task in tasks.values()}
    corrupted = {task.problem.pairs.corrupted.numpy().tobytes() for task in tasks.values()}
    assert (len(clean), len(corrupted)) == (1, len(tasks))
    assert {id(task.problem.model) for task in tasks.values()} == {id(model)}


def test_the_product_of_what_varies():
    over = {"corruption": ["other", "first-b"], "metric": None, "seed": [4, 5]}
    tasks = ew.load_variants("induction", language_model("ids"), over=over, n=4, template="single")
    assert list(tasks)[:3] == [
        "other, kl, seed 4",
        "other, kl, seed 5",
        "other, logit-diff, seed 4",
    ]
    assert len(tasks) == 8
    problem = tasks["first-b, logit-diff, seed 5"].problem
    assert (problem.metric.name, problem.origin["seed"]) == ("logit-diff", 5)


def test_metrics_and_ablations_that_do_not_fit_are_left_out():
    model = language_model("ids")
    with pytest.raises(SettingError, match="1 of metric is one setting only"):
        ew.load_variants("induction", model, over=["metric"], n=4, template="repeated")
    tasks = ew.load_variants("induction", model, over=["ablation"], n=4)
    assert list(tasks) == ["corrupted", "zero", "mean", "mean-positional"]
    assert list(ew.load_variants("or-gate", over=["seed"])) == ["seed 0", "seed 1", "seed 2"]


def test_models_are_what_varies():
    models = [language_model("ids"), language_model("ids", seed=1)]
    with pytest.raises(SettingError, match="a value of model comes twice: random-0, random-0"):
        ew.load_variants("induction", over={"model": models[:1] * 2}, n=4)
    models[1] = ew.Model(models[1].config, models[1].weights, name="another")
    tasks = ew.load_variants("induction", over={"model": models}, n=4)
    assert list(tasks) == ["random-0", "another"]
    assert [task.problem.model for task in tasks.values()] == models


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("or-gate", {"over": []}, "say what varies: one or more of corruption, template"),
        ("or-gate", {"over": ["metrics"]}, "Did you mean 'metric'"),
        ("or-gate", {"over": ["model"]}, "name those to compare"),
        ("or-gate", {"over": ["seed"], "seed": 3}, "seed is what varies"),
        ("or-gate", {"over": {"metric": "kl"}}, "the values of metric are 'kl'; pass a list"),
        ("or-gate", {"over": {"metric": ["kl", "kl"]}}, "a value of metric comes twice: kl, kl"),
        ("or-gate", {"over": ["corruption"]}, "or-gate has no choice of corruption"),
        ("ioi", {"over": {"corruption": ["abd"]}}, "Did you mean 'abc'"),
        ("tracr-reverse", {"over": ["ablation", "seed", "data"]}, "are 24 settings, more than 9"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises((SettingError, UnknownName), match=message):
        ew.load_variants(name, most=9, **options)


# --- a run for each


@pytest.fixture
def problems():
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "logit-diff")
    return {f"{kind} ref": problem.with_(ablation=kind) for kind in ("corrupted", "zero", "mean")}


def same(first, second):
    assert list(first) == list(second)
    for a, b in zip(first.values(), second.values(), strict=True):
        assert a.circuit == b.circuit
        torch.testing.assert_close(a.scores.values, b.scores.values)


def test_a_stopped_call_goes_on_to_what_discover_gives(problems, tmp_path):
    whole = ew.discover_each(problems, "acdc", threshold=0.05)
    assert all(p.passes() == (0, 0) for p in problems.values()), "what they compute is let go"
    same(whole, {n: ew.acdc(p, threshold=0.05) for n, p in problems.items()})
    out, messages = tmp_path / "runs", []

    def stop(step):
        if "2 of 3" in step.message and step.done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ew.discover_each(problems, "acdc", out=out, on_progress=stop, threshold=0.05)
    assert {p.name for p in out.iterdir()} == {"corrupted-ref", "zero-ref.unfinished"}
    before = (out / "corrupted-ref" / "run.json").read_bytes()
    runs = ew.discover_each(
        problems, "acdc", out=out, on_progress=lambda s: messages.append(s.message), threshold=0.05
    )
    same(runs, whole)
    assert runs["zero ref"].cost.taken_over > 0
    assert not any("1 of 3" in message for message in messages)
    assert (out / "corrupted-ref" / "run.json").read_bytes() == before
    assert sorted(p.name for p in out.iterdir()) == ["corrupted-ref", "mean-ref", "zero-ref"]
    same(ew.discover_each(problems, "acdc", out=out, threshold=0.05), whole)


def _another_model(problem):
    other = random_model(1)
    return problem.with_(model=ew.Model(other.config, other.weights, name="random-0"))


@pytest.mark.parametrize(
    ("changed", "settings", "message"),
    [
        (lambda p: p, {"threshold": 0.06}, "a run of other work: threshold was 0.05, is 0.06"),
        (lambda p: p.with_(metric="kl"), {"threshold": 0.05}, "metric: name was"),
        (_another_model, {"threshold": 0.05}, "other work: other weights"),
        (lambda p: p, {"method": "eap"}, "other work: method was 'acdc', is 'eap'"),
    ],
)
def test_other_work_in_the_folder_is_refused_before_anything_runs(
    problems, tmp_path, changed, settings, message
):
    first = dict(list(problems.items())[-1:])
    ew.discover_each(first, "acdc", out=tmp_path, threshold=0.05)

    def never(step):
        raise AssertionError("a run started")

    others = {name: changed(problem) for name, problem in problems.items()}
    with pytest.raises(OutputError, match=message):
        ew.discover_each(others, out=tmp_path, on_progress=never, **settings)


def test_folders(problems, tmp_path):
    run = ew.discover_each(problems, "eap", out=tmp_path / "a")["zero ref"]
    assert ew.Run.load(tmp_path / "a" / "zero-ref").circuit == run.circuit
    (tmp_path / "b" / "zero-ref").mkdir(parents=True)
    (tmp_path / "b" / "zero-ref" / "notes.txt").write_text("mine")
    alike = {"a b": problems["zero ref"], "a/b": problems["mean ref"]}
    for chosen, out, message in (
        (problems, tmp_path / "a" / "zero-ref", "Choose a folder for several runs"),
        (problems, tmp_path / "b", "is not empty"),
        (alike, tmp_path / "c", "do not all give different folders"),
    ):
        with pytest.raises(OutputError, match=message):
            ew.discover_each(chosen, "eap", out=out)


def test_an_error_says_in_which_run(problems):
    def broken(logits, rows):
        return logits.new_full((len(rows.prompt),), float("nan"))

    problems["zero ref"] = problems["zero ref"].with_(metric=broken)
    with pytest.raises(MetricError) as error:
        ew.discover_each(problems, "eap")
    assert error.value.__notes__ == ["(In the run 'zero ref'.)"]
    with pytest.raises(SettingError, match="needs threshold"):
        ew.discover_each(problems, "acdc")
    with pytest.raises(SettingError, match="takes problems by name"):
        ew.discover_each({}, "eap")
