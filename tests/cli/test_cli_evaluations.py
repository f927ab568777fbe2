"""`edgewise evaluate`, `stability`, `certify`, `test`: which prompts, how many, which seeds."""

import json

import pytest

import edgewise as ew
from commands import ok, refused

FEW = ("--random", "3", "--knock-outs", "2")
TASK = ("--task", "tracr-xproportion")


@pytest.fixture
def run(tmp_path):
    found = ew.eap_ig(ew.load_task("tracr-xproportion").problem, edges=12)
    return found.with_(request={"task": "tracr-xproportion"}).save(tmp_path / "run")


def words(*arguments):
    return " ".join(ok(*arguments).split())


def test_an_evaluation_says_what_it_is_about(capsys, run):
    out = words(capsys, "evaluate", run, *FEW, "--seed", "5")
    for sentence in (
        "12 of 38 edges, on 50 test prompts of tracr-xproportion, zero ablation",
        "Random circuits of 12 edges, seed 5",
        "the worst of 2 sets, seed 5",
        "keeps 100 % of the effect on 50 held-out prompts.",
        "none of them does as well (3 drawn, seed 5; p 0.25)",
        "8 of its 12 edges are needed, 4 make no difference",
        "ROC AUC 1, average precision 1",
    ):
        assert sentence in out


def test_an_evaluation_as_json_and_as_a_page(capsys, run, tmp_path):
    page = tmp_path / "page.html"
    command = ("evaluate", run, *FEW, "--curve", "--node-counting", "paper", "--report", page)
    document = json.loads(ok(capsys, *command, "--json"))
    assert (document["split"], document["n_prompts"], document["seed"]) == ("test", 50, 0)
    assert document["faithfulness"]["normalized"] == pytest.approx(1.0)
    assert [band["kind"] for band in document["random"]] == ["uniform", "connected"]
    assert len(document["completeness"]["knock_outs"]) == 2
    assert document["minimality"]["needed"] == 8
    assert document["recovery"]["published"]["points"][0]["nodes"]["n_true"] == 11
    assert document["score_recovery"]["published"]["roc_auc"] == 1.0
    assert document["curve"]["cpr"] + document["curve"]["cmd"] == pytest.approx(0.999)
    text = page.read_text()
    assert "Random circuits of 12 edges, seed 0" in text
    assert "Size and l2" in text
    assert "Other measurements" not in text


def test_parts_that_are_not_wanted(capsys, run, tmp_path):
    circuit = ew.Run.load(run).circuit.save(tmp_path / "circuit.json")
    less = ("--random", "0", "--knock-outs", "0", "--no-minimality", "--split", "discovery")
    document = json.loads(ok(capsys, "evaluate", circuit, *TASK, *less, "--json"))
    assert (document["split"], document["random"], document["minimality"]) == (
        "discovery",
        [],
        None,
    )
    assert document["completeness"]["knock_outs"] == []
    assert document["score_recovery"] == {}  # a circuit file has no scores
    assert "has no scores" in refused(capsys, "evaluate", circuit, *TASK, "--curve")


@pytest.mark.parametrize(
    "option",
    [
        ("evaluate", "--node-counting", "papers"),
        ("evaluate", "--random", "-1"),
        ("evaluate", "--greedy", "-1"),
        ("evaluate", "--split", "train"),
        ("test", "--split", "train"),
        ("test", "--correction", "sidak"),
    ],
)
def test_settings_are_refused_before_anything_is_loaded(capsys, option):
    command, *words = option
    message = refused(capsys, command, "nowhere", *words)
    assert words[-1] in message
    assert "nowhere" not in message


def test_stability(capsys, tmp_path):
    out, journal = tmp_path / "s.json", tmp_path / "j.jsonl"
    command = ("stability", *TASK, "--n", "10", "--threshold", "0.01", "--replicates", "16")
    command += ("--seed", "2")
    text = words(capsys, *command, "--over", "prompts, head-order", "--out", out)
    found = ew.Stability.load(out)
    assert found.sentences()[0] in text
    assert "held-out prompts" in text
    assert (found.n, found.seed, found.over) == (16, 2, ("prompts", "head-order"))
    document = json.loads(ok(capsys, *command, "--journal", journal, "--json"))
    assert 0 < document["jaccard"]["mean"] <= 1
    assert len(journal.read_text().splitlines()) == 17
    assert "acdc draws nothing" in refused(capsys, *command, "--over", "seed")
    assert "acdc' needs threshold" in refused(capsys, "stability", *TASK)


def test_a_setting_of_the_method_that_the_problem_has_too(capsys):
    command = ("stability", *TASK, "--n", "10", "--method", "random", "--method-seed", "7")
    command += ("--edges", "8", "--over", "seed", "--replicates", "16", "--json")
    found = json.loads(ok(capsys, *command))
    assert found["settings"]["seed"] == 7
    assert found["jaccard"]["mean"] < 1


def test_certify(capsys, tmp_path):
    command = ("certify", "--task", "tracr-reverse", "--threshold", "0.01", "--size", "3")
    text = words(capsys, *command, "--out", tmp_path / "c.json")
    assert "15 edges stay kept and 91 stay removed" in text
    assert ew.Certified.load(tmp_path / "c.json").kept(1).n_edges == 15
    command = ("certify", *TASK, "--n", "10", "--method", "eap-ig", "--edges", "8", "--size", "2")
    assert json.loads(ok(capsys, *command, "--json"))["exact"] is True


def test_hypothesis_tests(capsys, tmp_path):
    ew.load_task("tracr-xproportion", n=20).truth.save(tmp_path / "c.json")
    command = ("test", tmp_path / "c.json", *TASK, "--n", "20", "--random", "40")
    text = words(capsys, *command, "--out", tmp_path / "t.json")
    assert "2 edges matter no more than random ones: tok_embed->a1.h0.q" in text
    assert "held-out prompts" in text
    document = json.loads(ok(capsys, *command, "--split", "discovery", "--json"))
    assert document["split"] == "discovery"
    assert document["tests"][0]["name"] == "equivalence"
