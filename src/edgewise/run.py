"""A finished run: what it is, how it is found, and its folder.

1. `discover` resolves the settings, runs the method, and measures the circuit it found.
2. `Run` describes that so completely that it can be evaluated and repeated.
3. A run's folder holds run.json, circuit.json, trace.jsonl and scores.safetensors.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Required, TypedDict

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from edgewise import display
from edgewise.circuit import Circuit, EdgeScores
from edgewise.documents import Count, Finite, Plain, decoded, imported, read_json, read_text
from edgewise.errors import FormatError, shortened
from edgewise.evaluation import Curve, Evaluation, Faithfulness, Recovery, faithfulness
from edgewise.evaluation.records import Record, read_tensor
from edgewise.graph import Graph
from edgewise.methods import METHODS, AnyMethod, Method, OnProgress, ignore_progress, method_of
from edgewise.methods.execution import run_method, run_together
from edgewise.methods.method_result import Decision, MethodResult, read_trace
from edgewise.methods.trace import threshold_interval
from edgewise.problem import Problem, check_is_problem
from edgewise.work import store
from edgewise.work.identity import of_problem
from edgewise.work.store import Checkpoint, environment, peak_memory_bytes, write_folder

FORMAT = "edgewise-run"
VERSION = 2
_FILES = ("run.json", "circuit.json", "trace.jsonl", "scores.safetensors")


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
    """One finished run: problem, method and settings; circuit and decisions; its cost, and where.

    `settings_given` are the keywords as passed, `settings` all of them as used. `measurements`
    holds results by name (`faithfulness`; `accuracy`, `recovery`, `groups`, … where there are any).
    `request` says how the problem was made, so that the command line can make it again.
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
    work: Mapping[str, Any] = field(default_factory=dict)  # see work/identity.py; empty of old runs

    @property
    def rungs(self) -> dict[str, int]:
        """How many decisions each rung of the ladder of precision took (see edgewise.engine)."""
        return dict(sorted(Counter(decision.rung for decision in self.trace).items()))

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
        measured = {**self.measurements, **(measurements or {})}
        return replace(self, measurements=measured, request={**self.request, **(request or {})})

    def show(self) -> None:
        """Print what was found, at what cost and how surely, with the kept edges."""
        display.show(self)

    def report(self, path: str | Path) -> Path:
        """Write the run's page; `edgewise.report` writes one of several runs."""
        return display.report(self, path)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the run into a new or empty folder, all of it or nothing. Raises `OutputError`.

        With `overwrite` it may replace another run, which is removed once this one is written.
        """
        check_output_folder(Path(folder), overwrite=overwrite)
        return write_folder(Path(folder), partial(_write, self))

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run from its folder. Raises `FormatError`, naming the file and the field."""
        return _read(Path(folder))


# --- finding a run


