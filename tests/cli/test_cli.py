"""The command line as a user meets it: results, exit codes, one-line errors."""

import json
import re
import subprocess
import sys

import pytest

import edgewise as ew
from commands import REVERSE, edgewise, ok, refused
from edgewise.cli.main import main
from edgewise.tasks import TASKS
from hf import gpt2
from models import random_model, random_pairs


def test_discover_evaluate_report(capsys, tmp_path):
    run, page, other = tmp_path / "run", tmp_path / "report.html", tmp_path / "other.html"
    out = ok(capsys, *REVERSE, "--out", run, "--report", page)
    assert "15 of 106 edges are kept" in out
    assert "It finds 15 of the 15 published edges, and 0 others." in out
    assert re.search(r"circuit is the same for thresholds in \([-\d.e]+, 0\.2\d\d\]\.$", out, re.M)
    assert "a3.h0-&gt;logits" in page.read_text()
    out = ok(capsys, "evaluate", run)
    assert "published: It finds 15 of the 15 known edges, and 0 others." in out
    again = ok(capsys, "evaluate", run / "circuit.json", "--task", "tracr-reverse")
    assert again.splitlines()[1:] == out.splitlines()[1 : len(again.splitlines())]
    assert str(other) in ok(capsys, "report", run, "--out", other).replace("\n", "")
    assert other.read_bytes() == page.read_bytes()
    named = tmp_path / "groups.json"
    named.write_text('{"reverser": ["a3.h0"]}')
    ok(capsys, "report", run, "--out", other, "--groups", named, "--force")
    assert "reverser (1)" in other.read_text()
    named.write_text('{"reverser": ["a9.h0"]}')
    assert "a9.h0" in refused(capsys, "report", run, "--out", other, "--groups", named, "--force")


def test_json_everywhere(capsys, tmp_path):
    run = tmp_path / "run"
    found = json.loads(ok(capsys, *REVERSE, "--json", "--out", run))
    assert found["n_edges"] == 15 == len(found["edges"])
    low, high = found["threshold_interval"]
    assert 0 <= low < 0.01 <= high < 0.3
    assert found["rungs"] == {"engine": found["cost"]["edge_tests"]}
    assert found["measurements"]["recovery"]["points"][0]["edges"]["tpr"] == 1
    assert (found["out"], found["report"]) == (str(run), None)
    emptied = json.loads(ok(capsys, *REVERSE[:-1], "1e9", "--json"))
    assert (emptied["n_edges"], emptied["threshold_interval"][1]) == (0, None)
    evaluated = json.loads(ok(capsys, "evaluate", run, "--json"))
    assert evaluated["faithfulness"]["circuit"] < 1e-9
    assert len(json.loads(ok(capsys, "tasks", "--json"))) == len(TASKS)
    assert json.loads(ok(capsys, "models", "--json"))["families"][0]["model_type"] == "gpt2"
    assert json.loads(ok(capsys, "methods", "--json"))[0]["name"] == "acdc"
    out = ok(capsys, "report", run, "--out", tmp_path / "r.html", "--json")
    assert json.loads(out) == {"report": str(tmp_path / "r.html"), "runs": [str(run)]}
    code, out, _ = edgewise(capsys, "discover", "--task", "nothing", "--threshold", "1", "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (2, "UnknownName")


GATE = ("discover", "--task", "or-gate", "--threshold", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("discover",), "method 'acdc' needs threshold"),
        (("discover", "--threshold", "1"), "either --task NAME or --pairs FILE"),
        (("discover", "--task", "or-gat", "--threshold", "1"), "Did you mean 'or-gate'"),
        ((*GATE[:-1], "-1"), "must be a positive number"),
        ((*GATE[:-1], "x"), "Invalid value for '--threshold'"),
        ((*GATE, "--treshold", "1"), "No such option: --treshold"),
        ((*GATE, "--method", "acd"), "mean 'acdc'"),
        ((*GATE, "--metric", "kk"), "no metric"),
        ((*GATE, "--columns", "clean=x"), "--columns is for"),
        (("discover", "--pairs", "x.jsonl", "--threshold", "1"), "--pairs needs --model"),
        (("discover", "--pairs", "x", "--model", "or-gate", "--n", "3", "--threshold", "1"),
         "--n is for tasks"),
        (("evaluate", "nowhere.json", "--task", "or-gate"), "cannot read the circuit file"),
        (("evaluate", "x.json", "--task", "or-gate", "--split", "tset"), "'tset'"),
        (("report", "nowhere"), "cannot read the run file"),
        ((*GATE[:3], "--method", "eap", "--estimate"), "--estimate knows acdc"),
        (("frobnicate",), "No such command"),
    ],
)  # fmt: skip
def test_an_expected_error_is_one_line_and_exits_with_2(arguments, message, capsys):
    assert message in refused(capsys, *arguments)


