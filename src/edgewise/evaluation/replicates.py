"""What a method finds when prompts, the order of heads, its size or its seed are drawn anew.

Methods that give every edge a score that is a mean over prompts need one look at each prompt: the
scores of any resample are then means of known numbers, exactly (up to rounding). Others run anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
import torch

from edgewise.arguments import check_choice
from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Count, Finite, Plain, decoded
from edgewise.engine import ReceiverStep
from edgewise.errors import FormatError, SettingError
from edgewise.graph import Graph
from edgewise.methods import METHODS, AnyMethod, method_of
from edgewise.methods.execution import run_method
from edgewise.methods.steps import shuffled_steps
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, counted
from edgewise.tables import count
from edgewise.work.journal import Journal, JournalFormat

Over = Literal["prompts", "head-order", "threshold", "seed"]

# What decides the size of a circuit, for "threshold": the first that a method was given.
_WHOLE_SIZES = ("edges", "nodes", "activations")
_SHARES = ("share", "activation_share")
_SIZES = ("threshold", "regularisation", "above", *_WHOLE_SIZES, *_SHARES, "sparsity")
_REPLICATES = JournalFormat("edgewise-replicates", holds="replicates")


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
        pairs, metric, ablation = problem.pairs, problem.metric, problem.ablation.to_json()
        prompts = pairs.source, len(pairs), pairs.sha256
        return cls(problem.model.name, *prompts, metric.name, metric.unit, ablation)

    @property
    def in_words(self) -> str:
        """All of it but the hash, in a line."""
        prompts, kind = count(self.n_prompts, "prompt"), self.ablation.get("kind", "unknown")
        about = f"{self.source}, {prompts}, model {self.model}, metric {self.metric}"
        return f"{about}, {kind} ablation"


@dataclass(frozen=True)
class Replicate:
    """One circuit of a resample: what was drawn for it, what it keeps, and its loss.

    `edges` are positions among the graph's edges.
    """

    index: Count
    drawn: Mapping[str, Any]
    edges: tuple[Count, ...]
    loss: Finite | None = None

    @property
    def n_edges(self) -> int:
        return len(self.edges)

    @staticmethod
    def edges_of(circuit: Circuit) -> tuple[int, ...]:
        """The positions of a circuit's edges among the graph's."""
        kept = circuit.keep.T[circuit.graph.exists.T]
        return tuple(kept.nonzero().flatten().tolist())


def check_edges(replicates: Sequence[Replicate], graph: Graph, source: str) -> None:
    """Raise `FormatError` for an edge that the graph does not have."""
    last = max((max(r.edges, default=0) for r in replicates), default=0)
    if last >= graph.n_edges:
        raise FormatError(f"{source}: there is no edge {last} in a graph of {graph.n_edges:,}.")


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

    @property
    def about(self) -> dict[str, Any]:
        """The fields that results say of the problem and the method."""
        problem, settings = AboutProblem.of(self.problem), asdict(self.settings)
        return {"about": problem, "method": self.method.name, "settings": settings}

    def check_enough(self, what: str) -> None:
        """Raise `SettingError` for a single prompt, of which there is no other choice."""
        if len(self.problem.pairs) < 2:
            raise SettingError(
                f"{what} draws other prompts than the given, and there is only 1. Give more."
            )

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
            return self.method.load()(problem, settings, steps=steps).circuit
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
            complaint, records = f"{path}: not a replicate", opened.records if opened else []
            earlier = [decoded(Replicate, record, complaint) for record in records]
            check_edges(earlier, self.problem.graph, complaint)
            by_index = {replicate.index: replicate for replicate in earlier}
            for index in range(n):
                replicate = by_index.get(index) or make(index)
                if opened is not None and index not in by_index:
                    opened.add(asdict(replicate))
                result.append(replicate)
                self._on_progress(Progress(index + 1, n, f"{replicate.n_edges} edges"))
        return result

    def _resampled(self, settings: Any, rows: Sequence[int] | None) -> EdgeScores:
        shares = self.method.shares_work
        key = tuple(value for name, value in vars(settings).items() if not shares(name))
        if key not in self._scores:
            each = counted(range(len(self.problem.pairs)), self._on_progress, "scores of a prompt")
            self._scores[key] = torch.stack([self._scores_of(settings, row) for row in each])
        of_prompts = self._scores[key]
        values = (of_prompts if rows is None else of_prompts[list(rows)]).mean(dim=0)
        return EdgeScores(self.problem.graph, values, self.method.name, "mean over prompts")

    def _scores_of(self, settings: Any, row: int) -> torch.Tensor:
        """The scores of one prompt; 0 if it equals its corrupted prompt: no edge can matter."""
        problem = self.problem
        pairs, ablation = problem.pairs, problem.ablation
        if ablation.kind == "corrupted" and ablation.position_permutation is None:
            assert pairs.corrupted is not None  # or there would be no such problem
            real = pairs.real[row]
            if torch.equal(pairs.clean[row][real], pairs.corrupted[row][real]):
                return torch.zeros(problem.graph.exists.shape, dtype=torch.float64)
        alone = problem.with_(pairs=pairs.taken([row]))
        return run_method(self.method, alone, settings).scores.values


# --- what is varied


def checked_over(over: str | Sequence[str], finder: Finder) -> tuple[Over, ...]:
    """What to vary, in one order. Raises `UnknownName`, `SettingError` if the method has it not."""
    method, settings = finder.method, finder.settings
    chosen = (over,) if isinstance(over, str) else tuple(over)
    for name in chosen:
        check_choice("variation", name, get_args(Over))
    if not chosen:
        raise SettingError(f"nothing to vary; choose of {', '.join(get_args(Over))}.")
    if "head-order" in chosen and not method.takes_order:
        ordered = " and ".join(row.name for row in METHODS.values() if row.takes_order)
        raise SettingError(f"{method.name} has no order of heads to vary; {ordered} do.")
    if "prompts" in chosen:
        finder.check_enough("resampling prompts")
    if "seed" in chosen and "seed" not in {field.name for field in fields(settings)}:
        raise SettingError(f"{method.name} draws nothing, so it has no seed to vary.")
    if "threshold" in chosen and not getattr(settings, _size_setting(settings), None):
        raise SettingError(
            f"{method.name} has no threshold or size above 0 to vary around; give one."
        )
    return tuple(name for name in get_args(Over) if name in chosen)


def _size_setting(settings: Any) -> str:
    """The setting that says how large a circuit becomes; "" for methods without one."""
    return next((name for name in _SIZES if getattr(settings, name, None) is not None), "")


def varied(
    finder: Finder, over: Sequence[Over], *, spread: float, seed: int, index: int
) -> tuple[dict[str, Any], Circuit]:
    """What is drawn for replicate `index`, in words, and the circuit found with it.

    Each thing that is varied has random numbers of its own, so that varying another as well changes
    nothing about it; replicate 7 of 10 is replicate 7 of 100.
    """
    problem, settings, drawn = finder.problem, finder.settings, dict[str, Any]()
    rows, steps = None, None
    random = {
        name: np.random.default_rng([seed, index, i]) for i, name in enumerate(get_args(Over))
    }
    if "prompts" in over:
        n = len(problem.pairs)
        rows = random["prompts"].integers(n, size=n).tolist()
        drawn["distinct_prompts"] = len(set(rows))
    if "threshold" in over:
        name, factor = _size_setting(settings), spread ** random["threshold"].uniform(-1, 1)
        drawn[name] = _scaled(name, getattr(settings, name), factor, problem.graph)
        settings = replace(settings, **{name: drawn[name]})
    if "seed" in over:
        drawn["seed"] = int(random["seed"].integers(2**31))
        settings = replace(settings, seed=drawn["seed"])
    if "head-order" in over:
        drawn["head_order_seed"] = int(random["head-order"].integers(2**31))
        generator = torch.Generator().manual_seed(drawn["head_order_seed"])
        steps = shuffled_steps(problem.graph, generator)
    return drawn, finder.circuit(rows, settings=settings, steps=steps)


def _scaled(name: str, value: float, factor: float, graph: Graph) -> float:
    if name in _WHOLE_SIZES:
        most = {
            "edges": graph.n_edges,
            "nodes": sum(node.layer is not None for node in graph.nodes),
            "activations": sum(port.node.layer is not None for port in graph.receivers),
        }
        return min(most[name], max(1, round(value * factor)))
    if name == "sparsity":  # what is kept is scaled
        return max(0.0, 1 - (1 - value) * factor)
    return min(1.0, value * factor) if name in _SHARES else value * factor