def discover(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    journal: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Find the circuit of a problem with any method; the method's settings are keywords.

    A method is one of `edgewise methods` by its name, or your own: a function (problem) -> scores
    or circuit, or "module:function" (see `edgewise.methods.method_of`).

    `journal` is a folder that keeps the decisions so far: if the run is stopped, the same call
    resumes and makes the same decisions. Remove it when the run is saved.

    The run's `measurements["faithfulness"]` is on the problem's own prompts: evaluate it on
    held-out ones with `edgewise.faithfulness`. Raises `UnknownName`, `SettingError`, `MetricError`;
    for a journal that cannot be written or is about other work `OutputError`, for a broken one
    `FormatError`.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> discover(problem, method="acdc", threshold=0.01).circuit.n_edges
    15
    >>> discover(problem, lambda problem: ew.exact(problem).scores, edges=15).circuit.n_edges
    15
    """
    check_is_problem(problem, "discover")
    chosen = method_of(method)
    together = partial(discover_together, given=list(settings), on_progress=on_progress)
    return together(problem, chosen, [chosen.resolve(settings)], journal=journal)[0]


def discover_together(
    problem: Problem,
    method: Method,
    choices: Sequence[Any],
    *,
    given: Sequence[str],
    on_progress: OnProgress = ignore_progress,
    journal: str | Path | None = None,
) -> list[Run]:
    """A run for each choice of a method's settings; the work that several share is done once.

    Several differ only in what `Method.shares_work` names; the cost in each run is that of all.
    `given` names the settings that were given. Only a choice alone has a `journal`. Raises as
    `discover` does, and `ModelChanged` if the model changed meanwhile.
    """
    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    before, n_kept = problem.passes(), 0
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    about = of_problem(problem)
    works = [{**about, **method.with_settings(settings)} for settings in choices]
    if len(choices) > 1:
        results = run_together(method, problem, choices, on_progress=on_progress)
    elif journal is None:
        results = [run_method(method, problem, choices[0], on_progress=on_progress)]
    else:
        kept = Checkpoint(journal, works[0])
        with kept:
            n_kept = len(kept.records)
            results = [
                run_method(method, problem, choices[0], on_progress=on_progress, journal=kept)
            ]
    forward, backward = (now - then for now, then in zip(problem.passes(), before, strict=True))
    cost = Cost(
        seconds=time.perf_counter() - start,
        forward_passes=forward,
        backward_passes=backward,
        edge_tests=0,
        edges_skipped=0,
        peak_memory_bytes=peak_memory_bytes(problem.model.device),
        taken_over=n_kept,
    )
    return [
        _run_of(
            problem,
            result,
            cost,
            method=method.name,
            settings_given={name: getattr(settings, name) for name in given},
            settings=asdict(settings),
            started=started,
            work=work,
        )
        for settings, work, result in zip(choices, works, results, strict=True)
    ]


def _run_of(problem: Problem, result: MethodResult, cost: Cost, **about: Any) -> Run:
    """The run of a result, with its circuit's faithfulness and what to know before trusting it."""
    measurements = {"faithfulness": faithfulness(problem, result.circuit).to_json()}
    notes = [*problem.pairs.notes, *result.notes]
    accuracy = problem.accuracy()
    if accuracy is not None:
        measurements["accuracy"] = accuracy.to_json()
        notes += [f"On these prompts {accuracy}"] if accuracy.low else []
    if result.scores.graph.n_edges and not result.scores.values.any():
        notes.append(
            f"No edge changed {problem.metric.name!r}: every score is exactly 0. The metric may be "
            "constant on these prompts, so this circuit says nothing about the model."
        )
    counts = {name: getattr(result, name) for name in ("edge_tests", "edges_skipped", "variants")}
    return Run(
        **about,
        problem=ProblemSummary.of(problem),
        circuit=result.circuit,
        scores=result.scores,
        trace=result.trace,
        cost=replace(cost, **counts),
        environment=environment(problem.model),
        margin=result.margin,
        measurements=measurements,
        request=request_of(problem),
        notes=tuple(notes),
    )


def request_of(problem: Problem) -> dict[str, Any]:
    """What the command line needs to make the problem again; empty if it cannot."""
    if not problem.origin or problem.ablation.prompts or problem.target:
        return {}
    graph = problem.graph
    shared = problem.model.config.group > 1
    return {
        **problem.origin,
        **({"ungroup_heads": graph.kv_heads is None} if shared else {}),
        "metric": problem.metric.name,
        "ablation": problem.ablation.kind,
        "split_qkv": graph.split_qkv,
        "split_heads": graph.split_heads,
        "split_embed": graph.split_embed,
        "switches": graph.switches,
        "spans": None if graph.spans is None else ",".join(graph.spans),
        "batch_size": problem.batch_size,
        "dtype": str(problem.model.dtype).removeprefix("torch."),
    }


# --- its folder


def check_output_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Raise `OutputError` unless a run could be written there. Call it before the work starts.

    With `overwrite` the folder may hold a run, and nothing else.
    """
    store.check_output_folder(folder, FORMAT, _FILES, overwrite=overwrite)


def _write(run: Run, folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps(_document(run), indent=1) + "\n", encoding="utf-8")
    run.circuit.save(folder / "circuit.json")
    values = save({"values": run.scores.values.contiguous()})
    (folder / "scores.safetensors").write_bytes(values)
    lines = "".join(json.dumps(decision.to_json()) + "\n" for decision in run.trace)
    (folder / "trace.jsonl").write_text(lines, encoding="utf-8")


class _Head(TypedDict, total=False):
    head: Required[str]
    attention: Finite | None
    effect: Finite | None


class _Groups(TypedDict, total=False):
    groups: Required[dict[str, list[str]]]
    source: str
    heads: list[_Head]


@dataclass(frozen=True, eq=False)
class _EvaluationWithCurve(Evaluation):
    curve: Curve | None = None


class _Measurements(TypedDict, total=False):
    """The measurements that have a meaning for pages; others may stand beside them."""

    faithfulness: Faithfulness
    recovery: Recovery
    recovery_of_truth: Recovery
    evaluation: _EvaluationWithCurve
    groups: _Groups


@dataclass(frozen=True)
class _Scores:
    method: str
    meaning: str


@dataclass(frozen=True)
class _Document:
    """What run.json holds."""

    method: str
    settings_given: Plain
    settings: Plain
    problem: ProblemSummary
    circuit_id: str
    scores: _Scores
    cost: Cost
    environment: Plain
    started: str
    measurements: _Measurements
    request: Plain
    margin: Finite | None = None
    notes: tuple[str, ...] = ()
    work: dict[str, Any] = field(default_factory=dict)


def _document(run: Run) -> dict[str, Any]:
    parts: dict[str, Any] = {part.name: getattr(run, part.name, None) for part in fields(_Document)}
    parts["circuit_id"] = run.circuit.id
    parts["scores"] = _Scores(run.scores.method, run.scores.meaning)
    head = {"format": FORMAT, "version": VERSION, "n_edges": run.circuit.n_edges}
    return head | asdict(_Document(**parts))


def _read(folder: Path) -> Run:
    source = folder / "run.json"
    document = read_json(source, "run")
    document = imported(document, str(source), kind=FORMAT, version=VERSION)
    read = decoded(_Document, document, f"{source}: not a complete run folder", hook=read_tensor)
    if read.method in METHODS:
        decoded(METHODS[read.method].settings, dict(read.settings), f"{source}: settings")
    circuit = Circuit.load(folder / "circuit.json")
    if circuit.id != read.circuit_id:
        raise FormatError(
            f"{folder}: circuit.json holds circuit {circuit.id}, but run.json is about "
            f"{shortened(read.circuit_id)}. One of them was changed."
        )
    trace = read_text(folder / "trace.jsonl", "trace").splitlines()
    # What follows from a measurement's fields is derived anew, and so never contradicts them.
    measured: Any = {k: v for k, v in read.measurements.items() if isinstance(v, Record)}
    derived = {name: record.to_json() for name, record in measured.items()}
    parts = {**vars(read), "measurements": {**document["measurements"], **derived}}
    del parts["circuit_id"]
    return Run(
        **parts | {"scores": _scores(folder / "scores.safetensors", circuit.graph, read.scores)},
        circuit=circuit,
        trace=read_trace(trace, str(folder / "trace.jsonl"), circuit.graph),
    )


def _scores(path: Path, graph: Graph, about: _Scores) -> EdgeScores:
    if not path.is_file():
        raise FormatError(f"cannot read the scores file {path}: there is no such file.")
    try:
        values = load_file(path)["values"]
        if not values.is_floating_point():
            raise FormatError(f"it holds {values.dtype}")
        return EdgeScores(graph, values, about.method, about.meaning)
    except (KeyError, ValueError, OSError, SafetensorError) as reason:
        raise FormatError(f"{path}: not a scores file: {shortened(str(reason), 240)}") from reason
