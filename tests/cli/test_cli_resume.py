"""`edgewise discover --out`: stopped in any way, nothing decided is lost, and --resume goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import transformers
from test_journal import lines_of, stopped

import edgewise as ew
from commands import REVERSE, edgewise, ok


def test_a_finished_run_leaves_nothing_beside_it(capsys, tmp_path):
    ok(capsys, *REVERSE, "--out", tmp_path / "runs" / "x")
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["x"]


# --- stopped for real


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a model and prompts, a command that takes seconds, and what it finds."""
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    shape = {"n_layer": 3, "n_head": 3, "n_embd": 12, "vocab_size": 19, "n_positions": 14}
    module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=1)
    )
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    module.double().save_pretrained(folder / "model")
    rows = torch.randint(19, (2, 60, 12)).tolist()
    lines = [json.dumps({"clean": a, "corrupted": b}) for a, b in zip(*rows, strict=True)]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    command = ["discover", "--pairs", "pairs.jsonl", "--model", "model", "--threshold", "0.003"]
    command += ["--batch-size", "1", "--engine", "plain"]
    problem = ew.Problem(
        ew.load_model(folder / "model"), ew.PromptPairs.from_file(folder / "pairs.jsonl"), "kl"
    )
    return folder, command, ew.acdc(problem, threshold=0.003)


