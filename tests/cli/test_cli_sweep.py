"""`edgewise sweep`: several values of anything, and every way to stop it."""

import json
import signal
import subprocess
import sys

import pytest

import edgewise as ew
from commands import edgewise, finished, ok, refused, started, stopped_by
from edgewise.cli.values import parse_values
from edgewise.sweep_folder import VOLATILE

GATES = ("sweep", "--task", "or-gate,and-gate")
GATE = ("--task", "or-gate", "--threshold")


def test_a_grid_of_everything(capsys, tmp_path):
    command = (*GATES, "--method", "acdc,eap-ig", "--method", "random", "--threshold", "0.1:1:2log")
    command += ("--edges", "3", "--edges", "5", "--method-seed", "0:2:3lin", "--ablation", "zero")
    listed = json.loads(ok(capsys, *command, "--dry-run", "--json"))
    assert listed["n_points"] == 2 * (2 + 2 + 3 * 2)
    assert listed["counts"] == {"to do": 20}
    found = json.loads(ok(capsys, *command, "--out", tmp_path / "x", "--json"))
    assert (found["n_points"], found["n_failed"], found["n_in_folder"]) == (20, 0, 20)
    assert {point["key"] for point in listed["points"]} == {row["key"] for row in found["points"]}
    settings = {row["setting_threshold"] for row in found["points"] if row["method"] == "acdc"}
    assert settings == {0.1, 1.0}
    seeds = {row["setting_seed"] for row in found["points"] if row["method"] == "random"}
    assert seeds == {0, 1, 2}
    assert "20 done" in ok(capsys, *command, "--out", tmp_path / "x", "--dry-run")
    out = ok(capsys, *command, "--out", tmp_path / "x")
    assert "20 circuits of acdc, eap-ig, random, evaluated on discovery prompts." in out
    assert str(tmp_path / "x" / "points.jsonl") in out


def test_points_that_fail_are_said_and_are_exit_code_1(capsys, tmp_path):
    command = (*GATES, "--method", "exact", "--edges", "3,500", "--out", tmp_path / "x")
    code, out, err = edgewise(capsys, *command)
    assert code == 1
    assert all(line.endswith(" s)") for line in err.splitlines())  # progress, if it took long
    assert "2 points failed: asked for 500 edges" in out


def test_pairs_and_granularity(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.jsonl").write_text('{"clean": [0, 3, 1], "corrupted": [0, 1, 3]}\n')
    command = ("sweep", "--pairs", "my.jsonl", "--model", "tracr-reverse", "--metric", "l2")
    command += ("--method", "random", "--edges", "2", "--joined-qkv", "--out", "x")
    (point,) = json.loads(ok(capsys, *command, "--json"))["points"]
    assert point["task"] == "my.jsonl"
    assert "split q/k/v" not in point["graph"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*GATE, "0.1"), "say with --out FOLDER"),
        (("--threshold", "0.1"), "either --task NAME or --pairs FILE"),
        ((*GATE, "x"), "--threshold: 'x' does not fit"),
        ((*GATE, "0:1:3log"), "lies above 0"),
        ((*GATE, "0.1,,1"), "has a value that is empty"),
        ((*GATE, "1", "--prune", "maybe"), "--prune: 'maybe' does not fit"),
        ((*GATE, "1", "--edges", "3"), "setting of acdc named 'edges'"),
        ((*GATE, "1", "--workers", "0"), "workers is 0"),
        (("--task", "or-gate"), "method 'acdc' needs threshold"),
    ],
)
def test_what_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    out = () if "--out" in message else ("--out", tmp_path / "x")
    assert message in refused(capsys, "sweep", *arguments, *out)
    assert not (tmp_path / "x").exists()


def test_values():
    assert parse_values("n", ["1,2", "2", "10:1000:3log"], int | None) == [1, 2, 10, 100, 1000]
    assert parse_values("x", ["1:0:3lin"], float) == [1.0, 0.5, 0.0]
    assert parse_values("prune", ["true,False"], bool) == [True, False]
    assert parse_values("task", ["a:1:3log"], str | None) == ["a:1:3log"]
    assert parse_values("threshold", ["0.01:1:9log"], float)[::4] == [0.01, 0.1, 1.0]


# --- processes, and stops for real

SLOW = ("sweep", "--task", "tracr-reverse,tracr-xproportion", "--method", "sp", "--steps", "40")
SLOW += ("--regularisation", "0.01,0.1", "--method-seed", "0,1,2", "--apart", "--json")
SLOW += ("--out", "x", "--workers")
N = 12


def lasting(rows):
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def test_stopped_again_and_again(tmp_path):
    """By kills and by Ctrl-C, in one process and in two; then left to finish: as if by nothing."""
    stops = tmp_path / "stops"
    stops.mkdir()
    journal, kept = stops / "x" / "journal.jsonl", b""
    for workers, more, by in (("1", 2, signal.SIGKILL), ("2", 3, signal.SIGKILL),
                              ("1", 1, signal.SIGINT), ("2", 1, signal.SIGINT)):  # fmt: skip
        process = started(stops, *SLOW, workers)
        code, text, err = stopped_by(by, process, journal, kept.count(b"\n") + more)
        assert (code, text) == (130 if by == signal.SIGINT else -by, ""), err
        now = journal.read_bytes()
        assert now.startswith(kept)  # what was finished stays as it was
        kept = now[: now.rindex(b"\n") + 1] if b"\n" in now else b""
        if by == signal.SIGINT:
            assert err.endswith("kept in x; run the same command again to resume.\n")
            assert (stops / "x" / "points.jsonl").read_text().count("\n") < N
    text, _ = finished(stops, *SLOW, "1")
    assert journal.read_bytes().startswith(kept)
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == N
    straight = json.loads(finished(tmp_path, *SLOW, "1")[0])["points"]
    assert lasting(json.loads(text)["points"]) == lasting(straight)
    assert lasting(ew.Sweep.load(stops / "x").rows) == lasting(straight)
    assert not list(stops.rglob(".*"))


def test_a_process_that_dies_fails_its_points_only(tmp_path):
    """As when the system kills the largest process because memory has run out."""
    code = (
        "import os, signal, edgewise as ew\n"
        "def load(task, dies=False):\n"
        "    import multiprocessing\n"
        "    if dies and multiprocessing.parent_process():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return ew.load_task(task)\n"
        "if __name__ == '__main__':\n"
        "    over = {'task': 'or-gate', 'dies': [False, True]}\n"
        "    methods = {'random': {'seed': range(3), 'edges': 4}, 'magnitude': {'edges': 4}}\n"
        "    ew.sweep_grid(methods, over=over, out='x', load=load, workers=2, apart=True)\n"
    )
    (tmp_path / "script.py").write_text(code)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, timeout=120, check=True)
    sweep = ew.Sweep.load(tmp_path / "x")
    assert {row["error_kind"] for row in sweep.failed} <= {"WorkerDied"}
    assert all("by signal 9 (Killed)" in row["error"] for row in sweep.failed)
