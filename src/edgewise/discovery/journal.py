"""Decisions kept on disk as they are taken, so that a run that was stopped can go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgewise.discovery.finding import Decision
from edgewise.errors import FormatError
from edgewise.graph import Graph

_FLUSH_SECONDS = 1.0


@runtime_checkable
class Journal(Protocol):
    """Where a method keeps its decisions."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """Those taken before this run started."""
        ...

    def append(self, decision: Decision) -> None:
        """Keep one more."""
        ...


class _NoJournal:
    """Keeps nothing."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        return ()

    def append(self, decision: Decision) -> None:
        pass


NO_JOURNAL = _NoJournal()


class FileJournal:
    """A JSON line per decision. What a killed process left half-written is dropped."""

    def __init__(self, path: Path) -> None:
        self._path, self._flushed = path, time.monotonic()
        whole = b""
        if path.exists():
            found = path.read_bytes()
            whole = found[: found.rfind(b"\n") + 1]
            if len(whole) < len(found):
                path.write_bytes(whole)
        self._lines = whole.decode().splitlines()
        self._file = path.open("a", encoding="utf-8")

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """The decisions in the file. Raises `FormatError`."""
        result = []
        for number, line in enumerate(self._lines, start=1):
            try:
                result.append(Decision.from_json(json.loads(line)))
                graph.index(result[-1].edge)
            except (ValueError, KeyError, TypeError) as reason:
                raise FormatError(f"{self._path}, line {number}: not a decision.") from reason
        return tuple(result)

    def append(self, decision: Decision) -> None:
        """Write one more; at the latest a second later it is on disk."""
        self._file.write(json.dumps(decision.to_json()) + "\n")
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self._file.close()