def _process(work, *more):
    folder, command, _ = work
    return subprocess.Popen(
        [sys.executable, "-m", "edgewise.cli.main", *command, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _interrupted(work, out, by, *more):
    """The decisions kept, the exit code and the output of a run that got a signal half way."""
    process = _process(work, "--out", out, *more)
    trace, deadline = work[0] / f"{out}.unfinished" / "journal.jsonl", time.monotonic() + 60
    before = len(trace.read_bytes().splitlines()) if trace.exists() else 0
    while time.monotonic() < deadline and process.poll() is None:
        if trace.exists() and trace.read_bytes().count(b"\n") >= before + 9:  # and a header
            break
        time.sleep(0.01)
    process.send_signal(by)
    text, err = process.communicate(timeout=60)
    return len(lines_of(trace.parent)), process.returncode, text, err


def test_ctrl_c_and_resume(work):
    """Stopped twice and resumed twice, it finds what it would have found."""
    folder, _, whole = work
    total, kept = whole.circuit.graph.n_edges, 0
    for more in ((), ("--resume", "--json")):
        before = kept
        kept, code, text, err = _interrupted(work, "runs/x", signal.SIGINT, *more)
        assert (code, text) == (130, ""), err
        assert before + 8 <= kept < len(whole.trace)
        said = re.fullmatch(
            rf"edgewise: stopped after (\d+) of {total} edges, with {kept} decisions kept in "
            r"runs/x\.unfinished\. Run the same command with --resume to go on\.",
            err.splitlines()[-1],
        )
        assert kept <= int(said[1]) < total
        assert "Traceback" not in err
        assert not (folder / "runs" / "x").exists()
    process = _process(work, "--out", "runs/x", "--resume")
    text, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"going on after {kept} decisions, kept in runs/x.unfinished\n" in err
    assert f"({kept} taken over from the stopped run)" in text
    _is_the_same(ew.Run.load(folder / "runs" / "x"), whole)
    assert [p.name for p in (folder / "runs").iterdir()] == ["x"]


def test_kill_and_resume(work):
    folder, _, whole = work
    kept, code, _, _ = _interrupted(work, "killed", signal.SIGKILL)
    assert code == -signal.SIGKILL
    with (folder / "killed.unfinished" / "journal.jsonl").open("a") as file:
        file.write('{"edge": "a0.h')  # as if it had been writing
    process = _process(work, "--out", "killed", "--resume", "--json")
    text, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(text)["cost"]["taken_over"] == kept
    assert "going on" not in err
    _is_the_same(ew.Run.load(folder / "killed"), whole)


def _is_the_same(run, whole):
    assert run.circuit == whole.circuit
    assert [(d.edge, d.kept) for d in run.trace] == [(d.edge, d.kept) for d in whole.trace]
    for ours, theirs in zip(run.trace, whole.trace, strict=True):
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)


# --- what is said


@pytest.fixture
def half(tmp_path):
    """--out, and beside it the 20 decisions of a run that Python started and Ctrl-C stopped."""
    problem = ew.load_task("tracr-reverse").problem
    stopped(problem, tmp_path / "run.unfinished", 20, threshold=0.01)
    return tmp_path / "run"


def test_resume_of_a_run_that_python_started(half, capsys):
    code, out, err = edgewise(capsys, *REVERSE, "--out", half, "--resume")
    assert code == 0
    assert "15 of 106 edges are kept" in out
    assert "57 edges tested (20 taken over from the stopped run)" in " ".join(out.split())
    assert f"going on after 20 decisions, kept in {half}.unfinished\n" in err
    assert [p.name for p in half.parent.iterdir()] == ["run"]


def test_an_unfinished_run_is_never_passed_over(half, capsys):
    code, out, err = edgewise(capsys, *REVERSE, "--out", half)
    assert (code, out) == (2, "")
    assert err == (
        f"edgewise: {half}.unfinished holds 20 decisions of a run that did not finish. "
        "Add --resume to go on from there, or remove it to start anew.\n"
    )
    assert len(lines_of(half.with_name("run.unfinished"))) == 20


def test_that_is_found_before_anything_is_loaded(half, capsys):
    for more, message in ((("--resume",), "no task named 'nothing'"), ((), "holds 20 decisions")):
        command = ("discover", "--task", "nothing", "--threshold", "0.01", "--out", half, *more)
        code, _, err = edgewise(capsys, *command)
        assert (code, message in err) == (2, True), err


def test_resume_without_an_unfinished_run(capsys, tmp_path):
    code, _, err = edgewise(capsys, *REVERSE, "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert err == (
        "edgewise: --resume found no unfinished run: there is no folder "
        f"{tmp_path / 'run'}.unfinished.\n"
    )
    code, _, err = edgewise(capsys, *REVERSE, "--resume")
    assert code == 2
    assert err.startswith("edgewise: --resume needs --out")
    assert err.count("\n") == 1


def test_an_unfinished_run_without_decisions_is_in_nobodys_way(half, capsys):
    (half.with_name("run.unfinished") / "journal.jsonl").write_text("")
    ok(capsys, "discover", "--task", "tracr-reverse", "--threshold", "0.02", "--out", half)
    assert [p.name for p in half.parent.iterdir()] == ["run"]


def test_resume_of_other_work(half, capsys):
    command = ("discover", "--task", "tracr-reverse", "--threshold", "0.02", "--out", half)
    code, _, err = edgewise(capsys, *command, "--resume")
    assert code == 2
    assert "other work: threshold was 0.01, is 0.02" in err
    assert err.splitlines()[-1].startswith("edgewise: ")
    assert len(lines_of(half.with_name("run.unfinished"))) == 20


def test_something_else_beside_out(capsys, tmp_path):
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.unfinished" / "thesis.tex").write_text("do not lose me")
    for more in ((), ("--resume",)):
        code, _, err = edgewise(capsys, *REVERSE, "--out", tmp_path / "run", *more)
        assert (code, "run.unfinished is not an unfinished run" in err) == (2, True), err
    assert (tmp_path / "run.unfinished" / "thesis.tex").exists()


def test_a_setting_that_is_refused_late_leaves_nothing(capsys, tmp_path):
    command = ("discover", "--task", "tracr-xproportion", "--threshold", "0.01", "--prune")
    code, _, err = edgewise(capsys, *command, "--out", tmp_path / "run")
    assert (code, "prune drops nodes" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


# --- a run that is found but cannot be written


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        (
            OSError(28, "No space left on device"),
            2,
            "No space left on device. Nothing is lost: 57 decisions stay in",
        ),
        (KeyboardInterrupt(), 130, "stopped after 106 of 106 edges, with 57 decisions kept in"),
    ],
)
def test_a_run_that_cannot_be_written_is_not_lost(
    what, code, message, capsys, monkeypatch, tmp_path
):
    out = tmp_path / "run"

    def fails(*arguments, **keywords):
        raise what

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", fails)
        found, text, err = edgewise(capsys, *REVERSE, "--out", out)
    assert (found, text) == (code, "")
    assert message in err
    assert err.splitlines()[-1].count("--resume") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.unfinished"]
    again = json.loads(ok(capsys, *REVERSE, "--out", out, "--resume", "--json"))
    assert again["cost"]["taken_over"] == again["cost"]["edge_tests"] == 57
    assert again["n_edges"] == 15
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert len(ew.Run.load(out).trace) == 57


def test_a_report_that_cannot_be_written_comes_after_the_run(capsys, monkeypatch, tmp_path):
    def full(*arguments, **keywords):
        raise ew.errors.OutputError("cannot write the page")

    monkeypatch.setattr("edgewise.reporting.pages.write_text", full)
    command = (*REVERSE, "--out", tmp_path / "run", "--report", tmp_path / "r.html")
    code, _, err = edgewise(capsys, *command)
    assert (code, "cannot write the page" in err) == (2, True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert ew.Run.load(tmp_path / "run").circuit.n_edges == 15
