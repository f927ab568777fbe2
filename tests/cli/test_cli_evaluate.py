"""`edgewise evaluate`: what it prints says which prompts, how many, and which seeds."""

import json

import pytest

import edgewise as ew
from commands import edgewise, ok

FEW = ("--random", "3", "--knock-outs", "2")


@pytest.fixture
def run(tmp_path):
    task = ew.load_task("tracr-xproportion")
    found = ew.eap_ig(task.problem, edges=12)
    return found.with_(request={"task": "tracr-xproportion"}).save(tmp_path / "run")


def test_an_evaluation_says_what_it_is_about(capsys, run):
    out = " ".join(ok(capsys, "evaluate", run, *FEW, "--seed", "5").split())
    assert "12 of 38 edges, on 50 test prompts of tracr-xproportion, zero ablation" in out
    assert "Random circuits of 12 edges, seed 5" in out
    assert "the worst of 2 sets, seed 5" in out
    assert "keeps 100 % of the effect on 50 held-out prompts." in out
    assert "none of them does as well (3 drawn, seed 5; p 0.25)" in out
    assert "8 of its 12 edges are needed, 4 make no difference" in out
    assert "ROC AUC 1, average precision 1" in out


def test_an_evaluation_as_json(capsys, run):
    document = json.loads(
        ok(capsys, "evaluate", run, *FEW, "--curve", "--node-counting", "paper", "--json")
    )
    assert (document["split"], document["n_prompts"], document["seed"]) == ("test", 50, 0)
    assert document["faithfulness"]["normalized"] == pytest.approx(1.0)
    assert [band["kind"] for band in document["random"]] == ["uniform", "connected"]
    assert len(document["completeness"]["knock_outs"]) == 2
    assert document["minimality"]["needed"] == 8
    assert document["recovery"]["published"]["points"][0]["nodes"]["n_true"] == 11
    assert document["score_recovery"]["published"]["roc_auc"] == 1.0
    assert document["curve"]["cpr"] + document["curve"]["cmd"] == pytest.approx(0.999)
    assert document["sentences"][0].startswith("The circuit (12 of 38 edges)")


def test_parts_that_are_not_wanted(capsys, run, tmp_path):
    circuit = ew.Run.load(run).circuit.save(tmp_path / "circuit.json")
    less = ("--random", "0", "--knock-outs", "0", "--no-minimality", "--split", "discovery")
    task = ("--task", "tracr-xproportion")
    document = json.loads(ok(capsys, "evaluate", circuit, *task, *less, "--json"))
    assert (document["split"], document["random"], document["minimality"]) == (
        "discovery",
        [],
        None,
    )
    assert document["completeness"]["knock_outs"] == []
    assert document["score_recovery"] == {}  # a circuit file has no scores
    out = " ".join(ok(capsys, "evaluate", circuit, *task, *less).split())
    assert "on the prompts it was found on (50)." in out
    code, _, err = edgewise(capsys, "evaluate", circuit, *task, "--curve")
    assert (code, "a circuit file has no scores" in err) == (2, True)


def test_a_report_shows_the_evaluation(capsys, run, tmp_path):
    page = tmp_path / "page.html"
    assert f"wrote {page}" in ok(capsys, "evaluate", run, *FEW, "--curve", "--report", page)
    text = page.read_text()
    assert "12 of 38 edges, on 50 test prompts of tracr-xproportion, zero ablation." in text
    assert (
        "<li>Removed one at a time, 8 of its 12 edges are needed, 4 make no difference.</li>"
        in text
    )
    assert "Random circuits of 12 edges, seed 0" in text
    assert "Nodes knocked out: the worst of 2 sets, seed 0" in text
    assert "Size and l2" in text
    assert "Other measurements" not in text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--node-counting", "papers"), "no node counting named 'papers'"),
        (("--random", "-1"), "--random is -1; it must be a whole number of at least 0"),
        (("--greedy", "-1"), "--greedy is -1"),
    ],
)
def test_settings_are_refused_before_anything_is_loaded(capsys, option, message):
    code, _, err = edgewise(capsys, "evaluate", "nowhere", *option)
    assert code == 2
    assert message in " ".join(err.split())
