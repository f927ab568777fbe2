"""`edgewise discover --out`: stopped in any way, nothing is lost, and the same command goes on."""

import json
import signal

import pytest
import torch
import transformers
from test_journal import lines_of, stopped

import edgewise as ew
from commands import REVERSE, edgewise, finished, ok, refused, started, stopped_by

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
    command = ("discover", "--pairs", "pairs.jsonl", "--model", "model", "--threshold", "0.003")
    command += ("--batch-size", "1", "--engine", "plain")
    problem = ew.Problem(
        ew.load_model(folder / "model"), ew.PromptPairs.from_file(folder / "pairs.jsonl"), "kl"
    )
    return folder, command, ew.acdc(problem, threshold=0.003)


def interrupted(work, out, by, *more):
    """The decisions kept, the exit code and the output of a run that got a signal half way."""
    folder, command, _ = work
    journal = folder / f"{out}.unfinished" / "journal.jsonl"
    before = journal.read_bytes().count(b"\n") if journal.exists() else 0
    process = started(folder, *command, "--out", out, *more)
    ended = stopped_by(by, process, journal, before + 9)  # and a header
    return len(lines_of(journal.parent)), *ended


def test_stopped_in_any_way_the_same_command_goes_on(work):
    """By Ctrl-C, and by a kill in the middle of a line, it finds what it would have found."""
    folder, command, whole = work
    first, code, text, err = interrupted(work, "runs/x", signal.SIGINT)
    assert (code, text) == (130, ""), err
    last = err.splitlines()[-1]
    assert last.startswith("edgewise: stopped after ")
    assert last.endswith("kept in runs/x.unfinished; run the same command again to resume.")
    assert "Traceback" not in err
    kept, code, _, err = interrupted(work, "runs/x", signal.SIGKILL, "--json")
    assert (code, err) == (-signal.SIGKILL, "")
    assert first + 8 <= kept < len(whole.trace)
    assert not (folder / "runs" / "x").exists()
    with (folder / "runs" / "x.unfinished" / "journal.jsonl").open("a") as file:
        file.write('{"edge": "a0.h')  # as if it had been writing
    text, err = finished(folder, *command, "--out", "runs/x")
    assert f"going on after {kept} decisions, kept in runs/x.unfinished\n" in err
    assert f"({kept} taken over from the stopped run)" in text
    run = ew.Run.load(folder / "runs" / "x")
    assert run.circuit == whole.circuit
    assert [(d.edge, d.kept) for d in run.trace] == [(d.edge, d.kept) for d in whole.trace]
    for ours, theirs in zip(run.trace, whole.trace, strict=True):
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)
    assert [p.name for p in (folder / "runs").iterdir()] == ["x"]


# --- what is said


@pytest.fixture
def half(tmp_path):
    """--out, and beside it the 20 decisions of a run that Python started and Ctrl-C stopped."""
    problem = ew.load_task("tracr-reverse").problem
    stopped(problem, tmp_path / "run.unfinished", 20, threshold=0.01)
    return tmp_path / "run"


def test_a_run_that_python_started_goes_on_and_a_finished_one_is_not_replaced(half, capsys):
    code, out, err = edgewise(capsys, *REVERSE, "--out", half)
    assert code == 0
    assert "57 edges tested (20 taken over from the stopped run)" in " ".join(out.split())
    assert f"going on after 20 decisions, kept in {half}.unfinished\n" in err
    assert [p.name for p in half.parent.iterdir()] == ["run"]
    assert "already holds a run" in refused(capsys, *REVERSE, "--out", half)


def test_other_work_does_not_go_on_from_there(half, capsys):
    message = refused(capsys, *REVERSE[:-1], "0.02", "--out", half)
    assert "other work: threshold was 0.01, is 0.02" in message
    assert f"{half}.unfinished" in message
    assert len(lines_of(half.with_name("run.unfinished"))) == 20


def test_ctrl_c_where_nothing_is_kept(capsys, monkeypatch, tmp_path):
    def stops(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(ew), "discover", stops)
    for more in ((), ("--out", tmp_path / "run")):
        code, out, err = edgewise(capsys, *REVERSE, *more)
        assert (code, out) == (130, "")
        assert err.endswith("edgewise: interrupted.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        (OSError(28, "No space left on device"), 2, "No space left on device. Nothing is lost"),
        (KeyboardInterrupt(), 130, "stopped after 106 of 106"),
    ],
)
def test_a_run_that_cannot_be_written_is_not_lost(
    what, code, message, capsys, monkeypatch, tmp_path
):
    def fails(*arguments, **keywords):
        raise what

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", fails)
        found, text, err = edgewise(capsys, *REVERSE, "--out", tmp_path / "run")
    assert (found, text) == (code, "")
    assert message in err
    assert "run the same command again" in err.lower()
    assert [p.name for p in tmp_path.iterdir()] == ["run.unfinished"]
    again = json.loads(ok(capsys, *REVERSE, "--out", tmp_path / "run", "--json"))
    assert again["cost"]["taken_over"] == again["cost"]["edge_tests"] == 57
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_report_that_cannot_be_written_comes_after_the_run(capsys, monkeypatch, tmp_path):
    def full(*arguments, **keywords):
        raise ew.errors.OutputError("cannot write the page")

    monkeypatch.setattr("edgewise.reporting.pages.write_text", full)
    command = (*REVERSE, "--out", tmp_path / "run", "--report", tmp_path / "r.html")
    assert "cannot write the page" in refused(capsys, *command)
    assert ew.Run.load(tmp_path / "run").circuit.n_edges == 15
