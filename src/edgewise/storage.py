"""Files that outlive a crash: whole or absent, or lines that are added one after the other."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
import time
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edgewise.codec import parsed
from edgewise.errors import FormatError, OutputError, shortened

_CHECKSUM = "crc32"  # of the rest of a line, in a record


# Keys of version 1 of our files that have another name since.
_RENAMED = {"reference": "ablation", "references": "ablations", "by_reference": "by_ablation"}


def imported(document: Any, source: str, kind: str, version: int) -> Any:
    """The document as the current `version` of its format has it, whatever version it was written
    in. Raises `FormatError` for a document of another kind or of a newer Edgewise.
    """
    found = document.get("format") if isinstance(document, dict) else None
    if found != kind:
        what = f"its format is {shortened(repr(found))}" if found else "it does not say its format"
        raise FormatError(f"{source}: expected a {kind!r} file, but {what}.")
    if type(document.get("version")) is not int or document["version"] < 1:
        raise FormatError(
            f"{source}: the format version is {shortened(repr(document.get('version')))}."
        )
    if document["version"] > version:
        raise FormatError(
            f"{source}: written in version {document['version']} of {kind!r}; this Edgewise reads "
            f"up to version {version}. Upgrade Edgewise to read it."
        )
    return document if document["version"] == version else renamed(document)


def renamed(value: Any) -> Any:
    """A value of a file of version 1, with the names of version 2."""
    if isinstance(value, dict):
        return {_RENAMED.get(key, key): renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item) for item in value]
    return _RENAMED.get(value, value) if isinstance(value, str) else value


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file, with or without a byte order mark.

    Raises `FormatError` when it is missing, no regular file, unreadable or broken.
    """
    return parsed(read_text(path, what), f"{path}: not a {what} file; it is broken JSON")


def read_text(path: Path, what: str) -> str:
    """The text of a regular file. Raises `FormatError`."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # it may have no end
            raise OSError(0, "not a regular file")
        return path.read_text(encoding="utf-8-sig")
    except OSError as reason:
        raise FormatError(f"cannot read the {what} file {path}: {reason.strerror}") from reason
    except ValueError as reason:  # no UTF-8, or a name that no file can have
        raise FormatError(f"{path}: not a {what} file; it is no text: {reason}") from reason


def check_output_file(path: Path | None, *, overwrite: bool = True) -> None:
    """Raise `OutputError` unless a file can be written there; None is no file.

    Call it before the work starts. Without `overwrite` a file that exists is refused.
    """
    if path is None:
        return
    target = _target(path)
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} exists. Choose another name, or add --force to replace it.")
    try:
        probe(target.parent)
    except OSError as reason:
        raise OutputError(f"cannot write {path}: {reason.strerror}.") from reason


def check_output_files(*paths: Path | None, overwrite: bool) -> None:
    """`check_output_file` for each, and no two of them the same. Raises `OutputError`."""
    for path in paths:
        check_output_file(path, overwrite=overwrite)
    places = [os.path.realpath(path) for path in paths if path is not None]
    if len(set(places)) < len(places):
        raise OutputError(f"two outputs have the same name, {places[0]}. Choose another for one.")


def check_output_place(folder: Path | None) -> None:
    """Raise `OutputError` unless the folder is one, or can be made, that takes files."""
    if folder is None:
        return
    target = Path(os.path.realpath(folder))
    try:
        with suppress(FileNotFoundError):
            target.lstat()
        there = next(place for place in (target, *target.parents) if os.path.lexists(place))
        probe(there)
    except OSError as reason:
        raise OutputError(
            f"cannot write to {shortened(str(folder))}: {reason.strerror}."
        ) from reason


def probe(folder: Path) -> None:
    """Raise `OSError` unless a file can be made, and a little written, in a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def _target(path: Path) -> Path:
    """Where writing to a path ends: links are followed.

    Raises `OutputError` for anything but a file that may be replaced or a name that is free.
    """
    target = Path(os.path.realpath(path))
    try:
        found = target.lstat()
    except FileNotFoundError:
        return target
    except OSError as reason:
        raise OutputError(f"cannot write {shortened(str(path))}: {reason.strerror}.") from reason
    if stat.S_ISDIR(found.st_mode):
        raise OutputError(f"cannot write {path}: it is a folder.")
    if not stat.S_ISREG(found.st_mode):
        raise OutputError(f"cannot write {path}: it is not a file (a device, a pipe or a loop).")
    if not os.access(target, os.W_OK):
        raise OutputError(f"cannot write {path}: the file is read-only.")
    return target


