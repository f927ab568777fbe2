"""Tasks of a user's own: from a Python file, from an entry point; broken ones say where."""

import json
from importlib.metadata import EntryPoint

import pytest

import edgewise as ew
from commands import edgewise, ok
from edgewise import plugins
from edgewise.errors import FormatError, ProblemError, SettingError, UnknownName

FILE = """
import edgewise as ew

TEXTS = [f"BOS {a} {b} {c}" for a in "123" for b in "123" for c in "123"]


def pairs(model, n, seed):
    clean = TEXTS[seed:][:n]
    corrupted = [text.replace("1", "2") for text in clean]
    return ew.PromptPairs.from_text(clean, corrupted, tokenizer=model, answers=["1"] * len(clean))


TASK = ew.tasks.own_task(pairs, name="mine", model="tracr-reverse", metric="l2", n=4)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_file_is_a_task(file, capsys):
    task = ew.load_task(str(file))
    assert (task.name, task.problem.origin["task"]) == ("mine", str(file))
    assert (len(task.problem.pairs), len(task.test.pairs)) == (4, 4)
    assert task.problem.metric.name == "l2"
    other = ew.load_task(str(file), n=2, seed=1, metric="kl", ablation="zero").problem
    assert (len(other.pairs), other.metric.name, other.ablation.kind) == (2, "kl", "zero")
    assert other.pairs.sha256 != task.problem.pairs.subset(0, 2).sha256
    assert ew.tasks.task_spec(str(file)).sample() == ("BOS 1 1 1", "BOS 2 2 2")
    shown = json.loads(ok(capsys, "tasks", "show", file, "--n", "1", "--json"))
    assert shown["samples"][0]["clean"] == ["BOS", "1", "1", "1"]


def test_on_the_command_line_and_again_from_its_record(file, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    arguments = ("--task", "mine.py", "--n", "3", "--threshold", "0.01", "--out", out, "--json")
    assert json.loads(ok(capsys, "discover", *arguments))["n_edges"] > 0
    assert ew.Run.load(out).request["task"] == str(file)
    monkeypatch.chdir("/")
    assert json.loads(ok(capsys, "evaluate", out, "--allow-code", "--json"))["split"] == "test"
    file.write_text(FILE.replace('"2"', '"3"'))
    code, _, err = edgewise(capsys, "evaluate", out, "--allow-code")
    assert (code, "is another one: other prompts" in err) == (2, True)


@pytest.mark.parametrize(("n", "sizes"), [(5, (2, 2)), (3, (1, 1)), (1, (1, 1))])
def test_few_prompts_are_halved_and_one_is_both(file, n, sizes):
    file.write_text(FILE.replace("[seed:][:n]", f"[:{n}]"))
    task = ew.load_task(str(file))
    assert (len(task.problem.pairs), len(task.test.pairs)) == sizes
    assert (task.test is task.problem) == (n == 1)


def test_held_out_prompts_are_new(file):
    file.write_text(FILE.replace("[seed:][:n]", "[:4] * 2"))
    with pytest.raises(ProblemError) as caught:
        ew.load_task(str(file))
    assert "pair 4 has the clean prompt of pair 0;" in caught.value.faults[0]
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it defines no TASK. Make one: TASK = edgewise.tasks.own_task"),
        ("TASK = 5", "TASK is a int; it must be a TaskSpec"),
        ("TASK = (", r"mine\.py, line 1: SyntaxError: "),
        ("x = 1\n\nx / 0", r"mine\.py, line 3: ZeroDivisionError: division by zero"),
        (
            FILE.replace("    return ew", "    return 5\n    return ew"),
            "the pairs of mine are a int",
        ),
        (FILE.replace("n=4", "n=0"), "n is 0; it must be at least 1"),
    ],
)
def test_a_broken_file_says_where(file, capsys, text, message):
    file.write_text(text)
    with pytest.raises((FormatError, SettingError), match=message):
        ew.load_task(str(file))
    code, _, err = edgewise(capsys, "discover", "--task", file, "--threshold", "1")
    assert (code, err.count("\n")) == (2, 1)
    with pytest.raises(FormatError, match=r"there is no task file .*nothing\.py"):
        ew.load_task(str(file.with_name("nothing.py")))


def test_a_file_runs_once_until_its_text_changes(file, tmp_path, capsys):
    count = tmp_path / "count.txt"
    text = f"with open({str(count)!r}, 'a') as f:\n    f.write('x')\n" + FILE
    file.write_text(text)
    ok(capsys, "discover", "--task", file, "--threshold", "1", "--out", tmp_path / "run", "--n", 2)
    assert count.read_text() == "x"
    file.write_text(text + "\n")
    ew.load_task(str(file))
    assert count.read_text() == "xx"


def test_an_entry_point_of_a_package(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_package_of_tasks.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"first-number": "TASK", "broken": "NOTHING", "odd": "TEXTS"}
    points = [
        EntryPoint(name, f"my_package_of_tasks:{attribute}", plugins.TASKS)
        for name, attribute in names.items()
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    task = ew.load_task("first-number")
    assert task.problem.origin["task"] == "first-number"
    assert ew.list_tasks()[-3:] == ["broken", "first-number", "odd"]
    rows = {row["name"]: row for row in json.loads(ok(capsys, "tasks", "--json"))}
    assert rows["first-number"]["metric"] == "l2"
    assert rows["first-number"]["example"]["clean"]
    assert "of group edgewise.tasks" in rows["broken"]["error"]
    listed = " ".join(ok(capsys, "tasks", "list").split())
    assert "cannot be loaded broken (entry point my_package_of_tasks:NOTHING" in listed
    with pytest.raises(SettingError, match="entry point my_package_of_tasks:NOTHING of group edge"):
        ew.load_task("broken")
    with pytest.raises(FormatError, match="TASK is a list; it must be a TaskSpec"):
        ew.load_task("odd")
    with pytest.raises(UnknownName, match="Did you mean 'first-number'"):
        ew.load_task("first-numbr")
