"""Real pretrained models: where they lie, and the command line run on them.

`make real` fetches the models (scripts/real_models.py) and runs what lies here, `make real-quick`
what is marked `real_quick`. Every test below this folder is marked `real`. A test asks for
`folders` (name -> model folder), `loaded` (name -> Model, once a session) and `edgewise`, which
runs the command line. What a command printed and wrote is kept below `.real/results`, and taken
from there as long as the package's source and the command are the same: so a stopped `make real`
goes on where it was.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import edgewise as ew

REPOSITORY = Path(__file__).parents[2]
REAL = Path(os.environ.get("EDGEWISE_REAL", REPOSITORY / ".real")).resolve()
MODELS = {"smollm2": "SmolLM2-135M-Instruct.gguf", "gemma3": "gemma-3-270m.gguf"}


@pytest.hookimpl(tryfirst=True)  # before markers choose what runs
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@dataclass(frozen=True)
class Done:
    """What a command printed, wrote (into `folder`, where it ran) and took."""

    folder: Path
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int

    def json(self) -> Any:
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def folders() -> dict[str, Path]:
    missing = [name for name in MODELS if not (REAL / name).is_dir()]
    if missing:
        pytest.fail(f"no {' and '.join(missing)} below {REAL}: run `make real`, which fetches them")
    return {name: REAL / name for name in MODELS}


@pytest.fixture(scope="session")
def gguf_files(folders) -> dict[str, Path]:
    """The files that the folders were made of."""
    return {name: REAL / "raw" / file for name, file in MODELS.items()}


@pytest.fixture(scope="session")
def loaded(folders) -> Callable[[str], ew.Model]:
    return cache(lambda name: ew.load_model(folders[name]))


@pytest.fixture(scope="session")
def edgewise(folders) -> Callable[..., Done]:
    """`edgewise("discover", "--model", folder, …)`, run where relative outputs are kept.

    Files of its own are given by `files` (name -> text). Fails unless the exit code is `code`.
    """
    results = REAL / "results" / _hash_of(folders)
    for old in results.parent.glob("*"):
        if old != results:
            shutil.rmtree(old)
    return lambda *arguments, files=None, code=0: _run(
        results, tuple(map(str, arguments)), files or {}, code
    )


def _run(results: Path, arguments: tuple[str, ...], files: dict[str, str], code: int) -> Done:
    asked = json.dumps([arguments, files], sort_keys=True)
    folder = results / hashlib.sha256(asked.encode()).hexdigest()[:16]
    kept = folder / "done.json"
    results.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tests may need one command
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
            found = _measured(arguments, folder)
            if found["code"] != code:
                pytest.fail(f"{' '.join(arguments)}: {found}")
            kept.write_text(json.dumps({"arguments": arguments, **found}))
    found = json.loads(kept.read_text())
    return Done(folder=folder, **{name: found[name] for name in found if name != "arguments"})


def _measured(arguments: tuple[str, ...], folder: Path) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("edgewise")), *arguments]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return {
            "code": process.returncode,
            "stdout": out.read(),
            "stderr": err.read(),
            "seconds": time.perf_counter() - started,
            "peak_bytes": usage.ru_maxrss * 1024,
        }


def _hash_of(folders: dict[str, Path]) -> str:
    """Of what decides a command's results besides the command: the package's files, the models."""
    found = hashlib.sha256()
    for file in sorted(Path(ew.__file__).parent.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            found.update(str(file).encode() + b"\0" + file.read_bytes())
    for folder in folders.values():
        found.update(str((folder / "model.safetensors").stat().st_mtime_ns).encode())
    return found.hexdigest()[:16]