def write_json(document: Any, path: Path) -> Path:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    return write_text(json.dumps(document, indent=1) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """Write a text file in one step. Raises `OutputError` and leaves an old file as it was."""
    return write_bytes(text.encode(errors="replace"), path)  # a path may hold half a character


def write_bytes(data: bytes, path: Path) -> Path:
    """Write a file in one step. Raises `OutputError` and leaves an old file as it was.

    A new file has the mode that the umask gives, one that is replaced keeps its own; a link stays
    one, and what it names is written.
    """
    target = _target(path)
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as reason:
        raise OutputError(f"cannot write {shortened(str(path))}: {reason.strerror}") from reason
    return path


def line_of(record: Mapping[str, Any]) -> str:
    """A line of JSON with a checksum of itself. Raises `ValueError` for what JSON has not."""
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}, "{_CHECKSUM}": {zlib.crc32(text.encode())}}}\n'


def record_of(line: str | bytes, complaint: str) -> Any:
    """The record of `line_of`, or of a line without a checksum.

    Raises `FormatError`, which begins with `complaint`, also if it is not as it was written.
    """
    record = parsed(line, complaint)
    kept = record.pop(_CHECKSUM, None) if isinstance(record, dict) else None
    if kept is not None and kept != zlib.crc32(json.dumps(record).encode()):
        raise FormatError(
            f"{complaint}: its checksum is another: the line was changed after it was written"
        )
    return record


def warn_of_half_line(path: Path) -> None:
    """Tell the user that the end of a file is dropped, as a killed process leaves it."""
    warnings.warn(
        f"{path} ends in half a line, as after a crash: it is dropped, and its work done again.",
        stacklevel=3,
    )


class LineFile:
    """Lines that are only ever added, in a file that one process at a time may use.

    `lines` are those that were in it. What a killed process left half-written is dropped, with a
    warning. The lock
    is the system's: it is gone with its process, however that ended. Raises `OSError` if the file
    cannot be read and written, `OutputError` if another process uses it.
    """

    def __init__(self, path: Path, *, work: str = "work") -> None:
        self._path = path
        self._file = _target(path).open("a+b")
        try:
            self._lock(work)
            self._file.seek(0)
            *self.lines, half = self._file.read().split(b"\n")
            if half:
                warn_of_half_line(path)
                self._file.truncate(self._file.tell() - len(half))
        except BaseException:
            self.close()
            raise

    def add(self, lines: bytes, *, lasting: bool = False) -> None:
        """Write whole lines; raises `OSError`, and what is half-written then is dropped later.

        They outlive this process from here on and, if `lasting`, a power cut.
        """
        self._file.write(lines)
        self._file.flush()
        if lasting:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back."""
        with suppress(OSError):  # what could not be written, `add` has told
            self._file.close()

    def _lock(self, work: str) -> None:
        try:
            import fcntl  # not on Windows, which has no such locks
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{self._path} is in use: another process is at work on the same {work}."
            ) from None
        except OSError:
            pass  # a file system without locks


def held(path: Path) -> IO[bytes]:
    """The file, made if need be, with a lock that several processes may hold while they live."""
    file = path.open("ab")
    with suppress(ImportError, OSError):  # no such locks here
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH)
    return file


def wait_until_nobody_holds(path: Path, seconds: float) -> bool:
    """Whether all processes that held the file have given it back, or ended, within the time."""
    try:
        import fcntl
    except ImportError:
        return True
    deadline = time.monotonic() + seconds
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
            except OSError:
                return True  # a file system without locks
