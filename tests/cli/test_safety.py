"""What a command may do to the files it is given: nothing is run, lost, or written elsewhere."""

import json
import os
import stat
import subprocess
import sys

import pytest
import typer

import edgewise as ew
from commands import TASK, edgewise, refused
from edgewise.cli.main import app
from edgewise.documents import write_text
from edgewise.errors import FormatError, ModelError, OutputError
from edgewise.sweep_folder import SweepFolder, read_rows
from edgewise.sweeps import run_folders
from edgewise.work.journal import line_of
from edgewise.work.store import remove_unfinished


@pytest.fixture(scope="module")
def run():
    return ew.acdc(ew.load_task("or-gate").problem, threshold=0.01)


# --- code


def test_a_file_named_in_a_run_is_run_only_if_allowed(capsys, tmp_path, run):
    trap = tmp_path / "trap.py"
    trap.write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from edgewise.tasks import task_spec\nTASK = task_spec('or-gate')\n"
    )
    run.with_(request={"task": str(trap)}).save(tmp_path / "run")
    for command in ("evaluate", "test"):
        err = refused(capsys, command, tmp_path / "run")
        assert "trap.py" in err
        assert "--allow-code" in err
    err = refused(
        capsys, "compare", tmp_path / "run", tmp_path / "run", "--names", "a,b", "--cross"
    )
    assert "--allow-code" in err
    edgewise(capsys, "report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert not (tmp_path / "ran").exists()
    few = ("--random", "0", "--knock-outs", "0", "--no-minimality")
    code, _, err = edgewise(capsys, "evaluate", tmp_path / "run", "--allow-code", *few)
    assert code == 0, err
    assert (tmp_path / "ran").exists()


def test_code_beside_a_models_weights_is_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config = {"model_type": "own", "auto_map": names}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        ew.load_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


# --- names that become paths


@pytest.mark.parametrize("key", ["../../precious", "/", "", "a" * 17, 7])
def test_a_key_of_a_sweep_is_not_a_path(tmp_path, run, key):
    run.save(tmp_path / "precious")
    folder = tmp_path / "sweep"
    with SweepFolder(folder):
        pass
    asked = str(tmp_path / "precious") if key == "/" else key
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(line_of({"key": asked, "status": "done"}))
    with (
        pytest.raises(FormatError, match="not a finished point|the key of a point"),
        SweepFolder(folder),
    ):
        pass
    assert ew.Run.load(tmp_path / "precious").circuit == run.circuit


@pytest.mark.parametrize("file", ["../circuit.json", "circuits/../../x.json", "/etc/hostname"])
def test_a_circuit_of_a_sweep_is_in_its_folder(tmp_path, file):
    with SweepFolder(tmp_path):
        pass
    row = {"key": "0" * 16, "status": "done", "task": "ioi", "method": "eap", "n_edges": 1}
    row["circuit_file"] = file
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(line_of(row))
    with pytest.raises(FormatError, match="circuit_file"):
        read_rows(tmp_path)


def test_a_run_is_never_removed_as_an_unfinished_one(tmp_path, run):
    run.save(tmp_path / "run")
    remove_unfinished(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    remove_unfinished(tmp_path / "link")
    assert ew.Run.load(tmp_path / "run").circuit == run.circuit


def test_names_of_problems_stay_in_their_folder(tmp_path):
    problem = ew.load_task("or-gate").problem
    names = ["..", "../up", "/abs", "a/b", "long" * 100, "日本語", "."]
    folders = run_folders(dict.fromkeys(names, problem), tmp_path)
    assert len(set(folders.values())) == len(names)
    for folder in folders.values():
        assert folder.parent == tmp_path
        assert 0 < len(folder.name.encode()) < 150
    with pytest.raises(OutputError, match="different folders"):
        run_folders(dict.fromkeys(["a b", "a/b"], problem), tmp_path)


# --- modes, links, devices


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_have_the_mode_of_the_umask_and_keep_their_own(tmp_path, run):
    old = os.umask(0o027)
    try:
        assert mode(write_text("new", tmp_path / "new")) == 0o640
        (tmp_path / "mine").touch(mode=0o600)
        assert mode(write_text("text", tmp_path / "mine")) == 0o600
        assert mode(run.save(tmp_path / "run")) == 0o750
        assert {mode(path) for path in (tmp_path / "run").iterdir()} == {0o640}
    finally:
        os.umask(old)


def test_a_link_stays_one(tmp_path, run):
    for name in ("there", "dangling"):
        (tmp_path / name).symlink_to(tmp_path / f"{name}.target")
    (tmp_path / "there.target").write_text("old")
    for name in ("there", "dangling"):
        write_text("new", tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / f"{name}.target").read_text() == "new"
    (tmp_path / "folder").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "folder")
    run.save(tmp_path / "run")
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "folder" / "run.json").exists()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputError, match="loop"):
        write_text("new", tmp_path / "loop")


