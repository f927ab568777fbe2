"""What a method tells while it runs, and what it keeps so that a stopped run can resume."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edgewise.graph import Graph
from edgewise.methods.method_result import Decision
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.work.store import Checkpoint, State


class Session:
    """Where a running method tells its progress and keeps its decisions, or its training state.

    Without a `checkpoint` nothing is kept, and every run begins at the beginning.
    """

    def __init__(
        self, on_progress: OnProgress = ignore_progress, checkpoint: Checkpoint | None = None
    ) -> None:
        self.on_progress = on_progress
        self._checkpoint = checkpoint

    def tell(self, done: int, total: int, message: str) -> None:
        """Tell how far the method is."""
        self.on_progress(Progress(done, total, message))

    def part(self, number: int, n: int, label: str) -> Session:
        """A session that keeps nothing, whose progress is part `number` of `n` of this one's."""

        def on_progress(step: Progress) -> None:
            done = number * step.total + step.done
            message = f"{label}, {step.message}"
            self.tell(done, n * step.total, message)

        return Session(on_progress)

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """The decisions taken before this run started. Raises `FormatError`."""
        records = [] if self._checkpoint is None else self._checkpoint.records
        return tuple(
            Decision.from_json(record, f"journal.jsonl, decision {number}: not a decision", graph)
            for number, record in enumerate(records, start=1)
        )

    def keep(self, decision: Decision) -> None:
        """Record one more decision. Raises `OutputError`."""
        if self._checkpoint is not None:
            self._checkpoint.add(decision.to_json())

    def state(self) -> State | None:
        """The last state kept before this run started, on the CPU; None if there is none."""
        return None if self._checkpoint is None else self._checkpoint.state()

    def save_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, int]) -> None:
        """Keep this state in the place of the last; now and then is enough."""
        if self._checkpoint is not None:
            self._checkpoint.save_state(tensors, numbers)


QUIET = Session()
