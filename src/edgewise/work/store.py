"""Folders: of a finished run, written whole or not at all; of a run that has not finished.

A checkpoint is the folder of work that takes long: a journal of what was decided, and beside it the
last state of what is trained. It stays until what it led to is safe.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgewise.documents import check_output_place, read_json, writing
from edgewise.errors import EdgewiseError, FormatError, OutputError, shortened
from edgewise.model import Model
from edgewise.model.checksums import checksum
from edgewise.work.identity import Identity, hashed
from edgewise.work.journal import Journal, JournalFormat, Record, read_journal

# --- a folder of files that belong together


def check_output_folder(
    folder: Path, kind: str, files: Collection[str], *, overwrite: bool = False
) -> None:
    """Raise `OutputError` unless a run could be written there. Call it before the work starts.

    `files` are those of a run, `kind` is the format of its run.json. With `overwrite` the folder
    may hold a run, and nothing else.
    """
    target, fault = Path(os.path.realpath(folder)), ""
    with writing(folder):
        present = {path.name for path in target.iterdir()} if target.is_dir() else set()
        strange = present - set(files if _is_of(target, kind) else ())
        if "run.json" in present and not overwrite:
            fault = "already holds a run. Choose another folder, or add --force (in Python "
            fault += "overwrite=True) to replace it"
        elif strange:
            fault = f"is not empty: it holds {min(strange)}. Choose a new folder for the run"
        elif target.exists() and not target.is_dir():
            fault = "is a file. Choose a new folder for the run"
    if fault:
        raise OutputError(f"{folder} {fault}.")
    check_output_place(folder.parent)
    target.parent.mkdir(parents=True, exist_ok=True)


def _is_of(folder: Path, kind: str) -> bool:
    try:
        return bool(read_json(folder / "run.json", "run")["format"] == kind)
    except (FormatError, KeyError, TypeError):
        return False


def write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fill a folder by `write`, all of it or nothing; one that is there is replaced by then.

    Raises `OutputError`.
    """
    target = Path(os.path.realpath(folder))  # a link stays one
    partial, old = (target.with_name(f".{target.name[:50]}.{token_hex(4)}") for _ in range(2))
    try:
        partial.mkdir(parents=True)
        write(partial)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException as reason:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists():
            old.rename(target)
        if isinstance(reason, OSError | EdgewiseError):
            cause = reason if isinstance(reason, OSError) else reason.__cause__
            why = f"{cause.strerror}." if isinstance(cause, OSError) else str(reason)
            raise OutputError(f"cannot write the run to {folder}: {why}") from reason
        raise
    shutil.rmtree(old, ignore_errors=True)
    return folder


# --- work that has not finished

_JOURNAL, _STATE = "journal.jsonl", "state.safetensors"
_OLD = ("run.json", "trace.jsonl")  # of version 1
_FILES = (*_OLD, _JOURNAL, f"{_JOURNAL}.damaged", _STATE, f".{_STATE}")
_DECISIONS = JournalFormat(
    "edgewise-unfinished", holds="an unfinished run", ordered=True, version_1=_OLD
)
STATE_SECONDS = 5.0  # how long a state stands before the next takes its place

# What a method that trains needs to go on: tensors and whole numbers, by name.
State = tuple[dict[str, Tensor], dict[str, int]]


