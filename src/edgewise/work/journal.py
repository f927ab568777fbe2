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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewise.documents import (
    imported,
    output_target,
    parsed,
    read_json,
    renamed,
    write_bytes,
    writing,
)
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


@dataclass
class JournalContent:
    """What a journal holds: its header (None: nothing yet), and the records that are whole.

    `changed` are the numbers of lines that are not as they were written; `n_intact` bytes come
    before the first of them and before what is half written.
    """

    header: Record | None = None
    records: list[Record] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    n_intact: int = 0
    is_half: bool = False


# --- lines


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


def _line_of_version_1(line: bytes) -> bytes:
    """A line of version 1, in which checksums could be missing, as today's; broken as it is."""
    with suppress(FormatError):
        record = _record_of(line) or parsed(line, "")
        if isinstance(record, dict) and "crc32" not in record:
            return line_of(renamed(record))[:-1]
    return line


def _text(path: Path, kind: JournalFormat) -> bytes:
    """The bytes of a journal; of one of version 1 those that today's would have."""
    try:
        text = path.read_bytes() if path.exists() else b""
        if kind.version_1 and not text.startswith(b'{"format"'):
            about, records = (path.with_name(name) for name in kind.version_1)
            if about.exists():
                head = json.dumps(read_json(about, "journal")).encode()
                text = head + b"\n" + (records.read_bytes() if records.exists() else b"")
    except OSError as reason:
        raise FormatError(f"cannot read {path}: {reason.strerror}.") from reason
    first, *lines = text.split(b"\n")
    if not lines:
        return text
    header = parsed(first, f"{path}: its first line is broken")
    document = imported(header, str(path), kind=kind.name, version=VERSION)
    if header["version"] == VERSION:
        return text
    document = {**document, "version": VERSION}
    document.pop("crc32", None)
    return line_of(document) + b"\n".join(map(_line_of_version_1, lines))


def read_journal(path: Path, kind: JournalFormat) -> JournalContent:
    """Read a journal, also while it is written, with a warning for changed lines.

    Raises `FormatError` if it is of another format, or its header is broken.
    """
    first, *lines = _text(path, kind).split(b"\n")
    if not lines:
        return JournalContent(is_half=bool(first))
    half = lines.pop()
    content = JournalContent(_record_of(first), n_intact=len(first) + 1, is_half=bool(half))
    if content.header is None:
        raise FormatError(
            f"{path}: its first line was changed after it was written, so that nobody knows what "
            "it is of. Remove it to start anew."
        )
    for number, line in enumerate(lines, start=2):
        record = _record_of(line)
        if record is None:
            content.changed.append(number)
        elif not (content.changed and kind.ordered):
            content.records.append(record)
        content.n_intact += 0 if content.changed else len(line) + 1
    if content.changed:
        numbers = [*map(str, content.changed[:3]), *(["…"] if content.changed[3:] else [])]
        more = " and what follows" if kind.ordered else ""
        warnings.warn(
            f"{path}: changed after it was written: line {', '.join(numbers)}. It is left out"
            f"{more}, and its work done again.",
            stacklevel=3,
        )
    return content


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
        self.path = path
        if work is not None:
            warn_if_untold(work)
        target = output_target(path)
        with writing(path):
            _take_over_version_1(path, kind)
            self._file = target.open("a+b")
        try:
            with writing(path):
                self._lock()
                content = read_journal(path, kind)
                if work is not None and content.header and (content.records or is_begun):
                    _check_work(path, kind, content.header.get("work"), work)
                if content.is_half:
                    warnings.warn(
                        f"{path} ends in half a line, as after a crash: it is dropped, and its "
                        "work done again.",
                        stacklevel=2,
                    )
                about = {} if work is None else {"work": work}
                self._repair(content, {"format": kind.name, "version": VERSION, **about})
                self.records = content.records
        except BaseException:
            self.close()
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
            self._write(*records, lasting=lasting)
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

    def _write(self, *records: Record, lasting: bool) -> None:
        self._file.write(b"".join(map(line_of, records)))
        self._file.flush()
        if lasting:
            os.fsync(self._file.fileno())

    def _repair(self, content: JournalContent, header: Record) -> None:
        """Leave a header of this work, and whole lines. Raises `OSError`, `OutputError`."""
        if content.changed:
            write_bytes(self.path.read_bytes(), self.path.with_name(f"{self.path.name}.damaged"))
        n_before = content.changed[0] - 2 if content.changed else len(content.records)
        self._file.truncate(content.n_intact if content.records else 0)
        self._write(*(content.records[n_before:] if content.records else [header]), lasting=True)

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


def _check_work(path: Path, kind: JournalFormat, kept: Any, work: Identity) -> None:
    """Raise `OutputError` if other work was kept."""
    differs = difference(kept, work)
    if differs:
        raise OutputError(
            f"{path} holds {kind.holds} of other work: {differs}. "
            "Ask for the same again, choose another place, or remove it."
        )


def _take_over_version_1(path: Path, kind: JournalFormat) -> None:
    """Write a journal of version 1 as one of today. Raises `OutputError`, `OSError`."""
    text = _text(path, kind)
    if text and not (path.exists() and path.read_bytes() == text):
        write_bytes(text, path)
        for name in kind.version_1 or ():
            if name != path.name:
                path.with_name(name).unlink(missing_ok=True)
