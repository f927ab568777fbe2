"""The command line as a user meets it: results, exit codes, one-line errors, nothing lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

import edgewise as ew
from commands import REVERSE, edgewise, ok, refused
from edgewise.cli.main import main
from edgewise.tasks import TASKS
from hf import gpt2
from models import random_model, random_pairs


def test_discover_evaluate_report(capsys, tmp_path):
    run, page = tmp_path / "run", tmp_path / "report.html"
    out = ok(capsys, *REVERSE, "--out", run, "--report", page)
    assert "15 of 106 edges are kept" in out
    assert "It finds 15 of the 15 published edges, and 0 others." in out
    assert re.search(r"circuit is the same for thresholds in \([-\d.e]+, 0\.2\d\d\]\.$", out, re.M)
    assert "a3.h0-&gt;logits" in page.read_text()
    out = ok(capsys, "evaluate", run)
    assert "published: It finds 15 of the 15 known edges, and 0 others." in out
    again = ok(capsys, "evaluate", run / "circuit.json", "--task", "tracr-reverse")
    assert again.splitlines()[1:] == out.splitlines()[1 : len(again.splitlines())]
    other = tmp_path / "other.html"
    assert str(other) in ok(capsys, "report", run, "--out", other).replace("\n", "")
    assert other.read_bytes() == page.read_bytes()
    named = tmp_path / "groups.json"
    named.write_text('{"reverser": ["a3.h0"]}')
    ok(capsys, "report", run, "--out", other, "--groups", named, "--force")
    assert "reverser (1)" in other.read_text()
    named.write_text('{"reverser": ["a9.h0"]}')
    code, _, err = edgewise(capsys, "report", run, "--out", other, "--groups", named, "--force")
    assert code == 2
    assert "a9.h0" in err


def test_json_everywhere(capsys, tmp_path):
    found = json.loads(ok(capsys, *REVERSE, "--json", "--out", tmp_path / "run"))
    assert found["n_edges"] == 15 == len(found["edges"])
    low, high = found["threshold_interval"]
    assert 0 <= low < 0.01 <= high < 0.3
    assert found["rungs"] == {"engine": found["cost"]["edge_tests"]}
    emptied = json.loads(ok(capsys, *REVERSE[:-1], "1e9", "--json"))
    assert (emptied["n_edges"], emptied["threshold_interval"][1]) == (0, None)
    assert found["measurements"]["recovery"]["points"][0]["edges"]["tpr"] == 1
    evaluated = json.loads(ok(capsys, "evaluate", tmp_path / "run", "--json"))
    assert evaluated["faithfulness"]["circuit"] < 1e-9
    assert evaluated["recovery"]["published"]["points"][0]["edges"]["precision"] == 1
    assert len(json.loads(ok(capsys, "tasks", "--json"))) == len(TASKS)
    assert json.loads(ok(capsys, "models", "--json"))["families"][0]["model_type"] == "gpt2"
    assert json.loads(ok(capsys, "methods", "--json"))[0]["name"] == "acdc"
    out = ok(capsys, "report", tmp_path / "run", "--out", tmp_path / "r.html", "--json")
    assert json.loads(out)["report"] == str(tmp_path / "r.html")
    code, out, _ = edgewise(capsys, "discover", "--task", "nothing", "--threshold", "1", "--json")
    assert code == 2
    assert json.loads(out)["error"]["kind"] == "UnknownName"


def test_version(capsys):
    assert ok(capsys, "--version").strip() == f"edgewise {ew.__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("discover",), "method 'acdc' needs threshold"),
        (("discover", "--threshold", "1"), "either --task NAME or --pairs FILE"),
        (("discover", "--task", "or-gate", "--pairs", "x", "--threshold", "1"), "either --task"),
        (("discover", "--task", "or-gat", "--threshold", "1"), "Did you mean 'or-gate'"),
        (("discover", "--task", "or-gate", "--threshold", "-1"), "must be a positive number"),
        (("discover", "--task", "or-gate", "--threshold", "nan"), "must be a positive number"),
        (("discover", "--task", "or-gate", "--threshold", "x"), "Invalid value for '--threshold'"),
        (("discover", "--task", "or-gate", "--treshold", "1"), "No such option: --treshold"),
        (("discover", "--task", "or-gate", "--threshold", "1", "--method", "acd"), "mean 'acdc'"),
        (("discover", "--task", "or-gate", "--threshold", "1", "--metric", "kk"), "no metric"),
        (("discover", "--task", "or-gate", "--threshold", "1", "--dtype", "f8"), "no dtype"),
        (("discover", "--pairs", "nowhere.jsonl", "--model", "or-gate", "--threshold", "1"),
         "cannot read the pairs file nowhere.jsonl"),
        (("discover", "--pairs", "nowhere.jsonl", "--threshold", "1"), "--pairs needs --model"),
        (("discover", "--pairs", "x", "--model", "or-gate", "--n", "3", "--threshold", "1"),
         "--n is for tasks"),
        (("evaluate", "nowhere.json", "--task", "or-gate"), "cannot read the circuit file"),
        (("evaluate", "x.json", "--task", "or-gate", "--split", "tset"), "split is 'tset'"),
        (("report", "nowhere"), "cannot read the run file"),
        ((*REVERSE[:3], "--method", "eap", "--estimate"),
         "--estimate knows acdc; eap costs two forward passes"),
        (("frobnicate",), "No such command"),
    ],
)  # fmt: skip
def test_an_expected_error_is_one_line_and_exits_with_2(arguments, message, capsys):
    assert message in refused(capsys, *arguments)


def test_debug_shows_the_traceback():
    with pytest.raises(ew.EdgewiseError):
        main(["discover", "--task", "or-gat", "--threshold", "1", "--debug"])


def test_words_that_a_setting_does_not_know():
    """In a process of its own, without the tests' runtime type checks."""
    for option, message in (
        (("--head-order", "up"), "no head order named 'up'. Known: 'descending', 'ascending'."),
        (("--processing", "tl"), "no processing named 'tl'."),
        (("--ablation", "nul"), "no ablation named 'nul'."),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "edgewise.cli.main", *REVERSE, *option],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_granularity_options(capsys):
    found = json.loads(ok(capsys, *REVERSE, "--joined-qkv", "--no-switches", "--json"))
    graph = ew.Graph.build(4, 1, split_qkv=False, split_embed=True)
    assert found["n_edges_total"] == graph.n_edges
    assert "recovery" not in found["measurements"], "the published circuit is on another graph"


