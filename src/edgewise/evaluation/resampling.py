"""What a method finds on other prompts, again and again, and the replicates kept on disk.

Methods that give every edge a score that is a mean over prompts need one look at each prompt: the
scores of any resample are then means of known numbers, exactly (up to rounding). Others run anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Count, Finite, Plain, decoded
from edgewise.engine import ReceiverStep
from edgewise.errors import FormatError, SettingError
from edgewise.graph import Graph
from edgewise.methods import AnyMethod, OnProgress, Progress, method_of
from edgewise.methods.execution import run_method
from edgewise.problem import Problem
from edgewise.tables import count
from edgewise.work.journal import Journal, JournalFormat


@dataclass(frozen=True)
class AboutProblem:
    """What results about resampled prompts say of the problem, for readers."""

    model: str
    source: str
    n_prompts: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    pairs_sha256: str
    metric: str
    unit: str
    ablation: Plain

    @classmethod
    def of(cls, problem: Problem) -> AboutProblem:
        """The summary of a problem."""
        return cls(
            model=problem.model.name,
            source=problem.pairs.source,
            n_prompts=len(problem.pairs),
            pairs_sha256=problem.pairs.sha256,
            metric=problem.metric.name,
            unit=problem.metric.unit,
            ablation=problem.ablation.to_json(),
        )

    @property
    def in_words(self) -> str:
        """All of it but the hash, in a line."""
        prompts, kind = count(self.n_prompts, "prompt"), self.ablation.get("kind", "unknown")
        about = f"{self.source}, {prompts}, model {self.model}, metric {self.metric}"
        return f"{about}, {kind} ablation"


class Finder:
    """A method with its settings on one problem: its circuits on other choices of the prompts."""

    def __init__(
        self,
        problem: Problem,
        method: AnyMethod,
        settings: Mapping[str, Any],
        on_progress: OnProgress,
    ) -> None:
        self.method = method_of(method)
        own_names = {name.removeprefix("method_"): value for name, value in settings.items()}
        self.settings = self.method.resolve(own_names)
        self.problem, self._on_progress = problem, on_progress
        self._scores: dict[Any, torch.Tensor] = {}  # settings that scores depend on -> per prompt
        own_means = problem.ablation.kind.startswith("mean") and problem.ablation.prompts is None
        self._additive = self.method.additive and not own_means

    def circuit(
        self,
        rows: Sequence[int] | None = None,
        *,
        settings: Any = None,
        steps: Sequence[ReceiverStep] | None = None,
    ) -> Circuit:
        """What the method finds on these rows of the prompts (default: all, as they are).

        `settings` are others than the method's; `steps` is another order of receivers and edges,
        for the methods that take one.
        """
        settings = self.settings if settings is None else settings
        if self._additive:
            return settings.circuit(self._resampled(settings, rows))
        problem = self.problem
        if rows is not None:
            problem = problem.with_(pairs=problem.pairs.taken(rows))
        if steps is not None:
            in_steps = self.method.load(f"{self.method.home}_in_steps")
            return in_steps(problem, settings, steps).circuit
        return run_method(self.method, problem, settings).circuit

    def replicates(
        self,
        n: int,
        make: Callable[[int], Replicate],
        *,
        drawn: Mapping[str, Any],
        journal: str | Path | None,
    ) -> list[Replicate]:
        """`n` replicates by `make`; those that a journal of the same work holds are taken from it.

        `drawn` says how they are drawn. Each is in the journal when it is made, so that a stopped
        call resumes. Raises `OutputError`, `FormatError`.
        """
        work = {**self.method.identity(self.problem, self.settings), **drawn}
        path, result = None if journal is None else Path(journal), list[Replicate]()
        with nullcontext() if path is None else Journal(path, _REPLICATES, work) as opened:
            kept = {} if opened is None else _kept(opened, self.problem.graph)
            for index in range(n):
                replicate = kept.get(index) or make(index)
                if opened is not None and index not in kept:
                    opened.add(asdict(replicate))
                result.append(replicate)
                self._on_progress(Progress(index + 1, n, f"{replicate.n_edges} edges"))
        return result

    def _resampled(self, settings: Any, rows: Sequence[int] | None) -> EdgeScores:
        shares = self.method.shares_work
        key = tuple(value for name, value in vars(settings).items() if not shares(name))
        if key not in self._scores:
            self._scores[key] = self._of_each_prompt(settings)
        of_prompts = self._scores[key]
        values = (of_prompts if rows is None else of_prompts[list(rows)]).mean(dim=0)
        return EdgeScores(self.problem.graph, values, self.method.name, "mean over prompts")

    def _of_each_prompt(self, settings: Any) -> torch.Tensor:
        problem, n = self.problem, len(self.problem.pairs)
        scores = []
        for row in range(n):
            pairs = problem.pairs.taken([row])
            if _says_nothing(problem, row):
                scores.append(torch.zeros(problem.graph.exists.shape, dtype=torch.float64))
            else:
                alone = problem.with_(pairs=pairs)
                scores.append(run_method(self.method, alone, settings).scores.values)
            self._on_progress(Progress(row + 1, n, "scores of each prompt"))
        return torch.stack(scores)


def _says_nothing(problem: Problem, row: int) -> bool:
    """Whether a prompt equals its corrupted prompt, so that no edge can matter on it."""
    pairs, ablation = problem.pairs, problem.ablation
    if ablation.kind != "corrupted" or ablation.position_permutation is not None:
        return False
    assert pairs.corrupted is not None  # or there would be no such problem
    at = pairs.real[row]
    return torch.equal(pairs.clean[row][at], pairs.corrupted[row][at])


@dataclass(frozen=True)
class Replicate:
    """One circuit of a resample: what was drawn for it, what it keeps, and its loss.

    `edges` are places among the graph's edges.
    """

    index: Count
    drawn: Mapping[str, Any]
    edges: tuple[Count, ...]
    loss: Finite | None = None

    @property
    def n_edges(self) -> int:
        return len(self.edges)


def places_of(circuit: Circuit) -> tuple[int, ...]:
    """The places of a circuit's edges among the graph's."""
    kept = circuit.keep.T[circuit.graph.exists.T]
    return tuple(kept.nonzero().flatten().tolist())


def check_places(replicates: Sequence[Replicate], graph: Graph, source: str) -> None:
    """Raise `FormatError` for an edge that the graph does not have."""
    last = max((max(r.edges, default=0) for r in replicates), default=0)
    if last >= graph.n_edges:
        raise FormatError(f"{source}: there is no edge {last} in a graph of {graph.n_edges:,}.")


_REPLICATES = JournalFormat("edgewise-replicates", holds="replicates")


def _kept(journal: Journal, graph: Graph) -> dict[int, Replicate]:
    complaint = f"{journal.path}: not a replicate"
    replicates = [decoded(Replicate, record, complaint) for record in journal.records]
    check_places(replicates, graph, complaint)
    return {replicate.index: replicate for replicate in replicates}


def check_enough(problem: Problem, what: str) -> None:
    """Raise `SettingError` for a single prompt, of which there is no other choice."""
    if len(problem.pairs) < 2:
        raise SettingError(
            f"{what} draws other prompts than the given, and there is only 1. Give more prompts."
        )
