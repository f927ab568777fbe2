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

from edgewise.documents import check_output_place, read_json
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
    target = Path(os.path.realpath(folder))
    try:
        present = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if "run.json" in present and not overwrite:
            raise OutputError(
                f"{folder} already holds a run. Choose another folder, or add --force (in Python "
                "overwrite=True) to replace it."
            )
        if strange := present - set(files if _is_of(target, kind) else ()):
            raise OutputError(
                f"{folder} is not empty: it holds {min(strange)}. Choose a new folder for the run."
            )
        if target.exists() and not target.is_dir():
            raise OutputError(f"{folder} is a file. Choose a new folder for the run.")
    except OSError as reason:
        where = shortened(str(folder))
        raise OutputError(f"cannot write to {where}: {reason.strerror}.") from reason
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
_DECISIONS = JournalFormat(
    "edgewise-unfinished",
    holds="an unfinished run",
    ordered=True,
    version_1=("run.json", "trace.jsonl"),
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
        self.folder = Path(folder)
        self._state_saved = time.monotonic()
        _check_is_checkpoint(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            raise OutputError(f"cannot write to {self.folder}: {reason.strerror}.") from reason
        self._journal = Journal(
            self.folder / _JOURNAL, _DECISIONS, work, is_begun=(self.folder / _STATE).exists()
        )

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._journal.close()
        if not self.records and not (self.folder / _STATE).exists():
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
        path = self.folder / _STATE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "numbers" in metadata:  # of version 1, which had no checksum
                return tensors, _whole_numbers(json.loads(metadata["numbers"]))
            about = json.loads(metadata["state"])
            numbers = _whole_numbers(about["numbers"])
            if about["checksum"] != _checksum(tensors, numbers):
                raise ValueError("it was changed after it was written")
            return tensors, numbers
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as reason:
            why = shortened(str(reason), 240)
            warnings.warn(f"{path} is no state: {why}. The work starts anew.", stacklevel=2)
            return None

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Replace the state, unless that was done a moment ago. Raises `OutputError`."""
        now = time.monotonic()
        if now - self._state_saved < STATE_SECONDS:
            return
        self._state_saved = now
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        path = self.folder / _STATE
        temporary = path.with_name(f".{_STATE}")
        try:
            about = {"numbers": dict(numbers), "checksum": _checksum(plain, numbers)}
            temporary.write_bytes(save(plain, metadata={"state": json.dumps(about)}))
            os.replace(temporary, path)
        except OSError as reason:
            raise OutputError(
                f"cannot write {path}: {reason.strerror}. The state before is in it: "
                "run the same work again to resume."
            ) from reason


def _whole_numbers(numbers: Any) -> dict[str, int]:
    return {name: int(number) for name, number in dict(numbers).items()}


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


_FILES = (
    *("run.json", "trace.jsonl"),  # of version 1
    *(_JOURNAL, f"{_JOURNAL}.damaged", _STATE, f".{_STATE}"),
)


def _check_is_checkpoint(folder: Path) -> None:
    """Raise `OutputError` for a folder of something else."""
    try:
        is_free = not os.path.lexists(folder)
        names = [] if is_free else [path.name for path in folder.iterdir()]
    except NotADirectoryError:
        names = [folder.name]
    except OSError as reason:
        raise OutputError(f"cannot read {folder}: {reason.strerror}.") from reason
    if not {_JOURNAL, "run.json"} & set(names) and set(names) - set(_FILES):
        raise OutputError(f"{folder} is not an unfinished run. Choose another folder.")


# --- where work happened
def environment(model: Model) -> dict[str, Any]:
    """Versions of what computes, the commit of a checkout, the model's device and dtype."""
    return {
        "edgewise": _version_of("edgewise"),
        "torch": torch.__version__,
        "transformers": _version_of("transformers"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device_name(model.device),
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


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> dict[str, Any]:
    """Commit and dirty flag when Edgewise runs from its own checkout, else nothing."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return {}

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    status = git("status", "--porcelain", "--untracked-files=no")
    return {} if commit is None else {"commit": commit, "dirty": bool(status)}