def test_debug_shows_the_traceback():
    with pytest.raises(ew.EdgewiseError):
        main(["discover", "--task", "or-gat", "--threshold", "1", "--debug"])


def test_the_package_is_the_command():
    """In a process of its own, without the tests' runtime type checks."""
    for option, message in (
        (("--version",), f"edgewise {ew.__version__}"),
        ((*REVERSE, "--head-order", "up"), "no head order named 'up'. Known: 'descending'"),
        ((*REVERSE, "--processing", "tl"), "no processing named 'tl'."),
        ((*REVERSE, "--ablation", "nul"), "no ablation named 'nul'."),
    ):
        command = [sys.executable, "-m", "edgewise", *option]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode in (0, 2), message in done.stdout + done.stderr) == (True, True)


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
    file, run = tmp_path / "pairs.jsonl", tmp_path / "run"
    file.write_text("\n".join(map(json.dumps, lines)))
    problem = ("--pairs", file, "--model", tmp_path / "model", "--metric", "logit-diff")
    ok(capsys, "discover", *problem, "--threshold", "0.05", "--out", run, "--json")
    evaluated = json.loads(ok(capsys, "evaluate", run, "--json"))
    assert evaluated["split"] == "discovery"
    assert evaluated["faithfulness"]["metric"] == "logit-diff"
    file.write_text('{"clean": "BOS 1 2 3", "corrupted": "BOS 3 1 2"}\n')
    words = ("--pairs", file, "--model", "tracr-reverse", "--metric", "l2", "--threshold", "0.01")
    assert json.loads(ok(capsys, "discover", *words, "--json"))["n_edges"] > 0


def test_a_problem_is_made_again_from_what_its_run_recorded(capsys, tmp_path):
    run = tmp_path / "run"
    problem = ("--task", "induction", "--n", "4", "--by-position", "--seed", "3", "--no-bos")
    ok(capsys, "discover", *problem, "--method", "magnitude", "--out", run)
    recorded = ew.Run.load(run)
    known = {"task": "induction", "n": 4, "by_position": True, "seed": 3, "bos": False}
    assert known.items() <= recorded.request.items()
    assert recorded.problem.n_prompts > 4
    ok(capsys, "evaluate", run)  # refuses a problem that is another one


def test_a_run_saved_from_python_needs_its_problem_named(capsys, tmp_path):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    ew.acdc(problem, threshold=0.1).save(tmp_path / "run")
    for command in (("evaluate",), ("compare", "--cross", tmp_path / "run/circuit.json")):
        message = refused(capsys, *command, tmp_path / "run")
        assert "does not say" in message


def test_estimate_says_what_a_run_will_take_and_does_no_more(capsys, tmp_path):
    out = ok(capsys, *REVERSE, "--estimate", "--out", tmp_path / "run")
    assert re.search(r"and at most \d+ MB beside the model: 57 edge tests", out.replace("\n", " "))
    assert not list(tmp_path.iterdir())
    found = json.loads(ok(capsys, *REVERSE, "--estimate", "--json"))
    assert found["edge_tests"] == 57
    assert found["seconds"] > 0


def test_a_note_is_printed_and_kept(capsys, tmp_path):
    problem = ("--task", "or-gate", "--ablation", "zero", "--out", tmp_path / "run")
    out = ok(capsys, "discover", *problem, "--method", "eap-ig")
    assert "Note: The gradient is zero wherever eap-ig takes it" in " ".join(out.split())
    assert "rounding noise" in ew.Run.load(tmp_path / "run").notes[0]
