"""The folder of a run that has not finished: what was asked, and the decisions so far."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewise.discovery import FileJournal
from edgewise.errors import OutputError
from edgewise.problem import Problem
from edgewise.record.run import ProblemSummary
from edgewise.storage import check_format, read_json, write_json

FORMAT = "edgewise-unfinished"
VERSION = 1


@contextmanager
def unfinished(
    folder: str | Path, problem: Problem, method: str, settings: Mapping[str, Any]
) -> Iterator[FileJournal]:
    """A journal in a folder, made or gone on with. It stays until `remove_unfinished`.

    Raises `OutputError` if the folder holds other work, `FormatError` if it cannot be read.
    """
    folder = Path(folder)
    asked = {
        "method": method,
        "settings": dict(settings),
        "problem": asdict(ProblemSummary.of(problem)),
        "graph": problem.graph.describe(),
    }
    asked = json.loads(json.dumps(asked))  # as it will be read
    _open(folder, asked)
    try:
        journal = FileJournal(folder / "trace.jsonl")
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    try:
        yield journal
    finally:
        journal.close()


def remove_unfinished(folder: str | Path) -> None:
    """Remove such a folder, once the run it became is safe."""
    shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder, or check that it is about the same work."""
    header = folder / "run.json"
    if header.exists():
        found = read_json(header, "unfinished run")
        check_format(found, str(header), FORMAT, VERSION)
        for key, value in asked.items():
            if found.get(key) != value:
                raise OutputError(
                    f"{folder} holds an unfinished run with another {key} "
                    f"({_first_difference(found.get(key), value)}). "
                    "Choose another folder, or remove it."
                )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not an unfinished run. Choose another folder.")
    document = {"format": FORMAT, "version": VERSION, **asked}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    write_json(document, header)


def _first_difference(found: Any, asked: Any) -> str:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in asked:
            if found.get(key) != asked[key]:
                return f"{key} was {found.get(key)!r}, is {asked[key]!r}"
    return f"was {found!r}, is {asked!r}"
