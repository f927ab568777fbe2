"""Decisions kept on disk as they are taken, so that a run that was stopped can go on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgewise.errors import FormatError, OutputError, UnknownName, shortened
from edgewise.graph import Graph
from edgewise.methods.method_result import Decision
from edgewise.storage import LineFile, line_of, record_of

STATE_FILE = "state.safetensors"
STATE_SECONDS = 5.0  # how long a state stands before the next takes its place

# What a method that trains needs to go on: tensors and whole numbers, by name.
State = tuple[dict[str, Tensor], dict[str, int]]


@runtime_checkable
class Journal(Protocol):
    """Where a method keeps its decisions, or its state if it trains."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """Those taken before this run started."""
        ...

    def append(self, decision: Decision) -> None:
        """Keep one more."""
        ...

    def state(self) -> State | None:
        """The last state kept before this run started, on the CPU; None if there is none."""
        ...

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Keep this state in the place of the last; now and then is enough."""
        ...


class _NoJournal:
    """Keeps nothing."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        return ()

    def append(self, decision: Decision) -> None:
        pass

    def state(self) -> State | None:
        return None

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        pass


NO_JOURNAL = _NoJournal()


class FileJournal:
    """A JSON line per decision, in a file that one process at a time may use.

    Beside it `STATE_FILE`, the state of a method that trains, replaced at most every
    `state_seconds` (default `STATE_SECONDS`): safetensors, with whole numbers as JSON in its
    header. What a killed process left half-written is dropped. Raises `OSError` if the file cannot
    be read and written, `OutputError` if another process uses it.
    """

    def __init__(self, path: Path, state_seconds: float | None = None) -> None:
        self._path, self._appended = path, 0
        self._state_path = path.with_name(STATE_FILE)
        self._state_seconds = STATE_SECONDS if state_seconds is None else state_seconds
        self._state_saved = time.monotonic()
        self._file = LineFile(path, work="run")

    @property
    def n_decisions(self) -> int:
        """How many decisions it holds."""
        return len(self._file.lines) + self._appended

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither decisions nor a state."""
        return not self.n_decisions and not self._state_path.exists()

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """The decisions that were in the file. Raises `FormatError`."""
        return read_trace(self._file.lines, self._path.name, graph)

    def append(self, decision: Decision) -> None:
        """Write one more; it outlives this process from here on. Raises `OutputError`."""
        line = line_of(decision.to_json()).encode()
        try:
            self._file.add(line)
        except OSError as reason:
            raise OutputError(
                f"cannot write {self._path}: {reason.strerror}. The decisions before are in it: "
                "a run of the same work goes on from there."
            ) from reason
        self._appended += 1

    def state(self) -> State | None:
        """The state in the folder. Raises `FormatError`."""
        if not self._state_path.exists():
            return None
        try:
            with safe_open(self._state_path, framework="pt") as file:
                numbers = dict(json.loads(file.metadata()["numbers"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, {name: int(number) for name, number in numbers.items()}
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as reason:
            why = shortened(str(reason), 240)
            raise FormatError(f"{STATE_FILE} is not a state: {why}") from reason

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Replace the state, unless that was done a moment ago. Raises `OutputError`."""
        now = time.monotonic()
        if now - self._state_saved < self._state_seconds:
            return
        self._state_saved = now
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        temporary = self._state_path.with_name(f".{STATE_FILE}")
        try:
            temporary.write_bytes(save(plain, metadata={"numbers": json.dumps(dict(numbers))}))
            os.replace(temporary, self._state_path)
        except OSError as reason:
            raise OutputError(
                f"cannot write {self._state_path}: {reason.strerror}. The state before is in it: "
                "a run of the same work goes on from there."
            ) from reason

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def read_trace(
    lines: Iterable[str | bytes], source: str, graph: Graph | None = None
) -> tuple[Decision, ...]:
    """The decisions of a trace's lines, all about edges of `graph` if one is given.

    Raises `FormatError`, naming `source` and the line.
    """
    result = []
    for number, line in enumerate(lines, start=1):
        complaint = f"{source}, line {number}: not a decision"
        result.append(Decision.from_json(record_of(line, complaint), complaint))
        if graph is not None:
            try:
                graph.index(result[-1].edge)
            except UnknownName as reason:
                raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
    return tuple(result)