def test_pairs_of_a_users_own(capsys, tmp_path):
    """A JSONL file of token ids on a GPT-2 in a folder, and of text on a bundled model."""
    gpt2().save_pretrained(tmp_path / "model")
    lines = [
        {"clean": [1, 2, 3, 4], "corrupted": [1, 5, 3, 4], "answer": 7, "wrong": [8, 9]},
        {"clean": [3, 2, 1], "corrupted": [3, 5, 1], "answer": 6, "wrong": 5},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ("--pairs", file, "--model", tmp_path / "model", "--metric", "logit-diff")
    run = tmp_path / "run"
    found = json.loads(
        ok(capsys, "discover", *arguments, "--threshold", "0.05", "--out", run, "--json")
    )
    assert found["measurements"]["faithfulness"]["metric"] == "logit-diff"
    assert json.loads(ok(capsys, "evaluate", run, "--json"))["split"] == "discovery"
    file.write_text('{"clean": "BOS 1 2 3", "corrupted": "BOS 3 1 2"}\n')
    arguments = ("--pairs", file, "--model", "tracr-reverse", "--metric", "l2")
    found = json.loads(ok(capsys, "discover", *arguments, "--threshold", "0.01", "--json"))
    assert found["n_edges"] > 0
    file.write_text('{"clean": "BOS 1 2 9", "corrupted": "BOS 3 1"}\n')
    code, _, err = edgewise(capsys, "discover", *arguments, "--threshold", "0.01")
    assert code == 2
    assert "line 1, clean: the model has no token '9'" in err


def test_a_run_saved_from_python_needs_its_problem_named(capsys, tmp_path):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    ew.acdc(problem, threshold=0.1).save(tmp_path / "run")
    code, _, err = edgewise(capsys, "evaluate", tmp_path / "run")
    assert code == 2
    assert "does not say how its problem was made" in err


def test_ctrl_c_half_way(tmp_path):
    """A long run that is not to be kept is interrupted: one line, exit code 130, nothing left."""
    torch.manual_seed(0)
    gpt2().save_pretrained(tmp_path / "model")
    rows = torch.randint(19, (2, 1000, 12)).tolist()
    lines = [json.dumps({"clean": a, "corrupted": b}) for a, b in zip(*rows, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "edgewise.cli.main", "discover", "--pairs", "pairs.jsonl"]
    command += ["--model", "model", "--threshold", "1e-9", "--batch-size", "1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if _cpu_seconds(process.pid) > 8:  # past imports and loading, in the middle of ACDC
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "edgewise: interrupted." in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "pairs.jsonl"]


def _cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_estimate_says_what_a_run_will_take_and_does_no_more(capsys, tmp_path):
    out = ok(capsys, *REVERSE, "--estimate", "--out", tmp_path / "run")
    assert re.search(r"and at most \d+ MB beside the model: 57 edge tests", out.replace("\n", " "))
    assert not list(tmp_path.iterdir())
    found = json.loads(ok(capsys, *REVERSE, "--estimate", "--json"))
    assert found["edge_tests"] == 57
    assert found["seconds"] > 0


def test_a_note_is_printed_and_kept(capsys, tmp_path):
    folder = tmp_path / "run"
    problem = ("--task", "or-gate", "--ablation", "zero")
    out = ok(capsys, "discover", *problem, "--method", "eap-ig", "--out", folder)
    assert "Note: The gradient is zero wherever eap-ig takes it" in " ".join(out.split())
    assert "rounding noise" in ew.Run.load(folder).notes[0]


def test_answer_positions_pooled_from_the_command_line(tmp_path, capsys):
    folder = tmp_path / "run"
    problem = ("--task", "induction", "--n", "4", "--by-position")
    ok(capsys, "discover", *problem, "--method", "magnitude", "--out", folder)
    run = ew.Run.load(folder)
    assert run.request["by_position"] is True
    assert run.problem.n_prompts > 4
    ok(capsys, "evaluate", folder)  # made again from its record
