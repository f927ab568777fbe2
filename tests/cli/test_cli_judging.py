"""`edgewise stability`, `certify`, `test`."""

import json

import edgewise as ew
from commands import ok, refused

TASK = ["--task", "tracr-xproportion", "--n", "10"]


def test_stability(capsys, tmp_path):
    out = tmp_path / "s.json"
    asked = ["stability", *TASK, "--threshold", "0.01", "--replicates", "16", "--seed", "2"]
    text = ok(capsys, *asked, "--over", "prompts, head-order", "--out", out)
    found = ew.Stability.load(out)
    assert found.sentences()[0] in " ".join(text.split())
    assert "held-out prompts" in " ".join(text.split())
    assert (found.n, found.seed, found.over) == (16, 2, ("prompts", "head-order"))
    document = json.loads(ok(capsys, *asked, "--journal", tmp_path / "j.jsonl", "--json"))
    assert 0 < document["jaccard"]["mean"] <= 1
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 17
    assert "acdc draws nothing" in refused(capsys, *asked, "--over", "seed")
    assert "acdc' needs threshold" in refused(capsys, "stability", *TASK)


def test_a_setting_of_the_method_that_the_problem_has_too(capsys):
    text = ok(
        capsys, "stability", *TASK, "--method", "random", "--method-seed", "7",
        "--edges", "8", "--over", "seed", "--replicates", "16", "--json",
    )  # fmt: skip
    found = json.loads(text)
    assert found["settings"]["seed"] == 7
    assert found["jaccard"]["mean"] < 1


def test_certify(capsys, tmp_path):
    asked = ["certify", "--task", "tracr-reverse", "--threshold", "0.01", "--size", "3"]
    text = " ".join(ok(capsys, *asked, "--out", tmp_path / "c.json").split())
    assert "15 edges stay kept and 91 stay removed" in text
    assert "this is sure" in text
    assert ew.Certified.load(tmp_path / "c.json").kept(1).n_edges == 15
    asked = ["certify", *TASK, "--method", "eap-ig", "--edges", "8", "--size", "2", "--json"]
    assert json.loads(ok(capsys, *asked))["exact"] is True


def test_test(capsys, tmp_path):
    task = ew.load_task("tracr-xproportion", n=20)
    task.truth.save(tmp_path / "c.json")
    asked = ["test", tmp_path / "c.json", "--task", "tracr-xproportion", "--random", "40"]
    text = " ".join(ok(capsys, *asked, "--out", tmp_path / "t.json").split())
    assert "2 edges matter no more than random ones: tok_embed->a1.h0.q" in text
    assert "held-out prompts" in text
    document = json.loads(ok(capsys, *asked, "--split", "discovery", "--json"))
    assert document["split"] == "discovery"
    assert document["tests"][0]["name"] == "equivalence"
    assert "split is 'train'" in refused(capsys, *asked, "--split", "train")
    assert "no correction named" in refused(capsys, *asked, "--correction", "sidak")
