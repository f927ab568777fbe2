"""`edgewise sweep`: several values of anything, and every way to stop it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import edgewise as ew
from commands import edgewise, ok
from edgewise.cli.values import parse_values
from edgewise.sweep_folder import VOLATILE

GATES = ("sweep", "--task", "or-gate,and-gate")


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
    listed = json.loads(ok(capsys, *command, "--out", tmp_path / "x", "--dry-run", "--json"))
    assert listed["counts"] == {"done": 20}
    out = ok(capsys, *command, "--out", tmp_path / "x")
    assert "20 points, 0 failed." in out
    assert "20 circuits of acdc, eap-ig, random, evaluated on discovery prompts." in out
    assert str(tmp_path / "x" / "points.parquet") in out


def test_points_that_fail_are_said_and_are_exit_code_1(capsys, tmp_path):
    command = (*GATES, "--method", "exact", "--edges", "3,500", "--out", tmp_path / "x")
    code, out, err = edgewise(capsys, *command)
    assert code == 1
    assert all(line.endswith(" s)") for line in err.splitlines())  # progress, if it took long
    assert "2 points failed: asked for 500 edges" in out
    assert "4 points, 2 failed." in out


def test_pairs_and_granularity(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"clean": [0, 3, 1], "corrupted": [0, 1, 3]}
    (tmp_path / "my.jsonl").write_text(json.dumps(row) + "\n")
    command = ("sweep", "--pairs", "my.jsonl", "--model", "tracr-reverse", "--metric", "l2")
    command += ("--method", "random", "--edges", "2", "--joined-qkv", "--out", "x")
    found = json.loads(ok(capsys, *command, "--json"))
    assert found["points"][0]["task"] == "my.jsonl"
    assert (
        "joined" in found["points"][0]["graph"] or "split q/k/v" not in found["points"][0]["graph"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "0.1", "--task", "or-gate"), "say with --out FOLDER"),
        (("--threshold", "0.1"), "either --task NAME or --pairs FILE"),
        (("--task", "or-gat", "--threshold", "0.1"), "Did you mean 'or-gate'"),
        (("--task", "or-gate", "--threshold", "x"), "'x' is not a number, nor a range such as"),
        (("--task", "or-gate", "--threshold", "0:1:3log"), "its ends must be above 0"),
        (("--task", "or-gate", "--threshold", "0.1,,1"), "has a value that is empty"),
        (("--task", "or-gate", "--threshold", "-1"), "must be a positive number"),
        (("--task", "or-gate", "--threshold", "1", "--prune", "maybe"), "neither true nor false"),
        (
            ("--task", "or-gate", "--threshold", "1", "--edges", "3"),
            "setting of acdc named 'edges'",
        ),
        (("--task", "or-gate", "--threshold", "1", "--workers", "0"), "workers is 0"),
        (("--task", "or-gate"), "method 'acdc' needs threshold"),
    ],
)
def test_what_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    out = () if "--out" in message else ("--out", tmp_path / "x")
    code, text, err = edgewise(capsys, "sweep", *arguments, *out)
    assert (code, text) == (2, "")
    assert message in " ".join(err.split())
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "x").exists()


def test_values():
    assert parse_values("n", ["1,2", "2", "10:1000:3log"], int | None) == [1, 2, 10, 100, 1000]
    assert parse_values("x", ["1:0:3lin"], float) == [1.0, 0.5, 0.0]
    assert parse_values("prune", ["true,False"], bool) == [True, False]
    assert parse_values("task", ["a:1:3log"], str | None) == ["a:1:3log"]
    nine = parse_values("threshold", ["0.01:1:9log"], float)
    assert nine[::4] == [0.01, 0.1, 1.0]


# --- processes, and stops for real

SLOW = ("--task", "tracr-reverse,tracr-xproportion", "--method", "sp", "--steps", "40")
SLOW += ("--regularisation", "0.01,0.1", "--method-seed", "0,1,2", "--apart", "--json")
N = 12


def _process(folder, out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "edgewise.cli.main", "sweep", *SLOW, "--out", out, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _until(process, journal, n):
    deadline = time.monotonic() + 120
    while process.poll() is None and _lines(journal) < n and time.monotonic() < deadline:
        time.sleep(0.005)


def _lasting(rows):
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The rows of the sweep that nothing stops."""
    folder = tmp_path_factory.mktemp("straight")
    process = _process(folder, "x", "--workers", "1")
    text, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(text)["points"]


def test_killed_again_and_again(straight, tmp_path):
    """Killed after a few points each time, in one process and in two; then left to finish."""
    journal, kept = tmp_path / "x" / "journal.jsonl", b""
    for workers, more in (("1", 2), ("2", 3)):
        process = _process(tmp_path, "x", "--workers", workers)
        _until(process, journal, kept.count(b"\n") + more)
        process.kill()
        process.communicate()
        now = journal.read_bytes()
        assert now.startswith(kept)  # what was finished stays as it was
        kept = now[: now.rindex(b"\n") + 1] if b"\n" in now else b""
    process = _process(tmp_path, "x", "--workers", "1")
    text, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert journal.read_bytes().startswith(kept)
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == N
    assert _lasting(json.loads(text)["points"]) == _lasting(straight)
    assert _lasting(ew.Sweep.load(tmp_path / "x").rows) == _lasting(straight)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_cleanly(straight, tmp_path, workers):
    process = _process(tmp_path, "x", "--workers", workers)
    _until(process, tmp_path / "x" / "journal.jsonl", 2)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert (process.returncode, text) == (130, ""), err
    said = re.fullmatch(
        r"edgewise: stopped\. (\d+) points? finished in x; run the same command again to resume\.",
        err.splitlines()[-1],
    )
    assert said, err
    assert "Traceback" not in err
    rows = (tmp_path / "x" / "points.jsonl").read_text().splitlines()
    assert 1 <= len(rows) == int(said[1]) < N


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
        "    found = ew.sweep_grid(methods, over=over, out='x', load=load, workers=2, apart=True)\n"
        "    print(found)\n"
    )
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    sweep = ew.Sweep.load(tmp_path / "x")
    assert {row["error_kind"] for row in sweep.failed} <= {"WorkerDied"}
    assert all("by signal 9 (Killed)" in row["error"] for row in sweep.failed)
