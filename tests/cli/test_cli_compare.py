"""`edgewise compare`: circuits that are given, or found in several settings."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import transformers

import edgewise as ew
from commands import edgewise, ok
from edgewise.cli.compare import groups_of, parse_over
from edgewise.errors import EdgewiseError
from edgewise.tasks import published_circuit, published_groups
from models import random_model, random_pairs

REVERSE = ("--task", "tracr-reverse")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two run folders, and a circuit file."""
    folder = tmp_path_factory.mktemp("found")
    problem = ew.load_task("tracr-reverse").problem
    for kind in ("zero", "mean"):
        ew.acdc(problem.with_(ablation=kind), threshold=0.01).save(folder / kind)
    published_circuit("tracr-reverse").save(folder / "known.json")
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A folder with a random GPT-2 without a tokenizer, for induction on token ids."""
    folder = tmp_path_factory.mktemp("gpt2") / "model"
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 12, "vocab_size": 24, "n_positions": 24}
    module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=1)
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    module.double().save_pretrained(folder)
    return folder


# --- circuits that are given


def test_runs_and_files(capsys, found, tmp_path):
    page = tmp_path / "page.html"
    paths = (found / "zero", found / "mean", found / "known.json")
    out = ok(capsys, "compare", *paths, "--report", page)
    assert "3 known.json" in out
    assert "Jaccard of edges" in out
    assert "Rank correlation" in out
    assert "in all of them." in " ".join(out.split())
    assert page.read_text().startswith("<!doctype html>")
    document = json.loads(ok(capsys, "compare", *paths, "--json"))
    assert [c["name"] for c in document["circuits"]] == ["zero", "mean", "known.json"]
    expected = ew.compare(
        [ew.Run.load(paths[0]), ew.Run.load(paths[1]), ew.Circuit.load(paths[2])],
        names=["zero", "mean", "known.json"],
    )
    assert document == json.loads(json.dumps(expected.to_json())) | {"runs": {}, "report": None}


def test_each_on_its_own_problem_and_all_on_one(capsys, found):
    runs = (found / "zero", found / "mean")
    crossed = json.loads(ok(capsys, "compare", *runs, "--cross", "--json"))["faithfulness"]
    assert [(j["circuit"], j["owners"]) for j in crossed] == [
        ("zero", ["zero"]), ("mean", ["zero"]), ("zero", ["mean"]), ("mean", ["mean"]),
    ]  # fmt: skip
    assert "on the problem of" in ok(capsys, "compare", *runs, "--cross")
    named = json.loads(ok(capsys, "compare", *runs, found / "known.json", *REVERSE, "--json"))
    judged = {j["circuit"]: j["normalized"] for j in named["faithfulness"]}
    assert judged["known.json"] == pytest.approx(1)


def test_names_of_circuits(capsys, found, tmp_path):
    other = tmp_path / "zero"
    ew.Run.load(found / "mean").save(other)
    paths = (found / "zero", other)
    names = [c["name"] for c in json.loads(ok(capsys, "compare", *paths, "--json"))["circuits"]]
    assert names == [str(path) for path in paths]
    out = ok(capsys, "compare", *paths, "--names", "left, right", "--json")
    assert [c["name"] for c in json.loads(out)["circuits"]] == ["left", "right"]


def test_groups_come_with_the_task():
    graph = published_circuit("ioi").graph
    assert groups_of("ioi", ["gpt2"], graph) == published_groups("ioi")
    assert groups_of("ioi", ["gpt2"], ew.Graph.build(12, 12)) == published_groups("ioi")
    assert groups_of("ioi", ["gpt2"], ew.Graph.build(2, 2)) == {}
    assert groups_of("ioi", ["gpt2", "gpt-neo-125m"], graph) == groups_of("ioi", [], graph) == {}
    assert groups_of("tracr-reverse", ["gpt2"], graph) == groups_of("pronouns", ["gpt2"], graph)
    assert groups_of(None, ["gpt2"], graph) == {}


def test_runs_from_python_cannot_be_made_again(capsys, tmp_path):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl")
    for threshold in (0.1, 0.2):
        ew.acdc(problem, threshold=threshold).save(tmp_path / str(threshold))
    paths = (tmp_path / "0.1", tmp_path / "0.2")
    assert "discovery prompts" in ok(capsys, "compare", *paths)
    code, _, err = edgewise(capsys, "compare", *paths, "--cross")
    assert (code, "does not say how its problem was made" in err) == (2, True)


# --- circuits to find


def test_find_and_compare(capsys, gpt2, tmp_path):
    out, page = tmp_path / "runs", tmp_path / "page.html"
    command = ("compare", "--task", "induction", "--model", gpt2, "--template", "single")
    command += ("--n", 6, "--over", "corruption,metric=kl,logit-diff", "--method", "eap-ig")
    command += ("--edges", 8, "--cross", "--out", out)
    text = ok(capsys, *command, "--report", page)
    assert "6 first-a, logit-diff" in text
    assert "held-out prompts" in text
    document = json.loads(ok(capsys, *command, "--json"))
    assert len(document["pairs"]) == 15
    assert len(document["faithfulness"]) == 36
    assert {j["prompts"] for j in document["faithfulness"]} == {"held-out"}
    for name, folder in document["runs"].items():
        run = ew.Run.load(folder)
        corruption, metric = name.split(", ")
        assert (run.request["corruption"], run.problem.metric) == (corruption, metric)
        judged = json.loads(ok(capsys, "evaluate", folder, "--json"))["faithfulness"]
        own = next(
            j for j in document["faithfulness"] if j["circuit"] == name and j["owners"] == [name]
        )
        assert own["value"] == pytest.approx(judged["circuit"])
    given = json.loads(ok(capsys, "compare", *document["runs"].values(), "--cross", "--json"))
    assert given["edges"].keys() == document["edges"].keys()
    values = [[j["value"] for j in d["faithfulness"]] for d in (given, document)]
    assert values[0] == pytest.approx(values[1])


def test_method_settings_that_share_a_name_with_an_option(capsys, gpt2):
    command = ("compare", "--task", "induction", "--model", gpt2, "--n", 4, "--over", "seed=1,2")
    out = ok(
        capsys, *command, "--method", "eap-ig", "--edges", 8, "--method-over", "activations",
        "--metric", "kl", "--json",
    )  # fmt: skip
    assert [c["name"] for c in json.loads(out)["circuits"]] == ["seed 1", "seed 2"]


def test_pairs_of_a_users_own(capsys, gpt2, tmp_path):
    lines = [{"clean": [1, 2, 3, i], "corrupted": [1, 5, 3, i]} for i in range(6, 9)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    command = ("compare", "--pairs", file, "--model", gpt2, "--threshold", 0.01)
    document = json.loads(ok(capsys, *command, "--over", "ablation", "--json"))
    assert [c["name"] for c in document["circuits"]][:2] == ["corrupted", "zero"]
    assert {j["prompts"] for j in document["faithfulness"]} == {"discovery"}


def test_a_stopped_comparison_goes_on(gpt2, tmp_path):
    command = [sys.executable, "-m", "edgewise.cli.main", "compare", "--task", "induction"]
    command += ["--model", str(gpt2), "--over", "ablation", "--threshold", "0.001", "--n", "60"]
    command += ["--engine", "plain", "--batch-size", "2", "--out", "runs", "--json"]
    how = {"cwd": tmp_path, "text": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **how)
    trace = tmp_path / "runs" / "zero.unfinished" / "journal.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if trace.exists() and trace.read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped. What was found is in runs; run the same command again to resume." in err
    assert "Traceback" not in err
    done = subprocess.run(command, capture_output=True, **how)
    assert done.returncode == 0, done.stderr
    assert ew.Run.load(tmp_path / "runs" / "zero").cost.taken_over >= 3
    assert len(json.loads(done.stdout)["circuits"]) == 4


def test_over_is_parsed():
    assert parse_over(["corruption,metric"]) == {"corruption": None, "metric": None}
    assert parse_over(["metric=kl,nll,seed", "ablation=zero"]) == {
        "metric": ["kl", "nll"], "seed": None, "ablation": ["zero"],
    }  # fmt: skip
    assert parse_over([" seed = 3, 4 "]) == {"seed": [3, 4]}
    for words, message in (
        ("metrics", "Did you mean 'metric'"),
        ("metric,kl", "no setting to compare over named 'kl'"),
        ("seed,seed=3", "names seed twice"),
        ("seed=x", "'x' is not a whole number"),
        ("metric=", "a value that is empty"),
        ("threshold=1,2", "no setting to compare over named 'threshold'"),
    ):
        with pytest.raises(EdgewiseError, match=message):
            parse_over([words])


OVER = ("--over", "ablation")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "at least two run folders or circuit files, or say with --over"),
        (("x",), "at least two run folders"),
        (("x", "y"), "cannot read the circuit file x"),
        (("x", "y", *OVER), "--over finds circuits; x is one that is there"),
        (("--names", "a,b", *OVER), "--names is for those given"),
        (("x", "y", "--threshold", 1), "the setting threshold is for finding circuits"),
        (("x", "y", "--method", "eap"), "--method is for finding circuits"),
        (("x", "y", "--out", "z"), "--out is for finding circuits"),
        ((*REVERSE, *OVER), "method 'acdc' needs threshold"),
        ((*REVERSE, *OVER, "--threshold", 1, "--method", "acd"), "Did you mean 'acdc'"),
        ((*OVER, "--threshold", 1), "either --task NAME or --pairs FILE"),
        ((*REVERSE, "--over", "abaltion", "--threshold", 1), "Did you mean 'ablation'"),
        ((*REVERSE, *OVER, "--ablation", "zero", "--threshold", 1), "ablation is what varies"),
        ((*REVERSE, "--over", "ablation=zero,nil", "--threshold", 1), "no ablation named 'nil'"),
        ((*REVERSE, "--over", "ablation=zero", "--threshold", 1), "nothing to compare"),
        ((*REVERSE, "--over", "corruption", "--threshold", 1), "no choice of corruption"),
        ((*REVERSE, "--over", "model", "--threshold", 1), "models have no list to go through"),
        (("--task", "ioi", "--over", "corruption=abd", "--threshold", 1), "Did you mean 'abc'"),
        ((*REVERSE, "--over", "model=tracr-reverse,or-gate", "--threshold", 1), "or-gate"),
        ((*REVERSE, "--over", "ablation,data,metric,seed", "--threshold", 1),
         "settings, more than 24: name fewer values, or add --yes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_run(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = edgewise(capsys, "compare", *arguments)
    assert (code, message in err, "Traceback" in err) == (2, True, False), err
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_refused_before_any_run(capsys, found, tmp_path):
    command = ("compare", *REVERSE, *OVER, "--threshold", 1)
    for more, message in (
        (("--report", tmp_path / "no" / "page.html"), "cannot write"),
        (("--out", found / "zero"), "Choose a folder for several runs"),
        (("--out", found), "threshold was 0.01, is 1.0"),
    ):
        code, _, err = edgewise(capsys, *command, *more)
        assert (code, message in err) == (2, True), err
    assert list(tmp_path.iterdir()) == []


def test_an_error_says_in_which_setting(capsys, gpt2):
    command = ("compare", "--task", "induction", "--model", gpt2, "--template", "single", "--n", 4)
    command += ("--over", "metric=logit-diff,kl", "--method", "hisp", "--activations", 3)
    code, _, err = edgewise(capsys, *command)
    assert (code, err.strip().endswith("(In the run 'kl'.)")) == (2, True), err


def test_a_file_needs_its_problem_named(capsys, found):
    code, _, err = edgewise(capsys, "compare", found / "zero", found / "known.json", "--cross")
    assert (code, "known.json is a circuit file, which does not say" in err) == (2, True)
