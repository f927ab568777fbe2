"""What a command may do to the files it is given: nothing is run, lost, or written elsewhere."""

import json
import os
import stat
import subprocess
import sys

import pytest
import typer

import edgewise as ew
from commands import TASK, ok, refused
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
    trap, ran = tmp_path / "trap.py", tmp_path / "ran"
    trap.write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
        "from edgewise.tasks import task_spec\nTASK = task_spec('or-gate')\n"
    )
    folder = run.with_(request={"task": str(trap)}).save(tmp_path / "run")
    for command in (("evaluate",), ("test",), ("compare", folder, "--names", "a,b", "--cross")):
        message = refused(capsys, *command, folder)
        assert "trap.py" in message
        assert "--allow-code" in message
    ok(capsys, "report", folder, "--out", tmp_path / "page.html")
    assert not ran.exists()
    few = ("--random", "0", "--knock-outs", "0", "--no-minimality")
    ok(capsys, "evaluate", folder, "--allow-code", *few)
    assert ran.exists()


def test_code_beside_a_models_weights_is_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}))
    with pytest.raises(ModelError):
        ew.load_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


# --- names that become paths


@pytest.mark.parametrize(
    "changes",
    [
        *({"key": key} for key in ("../../precious", "/", "", "a" * 17, 7)),
        *({"circuit_file": file} for file in ("../circuit.json", "circuits/../../x.json", "/x")),
    ],
)
def test_names_in_a_sweep_are_no_paths(tmp_path, changes):
    with SweepFolder(tmp_path):
        pass
    row = {"key": "0" * 16, "status": "done", "task": "ioi", "method": "eap", "n_edges": 1}
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(line_of(row | changes))
    with pytest.raises(FormatError, match="point"):
        read_rows(tmp_path)


def test_a_run_is_never_removed_as_an_unfinished_one(tmp_path, run):
    run.save(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("run", "link"):
        remove_unfinished(tmp_path / name)
        assert ew.Run.load(tmp_path / "run").circuit == run.circuit


def test_names_of_problems_stay_in_their_folder(tmp_path):
    problem = ew.load_task("or-gate").problem
    names = ["..", "../up", "/abs", "a/b", "long" * 100, "日本語", "."]
    folders = run_folders(dict.fromkeys(names, problem), tmp_path)
    assert len(set(folders.values())) == len(names)
    assert {folder.parent for folder in folders.values()} == {tmp_path}
    assert all(0 < len(folder.name.encode()) < 150 for folder in folders.values())


# --- modes, links


def test_files_have_the_mode_of_the_umask_and_keep_their_own(tmp_path, run):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

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
    for name in ("file", "run", "loop"):
        (tmp_path / name).symlink_to(tmp_path / ("loop" if name == "loop" else f"{name}.target"))
    write_text("new", tmp_path / "file")
    assert (tmp_path / "file.target").read_text() == "new"
    (tmp_path / "run.target").mkdir()
    run.save(tmp_path / "run")
    assert (tmp_path / "run.target" / "run.json").exists()
    with pytest.raises(OutputError, match="loop"):
        write_text("new", tmp_path / "loop")
    assert all((tmp_path / name).is_symlink() for name in ("file", "run", "loop"))


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
OUTPUTS = [
    (name, f"--{option.name}", option.name == "out" and name in FOLDERS)
    for name, command in typer.main.get_command(app).commands.items()
    for option in getattr(command, "params", ())
    if option.name in ("out", "report", "journal")
]


def test_every_command_that_writes_is_tried():
    assert {name for name, _, _ in OUTPUTS} == set(NEEDS)


@pytest.fixture
def no_work(monkeypatch):
    def stop(*_, **__):
        raise AssertionError("work has begun")

    monkeypatch.setitem(vars(ew), "load_model", stop)
    for place in ("tasks.registry", "tasks.samples"):
        monkeypatch.setattr(f"edgewise.{place}.load_model", stop, raising=False)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("command", "option", "folder"), OUTPUTS)
def test_an_output_that_cannot_be_written_is_found_first(command, option, folder, capsys, tmp_path):
    needs = [tmp_path / "sweep" if word == "OUT" else word for word in NEEDS[command]]
    file = tmp_path / "file"
    file.write_text("precious")
    os.mkfifo(tmp_path / "pipe")
    bad = [file / "x", tmp_path / "pipe", "/dev/full", "/dev/null", tmp_path / ("x" * 5000)]
    bad += [file] if folder else [tmp_path, tmp_path / "nowhere" / "x"]
    for path in bad:
        assert len(refused(capsys, command, *needs, option, path)) < 500
    if not folder and option != "--journal":
        assert "file exists" in refused(capsys, command, *needs, option, file)
    assert file.read_text() == "precious"


@pytest.mark.usefixtures("no_work")
def test_two_outputs_of_one_name(capsys, tmp_path):
    same = ("--out", tmp_path / "x", "--report", tmp_path / "x")
    assert "same name" in refused(capsys, "stability", *TASK, *same)


def test_force_replaces(capsys, tmp_path, run):
    folder, page = run.save(tmp_path / "run"), tmp_path / "page.html"
    page.write_text("old")
    for command in (("report", folder, "--out", page), ("discover", *TASK, "--out", folder)):
        assert "--force" in refused(capsys, *command)
        assert page.read_text() == "old" or command[0] == "discover"
        ok(capsys, *command, "--force")
    assert page.read_text() != "old"


# --- systems without Unix

WITHOUT_UNIX = """
import importlib, pkgutil, signal, sys
import torch, transformers  # whose own imports are theirs

NAMES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}")

for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)
for name in NAMES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocked())
import edgewise
for module in pkgutil.walk_packages(edgewise.__path__, "edgewise."):
    importlib.import_module(module.name)
from edgewise.work.store import peak_memory_bytes
sys.platform = "win32"
assert peak_memory_bytes(torch.device("cpu")) == 0
"""


def test_everything_imports_without_the_modules_of_unix():
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
