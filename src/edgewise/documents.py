"""Documents of JSON and the files they lie in: typed, versioned, written whole or not at all.

A text becomes plain data (`parsed`), plain data of any version of ours becomes that of today
(`imported`), and that becomes typed records (`decoded`). Files outlive a crash: a reader sees the
old one or the new one, never half.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from edgewise.errors import FormatError, OutputError, shortened

T = TypeVar("T")

_LARGEST = sys.float_info.max
Finite = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]  # neither NaN nor infinite
Chance = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Scalar = str | int | float | bool | None
Plain = Mapping[str, Scalar | list[Any]]  # settings, environments, requests: of any names

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in )?\$\.?(?P<where>.*)`)?", re.DOTALL)
_MANY_DIGITS = re.compile("[0-9]{19}")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_DEEPEST = 64


def parsed(text: str | bytes, complaint: str) -> Any:
    """The value of a JSON text, if it can be written again: nothing twice, too large or too deep.

    NaN and Infinity are read, as Python writes them; `Finite` fields refuse them. Raises
    `FormatError`, which begins with `complaint`.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        whole = _whole if _MANY_DIGITS.search(text) else None
        value = json.loads(text, object_pairs_hook=unique, parse_int=whole)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        _check_depth(value)
    except (ValueError, RecursionError) as reason:  # broken JSON or UTF-8, or absurd nesting
        raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
    return value


def decoded(
    kind: type[T], document: Any, source: str, *, hook: Callable[[Any, Any], Any] | None = None
) -> T:
    """A document of JSON as a dataclass, a TypedDict or what else msgspec converts to.

    Strict: text is no number, a fraction no whole number, 0 not false. Fields that the type does
    not have are left out. `hook` makes what msgspec does not know, of its type and its JSON. Raises
    `FormatError`, naming `source` and the field.
    """
    try:
        return msgspec.convert(document, kind, dec_hook=hook)
    except msgspec.ValidationError as reason:
        match = _WHERE.fullmatch(str(reason))
        assert match is not None  # every text matches
        what = match["what"].replace("`", "'")
        what = "expected a finite number" if "e+308" in what else what[:1].lower() + what[1:]
        where = ("a key of " if match["key"] else "") + (match["where"] or "")
        fault = shortened(f"{where}: {what}" if where else what, 240)
        raise FormatError(f"{source}: {fault}") from reason


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys may be lost to a second one of the same name."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shortened(ascii(twice), 80)} is there twice")
    return result


def _whole(digits: str) -> int:
    if len(digits) < 30 and -(2**63) <= int(digits) < 2**63:
        return int(digits)
    raise ValueError(f"{shortened(digits, 30)}, a number of {len(digits)} digits, is too large")


def _check_depth(document: Any) -> None:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(_DEEPEST):
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for part in inner for value in part if isinstance(value, dict | list)]
    if level:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")


# --- versions

# Keys of version 1 of our files that have another name since.
_RENAMED = {"reference": "ablation", "references": "ablations", "by_reference": "by_ablation"}


def imported(document: Any, source: str, *, kind: str, version: int) -> Any:
    """The document as the current `version` of its format has it, whatever version it was written
    in. Raises `FormatError` for a document of another kind or of a newer Edgewise.
    """
    name = document.get("format") if isinstance(document, dict) else None
    if name != kind:
        what = f"its format is {shortened(repr(name))}" if name else "it does not say its format"
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


# --- files


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What is written inside; an `OSError` becomes an `OutputError` that names the path."""
    try:
        yield
    except OSError as reason:
        where = shortened(str(path))
        raise OutputError(f"cannot write to {where}: {reason.strerror}.") from reason


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
    target = output_target(path)
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} exists. Choose another name, or add --force to replace it.")
    with writing(path):
        probe(target.parent)


def check_output_files(*paths: Path | None, overwrite: bool) -> None:
    """`check_output_file` for each, and no two of them the same. Raises `OutputError`."""
    for path in paths:
        check_output_file(path, overwrite=overwrite)
    targets = [os.path.realpath(path) for path in paths if path is not None]
    if len(set(targets)) < len(targets):
        raise OutputError(f"two outputs have the same name, {targets[0]}. Choose another for one.")


def check_output_place(folder: Path | None) -> None:
    """Raise `OutputError` unless the folder is one, or can be made, that takes files."""
    if folder is None:
        return
    target = Path(os.path.realpath(folder))
    with writing(folder):
        with suppress(FileNotFoundError):
            target.lstat()
        probe(next(there for there in (target, *target.parents) if os.path.lexists(there)))


def probe(folder: Path) -> None:
    """Raise `OSError` unless a file can be made, and a little written, in a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def output_target(path: Path) -> Path:
    """Where writing to a path ends, links followed.

    Raises `OutputError` for anything but a file that may be replaced or a name that is free.
    """
    target = Path(os.path.realpath(path))
    with writing(path), suppress(FileNotFoundError):
        mode = target.lstat().st_mode
        fault = "it is not a file (a device, a pipe or a loop)"
        if stat.S_ISDIR(mode):
            fault = "it is a folder"
        elif stat.S_ISREG(mode):
            fault = "" if os.access(target, os.W_OK) else "the file is read-only"
        if fault:
            raise OutputError(f"cannot write {path}: {fault}.")
    return target


def write_json(document: Any, path: Path) -> Path:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    return write_text(json.dumps(document, indent=1) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """Write a text file in one step. Raises `OutputError` and leaves an old file as it was."""
    return write_bytes(text.encode(errors="replace"), path)  # a path may hold half a character


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, under all the columns that they have together."""
    file = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write_bytes(data: bytes, path: Path) -> Path:
    """Write a file in one step. Raises `OutputError` and leaves an old file as it was.

    A new file has the mode that the umask gives, one that is replaced keeps its own; a link stays
    one, and what it names is written.
    """
    target = output_target(path)
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}")
    with writing(path):
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
    return path
