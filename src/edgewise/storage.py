"""Files that are whole or absent: JSON with a kind and a version, written in one step."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from edgewise.errors import FormatError, OutputError


def check_format(document: Any, source: str, kind: str, version: int) -> None:
    """Refuse a document of another kind, or from a newer Edgewise. Raises `FormatError`."""
    found = document.get("format") if isinstance(document, dict) else None
    if found != kind:
        what = f"its format is {found!r}" if found else "it does not say its format"
        raise FormatError(f"{source}: expected a {kind!r} file, but {what}.")
    if type(document.get("version")) is not int or document["version"] < 1:
        raise FormatError(f"{source}: the format version is {document.get('version')!r}.")
    if document["version"] > version:
        raise FormatError(
            f"{source}: written in version {document['version']} of {kind!r}; this Edgewise reads "
            f"up to version {version}. Upgrade Edgewise to read it."
        )


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. Raises `FormatError` when it is missing, unreadable or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise FormatError(f"cannot read the {what} file {path}: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:  # broken JSON or UTF-8, or absurd nesting
        raise FormatError(f"{path}: not a {what} file; it is broken JSON: {reason}") from reason


def check_writable(path: Path) -> None:
    """Raise `OutputError` unless a file could be written there. Call it before the work starts."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as reason:
        raise OutputError(f"cannot write {path}: {reason.strerror}.") from reason


def write_json(document: Any, path: Path) -> Path:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    return write_text(json.dumps(document, indent=1) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """Write a text file in one step. Raises `OutputError` and leaves an old file as it was."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)  # mkstemp makes private files
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as reason:
        raise OutputError(f"cannot write {path}: {reason.strerror}") from reason
    return path
