"""Records of finished work in a file: only ever added to, by one process, each with a checksum.

1. The first line is the header: the format with its version, and the work that the records
   are of (see identity.py). A journal of other work is refused, with the difference.
2. Every other line is a record of JSON, with a checksum of its bytes.
3. What a killed process left half written, and lines that were changed after they were
   written, are said and left out, so that their work is done again. A journal that lost
   changed lines is kept as it was beside the new one, as NAME.damaged.
4. One process at a time may add. The lock is the system's, and ends with its process.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise.documents import imported, output_target, parsed, read_json, renamed, write_bytes
from edgewise.errors import FormatError, OutputError
from edgewise.work.identity import Identity, difference, warn_if_untold

VERSION = 2
PATIENCE_SECONDS = 3.0  # with a process whose parent was killed: it ends by itself
_CHECKED = re.compile(rb'(\{.*), "crc32": ([0-9]{1,10})\}')
Record = dict[str, Any]


@dataclass(frozen=True)
class JournalFormat:
    """A kind of journal: the name of its format, and in words what it holds.

    In an `ordered` one each record follows from those before it: none counts after a changed one.
    `version_1` names the files that held header and records in version 1, where they were two.
    """

    name: str
    holds: str
    ordered: bool = False
    version_1: tuple[str, str] | None = None


def line_of(record: Mapping[str, Any]) -> bytes:
    """A line of JSON with a checksum of itself. Raises `ValueError` for what JSON has not."""
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}, "crc32": {zlib.crc32(text.encode())}}}\n'.encode()


def _record_of(line: bytes) -> Record | None:
    """The record of `line_of`; None if the line is not as it was written."""
    match = _CHECKED.fullmatch(line)
    if match is None or int(match[2]) != zlib.crc32(match[1] + b"}"):
        return None
    with suppress(FormatError):
        return parsed(match[1] + b"}", "")
    return None


# --- reading


@dataclass(frozen=True)
class JournalContent:
    """What a journal holds: its header (None: nothing yet), and the records that are whole.

    `changed` are the numbers of lines that are not as they were written; `n_intact` bytes come
    before the first of them and before what is half written.
    """

    header: Record | None
    records: Sequence[Record]
    changed: Sequence[int] = ()
    n_intact: int = 0
    is_half: bool = False


def read_journal(path: Path, kind: JournalFormat) -> JournalContent:
    """Read a journal, also while it is written, with a warning for changed lines.

    Raises `FormatError` if it is of another format, or its header is broken.
    """
    content = _content(path, kind)
    _warn_of_changes(path, kind, content)
    return content


def _content(path: Path, kind: JournalFormat) -> JournalContent:
    *lines, half = _text(path, kind).split(b"\n")
    if not lines:
        return JournalContent(None, (), is_half=bool(half))
    first, *lines = lines
    header = _header(first, path, kind)
    read = _record_of if header["version"] == VERSION else _record_of_version_1
    records, changed, n_intact = list[Record](), list[int](), len(first) + 1
    for number, line in enumerate(lines, start=2):
        record = read(line)
        if record is None:
            changed.append(number)
        elif not (changed and kind.ordered):
            records.append(record)
        n_intact += 0 if changed else len(line) + 1
    return JournalContent(header, records, changed, n_intact, bool(half))


def _header(line: bytes, path: Path, kind: JournalFormat) -> Record:
    """The first line, with its own version. Raises `FormatError`."""
    header = parsed(line, f"{path}: its first line is broken")
    document = imported(header, str(path), kind=kind.name, version=VERSION)
    if header["version"] == VERSION and _record_of(line) is None:
        raise FormatError(
            f"{path}: its first line was changed after it was written, so that nobody knows what "
            "it is of. Remove it to start anew."
        )
    document = {name: value for name, value in document.items() if name != "crc32"}
    return {**document, "version": header["version"]}


def _record_of_version_1(line: bytes) -> Record | None:
    """A record of version 1, in which a checksum could be missing; None if it is broken."""
    record = _record_of(line)
    if record is None:
        with suppress(FormatError):
            record = parsed(line, "")
    is_record = isinstance(record, dict) and "crc32" not in record
    return renamed(record) if is_record else None


def _text(path: Path, kind: JournalFormat) -> bytes:
    """The bytes of a journal; of one of version 1 whose header lay apart, with its header."""
    try:
        text = path.read_bytes() if path.exists() else b""
        if kind.version_1 is None or text.startswith(b'{"format"'):
            return text
        header, records = (path.with_name(name) for name in kind.version_1)
        if not header.exists():
            return text
        first = json.dumps(read_json(header, "journal")).encode() + b"\n"
        return first + (records.read_bytes() if records.exists() else b"")
    except OSError as reason:
        raise FormatError(f"cannot read {path}: {reason.strerror}.") from reason


def _warn_of_changes(path: Path, kind: JournalFormat, content: JournalContent) -> None:
    if content.changed:
        lines = ", ".join(map(str, content.changed[:3])) + (", …" if content.changed[3:] else "")
        more = " and what follows" if kind.ordered else ""
        warnings.warn(
            f"{path}: changed after it was written: line {lines}. It is left out{more}, and its "
            "work done again.",
            stacklevel=4,
        )


# --- writing


class Journal:
    """A journal that this process adds to; `records` are those of before and those added.

    Raises `OutputError` if it cannot be written, is in use by another process or is of other work,
    `FormatError` as `read_journal`. Without `work` it may hold records of any; without records it
    takes any work, unless that `is_begun` otherwise.
    """

    def __init__(
        self,
        path: Path,
        kind: JournalFormat,
        work: Identity | None = None,
        *,
        is_begun: bool = False,
    ) -> None:
        self.path, self._kind, self._is_begun = path, kind, is_begun
        if work is not None:
            warn_if_untold(work)
        target = output_target(path)
        self._check_work(_content(path, kind), work)
        try:
            self._take_over_version_1()
            self._file = target.open("a+b")
        except OSError as reason:
            raise OutputError(f"cannot write to {path}: {reason.strerror}.") from reason
        try:
            self._lock()
            content = read_journal(path, kind)  # again: another may have written until now
            if content.is_half:
                warnings.warn(
                    f"{path} ends in half a line, as after a crash: it is dropped, and its work "
                    "done again.",
                    stacklevel=3,
                )
            self._check_work(content, work)
            self.records = list(content.records)
            self._repair(content, work)
        except BaseException as reason:
            self.close()
            if isinstance(reason, OSError):
                raise OutputError(f"cannot write to {path}: {reason.strerror}.") from reason
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, *records: Record, lasting: bool = False) -> None:
        """Add whole records. They outlive this process from here on and, if `lasting`, a power cut.

        Raises `OutputError`; what is half written then is dropped later.
        """
        try:
            self._write(b"".join(map(line_of, records)), lasting=lasting)
        except OSError as reason:
            raise OutputError(
                f"cannot write to {self.path}: {reason.strerror}. What was finished before is "
                "kept in it: run the same call again to resume."
            ) from reason
        self.records += records

    def close(self) -> None:
        """Give the file back."""
        with suppress(OSError):  # what could not be written, `add` has told
            self._file.close()

    def _write(self, lines: bytes, *, lasting: bool) -> None:
        self._file.write(lines)
        self._file.flush()
        if lasting:
            os.fsync(self._file.fileno())

    def _check_work(self, content: JournalContent, work: Identity | None) -> None:
        """Raise `OutputError` if there is other work."""
        if work is None or content.header is None or not (content.records or self._is_begun):
            return
        differs = difference(content.header.get("work"), work)
        if differs:
            raise OutputError(
                f"{self.path} holds {self._kind.holds} of other work: {differs}. "
                "Ask for the same again, choose another place, or remove it."
            )

    def _take_over_version_1(self) -> None:
        """Write a journal of version 1 as one of today. Raises `OutputError`, `OSError`."""
        content = _content(self.path, self._kind)
        if content.header is None or content.header["version"] == VERSION:
            return
        lines = [{**content.header, "version": VERSION}, *content.records]
        write_bytes(b"".join(map(line_of, lines)), self.path)
        for name in self._kind.version_1 or ():
            if name != self.path.name:
                self.path.with_name(name).unlink(missing_ok=True)

    def _repair(self, content: JournalContent, work: Identity | None) -> None:
        """Leave a header of this work, and whole lines. Raises `OSError`, `OutputError`."""
        n_kept = len(content.records)
        if content.changed:
            write_bytes(self.path.read_bytes(), self.path.with_name(f"{self.path.name}.damaged"))
            n_kept = content.changed[0] - 2  # the header is line 1
        if content.records:
            self._file.truncate(content.n_intact)
            self._write(b"".join(map(line_of, content.records[n_kept:])), lasting=True)
        else:
            header = {"format": self._kind.name, "version": VERSION}
            self._file.truncate(0)
            self._write(line_of(header if work is None else {**header, "work": work}), lasting=True)

    def _lock(self) -> None:
        try:
            import fcntl  # not on Windows, which has no such locks
        except ImportError:
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"{self.path} is in use: another process is at work on it."
                    ) from None
                time.sleep(0.02)
            except OSError:
                return  # a file system without locks
