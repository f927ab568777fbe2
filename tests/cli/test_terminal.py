"""What a terminal, a pipe or a file gets to see, whatever names and users' code hold."""

import ast
import io
import json
import re
import sys
import time
from pathlib import Path

import pytest

import edgewise as ew
from commands import TASK, edgewise, ok, refused
from edgewise.cli import console
from edgewise.cli.main import main
from edgewise.methods import Progress
from edgewise.tasks import TASKS

CLI = Path(console.__file__).parent
FEW = ("--random", "0", "--knock-outs", "0", "--no-minimality")


@pytest.mark.parametrize("name", ["run[v1]", "runs[/v2]", "[bold]", "a:smile:b", "\x1b[31mred"])
def test_names_are_printed_as_they_are(capsys, tmp_path, name):
    folder, page = tmp_path / name, tmp_path / f"{name.replace('/', '')}.html"
    seen, seen_page = console.visible(name), console.visible(page.name)
    out = ok(capsys, "discover", *TASK, "--out", folder, "--report", page)
    assert f"wrote {tmp_path / seen}\n" in out
    assert f"wrote {tmp_path / seen_page}\n" in out
    named = ("--names", f"{name},other")
    assert f"1 {seen}" in ok(capsys, "compare", folder, folder / "circuit.json", *named)
    for words in (
        ("discover", "--task", name, "--threshold", "1"),
        ("evaluate", tmp_path / "no" / name),
        ("tasks", "show", name),
        ("tasks", "check", tmp_path / f"{name}.jsonl"),
        ("leaderboard", "--method", name, "--out", tmp_path / "board"),
        ("compare", "--task", "or-gate", "--over", name),
    ):
        assert "\x1b" not in refused(capsys, *words)


def test_the_command_line_prints_no_markup():
    """Texts go through `console`, whose consoles read none."""
    for file in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "[/" not in node.value, (file.name, node.lineno)
            if isinstance(node, ast.ImportFrom) and file.name != "console.py":
                assert not (node.module or "").startswith("rich") or node.module == "rich.text"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "Console"), (file.name, node.lineno)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_encoding_gets_some_characters(monkeypatch, tmp_path, encoding):
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    for words in (
        ["discover", *TASK, "--out", str(tmp_path / "λ–…日本\udcff")],
        ["discover", "--task", "日本\udcff", "--threshold", "1"],
        ["methods"],
        ["discover", "--help"],
        ["tasks", "show", "or-gate"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code in (0, 2, None)
    sys.stdout.flush()
    assert "wrote" in raw.getvalue().decode(encoding)


# --- other people's code

OWN = """
from edgewise.data import PromptPairs
from edgewise.metrics import Metric
from edgewise.problem import Problem
from edgewise.tasks import Task, TaskSpec

def pairs(model, n, seed):
    {pairs}
    return PromptPairs.from_tokens([[0]] * n)

def metric(logits, rows):
    {metric}

def make(model, request):
    problem = Problem(model, pairs(model, 2, 0), Metric("own", "m", False, metric, ""), "zero")
    return Task(name="mine", problem=problem, test=problem)

TASK = TaskSpec(
    name="mine", summary="", model="or-gate", metric="kl", ablation="zero", data=("pairs",),
    make=make, sample=lambda: ("", ""), fits="",
)
"""


@pytest.mark.parametrize(
    ("pairs", "metric", "message"),
    [
        ("return 1 / 0", "pass", r"ZeroDivisionError: division .* \(in pairs, mine.py, line 8\)"),
        ("pass", "return logits[99]", r"IndexError: .* \(in metric, mine.py, line 12\)"),
        ("raise OSError(5, 'disk')", "pass", r"OSError: .* \(in pairs, mine.py, line 8\)"),
    ],
)
def test_an_exception_in_a_users_function_is_one_line(capsys, tmp_path, pairs, metric, message):
    file = tmp_path / "mine.py"
    file.write_text(OWN.format(pairs=pairs, metric=metric))
    words = ("discover", "--task", file, "--threshold", "0.1")
    err = refused(capsys, *words)
    assert re.search(message, err), err
    assert "--debug" in err
    with pytest.raises((ZeroDivisionError, IndexError, OSError)):
        main([*map(str, words), "--debug"])


def test_a_fault_of_our_own_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(TASKS, "broken", None)
    code, out, err = edgewise(capsys, "tasks", "--json")
    assert (code, err.count("\n")) == (1, 1)
    assert "a fault in Edgewise" in err
    assert "Error: " in json.loads(out)["error"]["message"]


LONG = "x" * 5000


@pytest.mark.parametrize(
    "words",
    [
        ("discover", "--task", LONG, "--threshold", "1"),
        ("discover", "--pairs", LONG, "--model", "or-gate", "--threshold", "1"),
        ("discover", "--task", "or-gate", "--model", LONG, "--threshold", "1"),
        ("discover", "--task", "or-gate", "--spans", LONG, "--threshold", "1"),
        ("compare", LONG, LONG + "y"),
        ("tasks", "check", LONG),
        ("leaderboard", "--program", LONG),
        ("stability", *TASK, "--over", LONG),
        ("certify", "--task", "or-gate", "--method", LONG),
        ("sweep", "--task", "or-gate", "--threshold", LONG, "--out", "nowhere"),
    ],
)
def test_a_long_name_gives_a_short_message(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert len(refused(capsys, *words)) < 600


@pytest.mark.parametrize(
    "words",
    [
        ("discover", *TASK, "--seed"),
        ("discover", "--task", "or-gate", "--method", "random", "--edges", "1", "--method-seed"),
        ("stability", *TASK, "--over", "threshold", "--seed"),
        ("evaluate", "run", "--seed"),
        ("leaderboard", "--program", "or-gate", "--out", "board", "--seeds"),
        ("tasks", "show", "or-gate", "--seed"),
    ],
)
def test_a_seed_out_of_range_is_said(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ew.acdc(ew.load_task("or-gate").problem, threshold=0.01).save("run")
    for seed in ("1" + "0" * 30, "-1", str(2**64), "1" + "0" * 4000):
        assert len(refused(capsys, *words, seed)) < 1000


# --- pipes


def test_work_that_goes_into_a_pipe_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(console, "_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(console, "_EVERY_SECONDS", 0.05)
    with console.Output().progress("loading"):
        time.sleep(0.2)
    assert capsys.readouterr().err.startswith("loading (0 s)\n")
    with console.Output().progress("acdc") as on_progress:
        on_progress(Progress(1200, 3400, "a0.h1 [/x]"))
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "acdc: 1,200 of 3,400 a0.h1 [/x] (0 s)"
    assert 1 < len(lines) < 8
    with console.Output().progress("short"):
        pass
    with console.Output(json=True).progress("json") as on_progress:
        on_progress(Progress(1, 2, ""))
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
