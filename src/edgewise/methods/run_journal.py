"""Decisions kept on disk as they are taken, so that a run that was stopped can go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from edgewise.documents import parsed
from edgewise.errors import FormatError, UnknownName, shortened
from edgewise.graph import Graph
from edgewise.methods.method_result import Decision
from edgewise.work.store import Checkpoint, State


@runtime_checkable
class RunJournal(Protocol):
    """Where a method keeps its decisions, or its state if it trains."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """The decisions taken before this run started."""
        ...

    def append(self, decision: Decision) -> None:
        """Record one more decision."""
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


class FileJournal(Checkpoint):
    """Decisions in the folder of an unfinished run (`--out`.unfinished); see `Checkpoint`."""

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """The decisions that were kept. Raises `FormatError`."""
        about = "journal.jsonl, decision"
        return tuple(
            _decision(record, f"{about} {number}", graph)
            for number, record in enumerate(self.records, start=1)
        )

    def append(self, decision: Decision) -> None:
        """Record one more decision. Raises `OutputError`."""
        self.add(decision.to_json())


def read_trace(
    lines: Iterable[str | bytes], source: str, graph: Graph | None = None
) -> tuple[Decision, ...]:
    """The decisions of a trace's lines, all about edges of `graph` if one is given.

    Raises `FormatError`, naming `source` and the line.
    """
    result = []
    for number, line in enumerate(lines, start=1):
        complaint = f"{source}, line {number}"
        result.append(_decision(parsed(line, f"{complaint}: not a decision"), complaint, graph))
    return tuple(result)


def _decision(record: Any, source: str, graph: Graph | None) -> Decision:
    complaint = f"{source}: not a decision"
    decision = Decision.from_json(record, complaint)
    if graph is not None:
        try:
            graph.index(decision.edge)
        except UnknownName as reason:
            raise FormatError(f"{complaint}: {shortened(str(reason), 240)}") from reason
    return decision
