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


def test_a_file_is_a_task(file):
    task = ew.load_task(str(file))
    assert task.name == "mine"
    assert (len(task.problem.pairs), len(task.test.pairs)) == (4, 4)
    assert task.problem.metric.name == "l2"
    assert task.problem.origin["task"] == str(file)
    other = ew.load_task(str(file), n=2, seed=1, metric="kl", ablation="zero")
    assert (len(other.problem.pairs), other.problem.metric.name) == (2, "kl")
    assert other.problem.ablation.kind == "zero"
    assert other.problem.pairs.sha256 != task.problem.pairs.subset(0, 2).sha256
    spec = ew.tasks.task_spec(str(file))
    assert spec.sample() == ("BOS 1 1 1", "BOS 2 2 2")


def test_its_prompts_can_be_looked_at(file, capsys):
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


def test_few_prompts_are_halved_and_one_is_both(file):
    file.write_text(FILE.replace("[seed:][:n]", "[:5]"))
    task = ew.load_task(str(file))
    assert (len(task.problem.pairs), len(task.test.pairs)) == (2, 2)
    file.write_text(FILE.replace("[seed:][:n]", "[:1]"))
    task = ew.load_task(str(file))
    assert task.test is task.problem


def test_held_out_prompts_are_new(file):
    file.write_text(FILE.replace("[seed:][:n]", "[:4] * 2"))
    with pytest.raises(ProblemError) as caught:
        ew.load_task(str(file))
    assert caught.value.faults[0] == (
        "pair 4 has the clean prompt of pair 0; the second half is held out, and must be new."
    )
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it defines no TASK. Make one: TASK = edgewise.tasks.own_task"),
        ("TASK = 5", "TASK is a int; it must be a TaskSpec"),
        ("TASK = (", r"mine\.py, line 1: SyntaxError: "),
        ("x = 1\nimport nowhere_at_all", r"mine\.py, line 2: ModuleNotFoundError: No module"),
        ("x = 1\n\nx / 0", r"mine\.py, line 3: ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_file_says_where(file, capsys, text, message):
    file.write_text(text)
    with pytest.raises(FormatError, match=message):
        ew.load_task(str(file))
    code, _, err = edgewise(capsys, "discover", "--task", file, "--threshold", "1")
    assert (code, err.count("\n")) == (2, 1)


def test_what_its_function_gives_is_checked(file):
    file.write_text(FILE.replace("    return ew", "    return 5\n    return ew"))
    with pytest.raises(SettingError, match="the pairs of mine are a int; its function must return"):
        ew.load_task(str(file))
    file.write_text(FILE)
    with pytest.raises(SettingError, match="n is 0; it must be at least 1"):
        ew.load_task(str(file), n=0)


def test_a_file_runs_once_until_its_text_changes(file, tmp_path, capsys):
    count = tmp_path / "count.txt"
    text = f"with open({str(count)!r}, 'a') as f:\n    f.write('x')\n" + FILE
    file.write_text(text)
    ok(
        capsys,
        "discover",
        "--task",
        file,
        "--threshold",
        "1",
        "--out",
        tmp_path / "run",
        "--n",
        "2",
    )
    assert count.read_text() == "x"
    file.write_text(text + "\n")
    ew.load_task(str(file))
    assert count.read_text() == "xx"


def test_no_such_file(tmp_path):
    with pytest.raises(FormatError, match=r"there is no task file .*nothing\.py"):
        ew.load_task(str(tmp_path / "nothing.py"))


def test_an_entry_point_of_a_package(file, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_package_of_tasks.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    group = plugins.TASKS
    points = [
        EntryPoint("first-number", "my_package_of_tasks:TASK", group),
        EntryPoint("broken", "my_package_of_tasks:NOTHING", group),
        EntryPoint("odd", "my_package_of_tasks:TEXTS", group),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    task = ew.load_task("first-number")
    assert task.problem.origin["task"] == "first-number"
    assert ew.tasks.custom_names() == ["broken", "first-number", "odd"]
    rows = {row["name"]: row for row in json.loads(ok(capsys, "tasks", "--json"))}
    assert rows["first-number"]["metric"] == task.problem.metric.name
    assert rows["first-number"]["example"]["clean"]
    assert "of group edgewise.tasks" in rows["broken"]["error"]
    listed = ok(capsys, "tasks", "list")
    assert "first-number" in listed
    assert "cannot be loaded: broken (entry point my_package_of_tasks:NOTHING" in listed
    with pytest.raises(SettingError, match="entry point my_package_of_tasks:NOTHING of group edge"):
        ew.load_task("broken")
    with pytest.raises(FormatError, match="TASK is a list; it must be a TaskSpec"):
        ew.load_task("odd")
    with pytest.raises(UnknownName, match="Did you mean 'first-number'"):
        ew.load_task("first-numbr")