def test_a_run_takes_the_place_of_a_run_and_of_nothing_else(tmp_path, run):
    run.save(tmp_path / "run")
    with pytest.raises(OutputError, match="already holds a run"):
        run.save(tmp_path / "run")
    run.with_(measurements={"mark": 1}).save(tmp_path / "run", overwrite=True)
    assert ew.Run.load(tmp_path / "run").measurements["mark"] == 1
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="notes.txt"):
        run.save(tmp_path / "run", overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"format": "somebody else"}')
    with pytest.raises(OutputError, match="not empty"):
        run.save(tmp_path / "other", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


# --- outputs of every command, before any work

# Enough for a command to reach its outputs.
NEEDS = {
    "discover": TASK,
    "evaluate": ("nowhere",),
    "compare": ("--task", "or-gate", "--over", "metric", "--threshold", "0.01"),
    "stability": TASK,
    "certify": TASK,
    "test": ("nowhere",),
    "sweep": (*TASK, "--out", "OUT"),
    "report": ("nowhere",),
    "leaderboard": ("--quick",),
    "reproduce": ("--offline", "--quick"),
}
FOLDERS = ("discover", "compare", "sweep", "leaderboard", "reproduce")  # whose --out is one


def outputs():
    """Command, option and whether it is a folder, of all that is written."""
    found = []
    for name, command in typer.main.get_command(app).commands.items():
        for option in getattr(command, "params", ()):
            if option.name in ("out", "report", "journal"):
                found.append((name, f"--{option.name}", option.name == "out" and name in FOLDERS))
    return found


def test_every_command_that_writes_is_tried():
    assert {name for name, _, _ in outputs()} == set(NEEDS)


@pytest.fixture
def no_work(monkeypatch):
    def stop(*_, **__):
        raise AssertionError("work has begun")

    monkeypatch.setitem(vars(ew), "load_model", stop)
    for place in ("tasks.registry", "tasks.samples"):
        monkeypatch.setattr(f"edgewise.{place}.load_model", stop, raising=False)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("command", "option", "folder"), outputs())
def test_an_output_that_cannot_be_written_is_found_first(command, option, folder, capsys, tmp_path):
    needs = [tmp_path / "sweep" if a == "OUT" else a for a in NEEDS[command]]
    (tmp_path / "file").write_text("precious")
    os.mkfifo(tmp_path / "pipe")
    bad = [tmp_path / "file" / "x", tmp_path / "pipe", "/dev/full", "/dev/null", "/proc/x/y"]
    bad += [tmp_path / ("x" * 5000)]
    if folder:
        bad += [tmp_path / "file"]
    else:
        bad += [tmp_path, tmp_path / "nowhere" / "x"]
    for path in bad:
        err = refused(capsys, command, *needs, option, path)
        assert len(err) < 500
    if not folder and option != "--journal":
        assert "file exists" in refused(capsys, command, *needs, option, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.usefixtures("no_work")
def test_two_outputs_of_one_name(capsys, tmp_path):
    same = ("--out", tmp_path / "x", "--report", tmp_path / "x")
    assert "same name" in refused(capsys, "stability", *TASK, *same)


def test_force_replaces(capsys, tmp_path, run):
    run.save(tmp_path / "run")
    page = tmp_path / "page.html"
    page.write_text("old")
    asked = ("report", tmp_path / "run", "--out", page)
    refused(capsys, *asked)
    assert page.read_text() == "old"
    assert edgewise(capsys, *asked, "--force")[0] == 0
    assert page.read_text() != "old"
    found = ("discover", *TASK, "--out", tmp_path / "run")
    assert "--force" in refused(capsys, *found)
    assert edgewise(capsys, *found, "--force")[0] == 0


# --- systems without Unix


def test_everything_imports_without_the_modules_of_unix(tmp_path):
    script = tmp_path / "import_all.py"
    script.write_text(
        """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
            raise ModuleNotFoundError(f"No module named {name!r}")

import torch, transformers  # whose own imports are theirs
import signal
for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocked())
import edgewise
for module in pkgutil.walk_packages(edgewise.__path__, "edgewise."):
    importlib.import_module(module.name)
import torch
from edgewise.work.store import peak_memory_bytes
sys.platform = "win32"
assert peak_memory_bytes(torch.device("cpu")) == 0
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
