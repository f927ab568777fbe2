"""A finished piece of work, described so completely that it can be judged and repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgewise.circuit import Circuit, EdgeScores
from edgewise.codec import Count, Finite
from edgewise.methods.method_result import Decision
from edgewise.methods.search import threshold_interval
from edgewise.problem import Problem


@dataclass(frozen=True)
class Cost:
    """What a run cost. Peak memory is the process's (or, on a GPU, the device's), in bytes."""

    seconds: Finite
    forward_passes: Count
    backward_passes: Count
    edge_tests: Count
    edges_skipped: Count
    peak_memory_bytes: Count
    variants: Count = 0  # edge removals evaluated by the method, those in vain included
    taken_over: Count = 0  # tests a stopped run had done; time, passes, variants are since then


@dataclass(frozen=True)
class ProblemSummary:
    """A problem as a record keeps it: everything that names and identifies its parts."""

    model: str
    model_config: Mapping[str, Any]
    processing: str
    source: str  # of the prompt pairs
    n_prompts: Count
    pairs_sha256: str
    metric: str
    unit: str
    higher_is_better: bool
    ablation: Mapping[str, Any]
    batch_size: int | None
    target: str | None = None  # the model whose logits metrics compare with, if it is another one
    bos: bool | None = None  # whether texts were begun with BOS; None for token ids
    chat: bool = False  # whether they are the user's turn in the tokenizer's chat template
    left_out: list[str] = field(default_factory=list)  # rows of its file, and what is wrong

    @classmethod
    def of(cls, problem: Problem) -> ProblemSummary:
        metric = problem.metric
        return cls(
            model=problem.model.name,
            model_config=problem.model.config.to_json(),
            processing=problem.model.processing,
            source=problem.pairs.source,
            n_prompts=len(problem.pairs),
            pairs_sha256=problem.pairs.sha256,
            metric=metric.name,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            ablation=problem.ablation.to_json(),
            batch_size=problem.batch_size,
            target=None if problem.target is None else problem.target.name,
            bos=problem.pairs.bos,
            chat=problem.pairs.chat,
            left_out=[str(fault) for fault in problem.pairs.left_out],
        )


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run: what was asked, what was found, what it cost, and where it ran.

    `settings_given` are the keywords as passed, `settings` all of them as used. `measurements`
    holds results by name (`faithfulness`, and `recovery` where a published circuit exists).
    `request` says how the command line made the problem, so that it can be made again.
    """

    method: str
    settings_given: Mapping[str, Any]
    settings: Mapping[str, Any]
    problem: ProblemSummary
    circuit: Circuit
    scores: EdgeScores
    trace: tuple[Decision, ...]
    cost: Cost
    environment: Mapping[str, Any]
    started: str  # ISO 8601, UTC
    margin: float | None = None  # smallest distance of a decision to the threshold
    measurements: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what to know before trusting the result
    work: Mapping[str, Any] = field(
        default_factory=dict
    )  # see edgewise.identity; empty of old runs
    worst_error: float | None = None  # of estimates (precision "reduced"), as a part of its bound

    @property
    def threshold_interval(self) -> tuple[float, float] | None:
        """(low, high): every threshold above `low`, up to and including `high`, gives this circuit.

        `high` is infinite if nothing was kept. None for methods without decisions, and for
        decisions by tests, which do not follow from the deltas alone.
        """
        if any(decision.evidence is not None for decision in self.trace):
            return None
        return threshold_interval(self.trace, absolute=bool(self.settings.get("absolute")))

    @property
    def title(self) -> str:
        """One phrase for headings: the behaviour, the model, the method."""
        task = self.request.get("task") or self.problem.source
        model = "" if task == self.problem.model else f" on {self.problem.model}"
        return f"{task}{model}, {self.method}"

    def with_(
        self,
        *,
        measurements: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Run:
        """This run with more measurements, or with the request that led to it."""
        return replace(
            self,
            measurements={**self.measurements, **(measurements or {})},
            request={**self.request, **(request or {})},
        )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the run into a new or empty folder, all of it or nothing. Raises `OutputError`.

        With `overwrite` it may take the place of another run, which is gone once this is written.
        """
        from edgewise.record.folder import save_run  # folder.py builds Run objects

        return save_run(self, Path(folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run from its folder. Raises `FormatError`."""
        from edgewise.record.folder import load_run

        return load_run(Path(folder))