class Checkpoint:
    """The folder of work that has not finished: records in their order, and the last state.

    Made if need be; one without records takes any work. Raises `OutputError` if it cannot be
    written, is in use or is of other work, `FormatError` if what it holds cannot be read.
    """

    def __init__(self, folder: str | Path, work: Identity) -> None:
        self.folder, self._state = Path(folder), Path(folder) / _STATE
        self._state_saved = time.monotonic()
        _check_is_checkpoint(self.folder)
        with writing(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        is_begun = self._state.exists()
        self._journal = Journal(self.folder / _JOURNAL, _DECISIONS, work, is_begun=is_begun)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._journal.close()
        if not self.records and not self._state.exists():
            remove_unfinished(self.folder)  # it ended before there was anything to keep
        if isinstance(error, FormatError):
            raise FormatError(
                f"{self.folder} cannot be resumed: {str(error).rstrip('.')}. Remove it to "
                "start anew."
            ) from error

    @property
    def records(self) -> list[Record]:
        """All that were kept, before and now."""
        return self._journal.records

    def add(self, record: Record) -> None:
        """Keep one more; it outlives this process from here on. Raises `OutputError`."""
        self._journal.add(record)

    def state(self) -> State | None:
        """The last state, on the CPU; None, with a warning, if it is not as it was written."""
        if not self._state.exists():
            return None
        try:
            with safe_open(self._state, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # In version 1 the numbers stood alone, without a checksum.
            about = json.loads(metadata.get("state") or f'{{"numbers": {metadata["numbers"]}}}')
            numbers = {name: int(number) for name, number in about["numbers"].items()}
            if "state" in metadata and about["checksum"] != _checksum(tensors, numbers):
                raise ValueError("it was changed after it was written")
            return tensors, numbers
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as reason:
            why = shortened(str(reason), 240)
            warnings.warn(f"{self._state} is no state: {why}. The work starts anew.", stacklevel=2)
            return None

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Replace the state, unless that was done a moment ago. Raises `OutputError`."""
        now = time.monotonic()
        if now - self._state_saved < STATE_SECONDS:
            return
        self._state_saved = now
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        about = {"numbers": dict(numbers), "checksum": _checksum(plain, numbers)}
        temporary = self._state.with_name(f".{_STATE}")
        with writing(self._state):
            temporary.write_bytes(save(plain, metadata={"state": json.dumps(about)}))
            os.replace(temporary, self._state)


def _checksum(tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> str:
    parts = {
        name: [str(tensor.dtype), list(tensor.shape), checksum(tensor.reshape(-1))]
        for name, tensor in tensors.items()
    }
    return hashed({"tensors": parts, "numbers": dict(numbers)})


def work_kept(folder: str | Path) -> str | None:
    """What a checkpoint holds, in words; "" for nothing yet, None if there is no such folder.

    Raises `OutputError` if the folder holds something else, `FormatError` if it cannot be read.
    """
    folder = Path(folder)
    _check_is_checkpoint(folder)
    if not folder.exists():
        return None
    n = len(read_journal(folder / _JOURNAL, _DECISIONS).records)
    if n:
        return "1 decision" if n == 1 else f"{n:,} decisions"
    return "the training so far" if (folder / _STATE).exists() else ""


def remove_unfinished(folder: str | Path) -> None:
    """Remove such a folder, once what it led to is safe. Files of others in it stay.

    A link, or a folder that is no checkpoint, is left alone.
    """
    folder = Path(folder)
    with suppress(OSError, EdgewiseError):
        if folder.is_symlink() or not folder.is_dir():
            return
        read_journal(folder / _JOURNAL, _DECISIONS)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _check_is_checkpoint(folder: Path) -> None:
    """Raise `OutputError` for a folder of something else."""
    try:
        names = {path.name for path in folder.iterdir()} if os.path.lexists(folder) else set()
    except NotADirectoryError:
        names = {folder.name}
    except OSError as reason:
        raise OutputError(f"cannot read {folder}: {reason.strerror}.") from reason
    if names - set(_FILES) and not names & {_JOURNAL, "run.json"}:
        raise OutputError(f"{folder} is not an unfinished run. Choose another folder.")


# --- where work happened
def environment(model: Model) -> dict[str, Any]:
    """Versions of what computes, the commit of a checkout, the model's device and dtype."""
    device = model.device
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "edgewise": _version_of("edgewise"),
        "torch": torch.__version__,
        "transformers": _version_of("transformers"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type}{gpu}",
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        **_commit(),
    }


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory the process has held so far (on a GPU: torch on that device); 0: not told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # ru_maxrss also counts what the launching process once held
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> dict[str, Any]:
    """Commit and dirty flag when Edgewise runs from its own checkout, else nothing."""
    folder, told = Path(__file__).resolve().parents[3], list[str]()
    if not (folder / ".git").exists():
        return {}
    git = ["git", "-C", str(folder)]
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run([*git, *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        told.append(done.stdout.strip() if done.returncode == 0 else "")
    commit, changes = told
    return {"commit": commit, "dirty": bool(changes)} if commit else {}
