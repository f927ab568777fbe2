"""Work through the paper's grid, keep each experiment in a folder, and write page and data.

Circuits are found on the task's prompts for discovery and measured on its held-out ones, by the
comparison with the full model and by the task's own loss, whichever of them was minimised.

journal.jsonl    a line for each experiment that is done, only ever added to: a stopped run goes on
reproduce.html   the page; reproduce.json all of it, points.csv a line for each circuit
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from time import monotonic, process_time
from typing import Any

from edgewise.arguments import check_choice
from edgewise.circuit import Circuit
from edgewise.documents import check_output_file
from edgewise.errors import EdgewiseError, FormatError, ModelError, OutputError, SettingError
from edgewise.evaluation import random_circuits, recovery
from edgewise.graph import Graph
from edgewise.methods import METHODS as CATALOGUE
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.methods.node_masks import masked_activations
from edgewise.model import Model, load_model, reset_network
from edgewise.points import content_of
from edgewise.problem import Problem
from edgewise.recipes.paper import (
    METHODS,
    Experiment,
    Subject,
    experiments,
    paper,
    subjects,
    thinned,
)
from edgewise.recipes.reproduced import (
    DATA,
    POINTS,
    About,
    ExperimentRecord,
    KnownCircuit,
    Measured,
    Reproduced,
)
from edgewise.reporting import report
from edgewise.sweeps import sweep
from edgewise.tasks import PUBLISHED, Task, load_task, published_groups
from edgewise.work.identity import Identity, difference
from edgewise.work.journal import Journal, JournalFormat

PAGE, JOURNAL = "reproduce.html", "journal.jsonl"
_EXPERIMENTS = JournalFormat("edgewise-reproduction", holds="a reproduction")
_VARIED = {"acdc": "threshold", "hisp": "activations", "sp": "regularisation"}
_RANDOM_SEED = 0
_LISTED = 50  # edges that a page can list
_Known = Mapping[Experiment, tuple[ExperimentRecord, Identity]]


def reproduce(
    folder: str | Path,
    *,
    offline: bool = False,
    only: Iterable[str] = (),
    methods: Iterable[str] = (),
    models: Mapping[str, str] | None = None,
    quick: bool = False,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Reproduced:
    """Compute what `folder` does not hold yet, then write its page, JSON and CSV.

    `offline` leaves out the paper's language models and takes fewer thresholds, prompts and
    training steps; `quick` still fewer, to see that all works. `only` names tasks, `methods` some
    of acdc, hisp and sp, `models` where the paper's model of a language task is, such as
    {"ioi": "folder/of/gpt2"}; it is taken offline too. After `minutes` no further experiment is
    begun, and the results say which are missing. A task whose model cannot be had is left out, with
    the reason.

    Raises `UnknownName`, `SettingError`, `OutputError` before anything runs, `FormatError` for a
    broken journal.
    """
    tasks = {subject.task: subject.is_program for subject in paper().subjects}
    language = [task for task, is_program in tasks.items() if not is_program]
    only, methods, models = list(only), list(methods), dict(models or {})
    for kind, names, known in (
        ("language task", models, language),
        ("method", methods, METHODS),
        ("task", only, tasks),
    ):
        for name in names:
            check_choice(f"{kind} of the paper", name, known)
    if minutes is not None and not minutes > 0:
        raise SettingError(f"minutes is {minutes}; it must be above 0.")
    scales = paper().scales
    small, large = scales["quick" if quick else "offline"], scales["quick" if quick else "paper"]
    # What is bundled, and the paper's own models, each with its own grid.
    studied = [(small, s) for s in subjects(small, hub=False)]
    studied += [
        (large, s) for s in subjects(large, hub=not offline, models=models) if not s.bundled
    ]
    grid = [
        experiment
        for scale, subject in studied
        if not only or subject.task in only
        for experiment in experiments(scale, subject)
        if not methods or experiment.method in (*methods, "random")
    ]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make {folder}: {reason.strerror}.") from reason
    for name in (PAGE, DATA, POINTS):
        check_output_file(Path(folder) / name)
    results = work_through(grid, Path(folder), minutes=minutes, on_progress=on_progress)
    results.write(folder)
    report(results, Path(folder) / PAGE)
    return results


def work_through(
    grid: Sequence[Experiment],
    folder: Path,
    *,
    minutes: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Reproduced:
    """Do the experiments that the folder lacks, and read the others. Raises as `reproduce` does."""
    start, done = monotonic(), 0
    records: list[ExperimentRecord] = []
    refused: dict[str, str] = {}
    left: list[str] = []
    with Journal(folder / JOURNAL, _EXPERIMENTS) as journal:
        kept = [ExperimentRecord.from_json(r, source=str(journal.path)) for r in journal.records]
        works = [record.get("work", {}) for record in journal.records]
        known = {r.cell: (r, work) for r, work in zip(kept, works, strict=True)}
        missing = {experiment for experiment in grid if experiment not in known}
        for number, experiment in enumerate(grid, start=1):
            if experiment.subject.name in refused:
                continue
            total = done + sum(e.effort for e in missing if e.subject.name not in refused)
            step = Progress(done, total, f"{number} of {len(grid)}: {experiment.title}")
            try:
                record = _same_work(experiment, known, folder)
                if record is None and minutes is not None and monotonic() - start > 60 * minutes:
                    left.append(experiment.title)
                    continue
                if record is None:
                    record = _performed(experiment, journal, step, on_progress)
                    done += experiment.effort
            except (FormatError, OutputError):
                raise
            except EdgewiseError as reason:
                if experiment.subject.bundled and not isinstance(reason, ModelError):
                    reason.add_note(f"This was {experiment.title}.")
                    raise
                # A model that cannot be had here, or that its task does not fit.
                refused[experiment.subject.name] = str(reason)
                continue
            records.append(record)
            missing.discard(experiment)
    on_progress(Progress(done, done, ""))
    return Reproduced(tuple(records), refused, tuple(left))


def _same_work(experiment: Experiment, known: _Known, folder: Path) -> ExperimentRecord | None:
    """The record of an experiment if there is one, and it is of this work.

    Raises `ModelError` where the model cannot be had that it would be of.
    """
    if experiment not in known:
        return None
    record, work = known[experiment]
    differs = difference(work, work_of(experiment))
    if not differs:
        return record
    words = f"{folder} has {experiment.title} of other work: {differs}. It is computed again."
    warnings.warn(words, stacklevel=4)
    return None


def _performed(
    experiment: Experiment, journal: Journal, outer: Progress, on_progress: OnProgress
) -> ExperimentRecord:
    """Do an experiment and keep it; its progress is a part of the whole."""

    def tell(step: Progress) -> None:
        share = min(1.0, step.done / step.total) if step.total else 0.0
        on_progress(replace(outer, done=outer.done + int(share * experiment.effort)))

    on_progress(outer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # masks left undecided, say: the results speak of them
        record = perform(experiment, tell)
        journal.add({**record.to_json(), "work": work_of(experiment)}, lasting=True)
    return record


# --- one experiment


def perform(experiment: Experiment, on_progress: OnProgress = ignore_progress) -> ExperimentRecord:
    """Find the circuits of an experiment and measure them. Raises what loading or methods raise."""
    start, cpu_start = monotonic(), process_time()
    task = load(experiment)
    circuits = _discovered(experiment, task.problem, on_progress)
    tests = {experiment.metric: task.test}
    tests |= {m: task.test.with_(metric=m) for m in experiment.subject.metrics if m not in tests}

    @cache
    def measures(circuit: Circuit) -> dict[str, float]:
        return {metric: problem.value(circuit) for metric, problem in tests.items()}

    points = []
    for done, (value, circuit) in enumerate(circuits):
        on_progress(Progress(done, len(circuits), f"measuring {circuit.n_edges} edges"))
        points.append(_measured(experiment, task, value, circuit, measures(circuit)))
    pairs, held_out, graph = task.problem.pairs, task.test.pairs, task.problem.graph
    about = About(
        model=task.problem.model.name,
        n=len(pairs),
        n_test=len(held_out),
        held_out=pairs.sha256 != held_out.sha256,
        pairs_sha256=pairs.sha256,
        test_sha256=held_out.sha256,
        n_edges=graph.n_edges,
        baselines={metric: problem.baselines(graph) for metric, problem in tests.items()},
        published=_known(task.published),
        truth=_known(task.truth),
    )
    seconds, cpu_seconds = monotonic() - start, process_time() - cpu_start
    return ExperimentRecord(experiment, about, tuple(points), seconds, cpu_seconds)


def work_of(experiment: Experiment) -> Identity:
    """What decides what an experiment finds, beside its settings. Raises what loading raises."""
    method = CATALOGUE.get(experiment.method)
    revision = method.revision if method else 1
    return {"identity": 2, **content_of(load(experiment)), "revision": revision}


def load(experiment: Experiment) -> Task:
    """The task, on the paper's graph, and on the reset network if it is the control."""
    subject = experiment.subject
    task = _load(subject, experiment.metric, experiment.ablation)
    if not experiment.reset:
        return task
    assert subject.reset_seed is not None, "the grid asks for no other"
    trained = task.problem.model
    broken = reset_network(trained, subject.reset_seed)
    problem, test = (p.with_(model=broken, target=trained) for p in (task.problem, task.test))
    return replace(task, problem=problem, test=test)


@lru_cache(maxsize=4)
def _load(subject: Subject, metric: str, ablation: str) -> Task:
    choices = {name: getattr(subject, name) for name in ("n", "seed", "data", "template")}
    model = _model(subject.model, subject.processing)
    task = load_task(subject.task, model, metric=metric, ablation=ablation, **choices)
    graph = Graph.of(model, split_embed=task.problem.graph.split_embed, switches=True)
    problem, test = (p.with_(graph=graph) for p in (task.problem, task.test))
    return replace(task, problem=problem, test=test)


@lru_cache(maxsize=2)
def _model(name: str, processing: str) -> Model:
    return load_model(name, processing="none" if processing == "none" else "transformer-lens")


def _discovered(
    experiment: Experiment, problem: Problem, on_progress: OnProgress
) -> list[tuple[float, Circuit]]:
    """Each value of the experiment, and the circuit found with it."""
    settings: dict[str, Any] = dict(experiment.settings)
    method, values, graph = experiment.method, experiment.values, problem.graph
    if method == "random":  # of whole paths: the harder chance to beat
        kind: Any = {"kind": "connected", "seed": _RANDOM_SEED}
        sizes = {share: max(1, round(share * graph.n_edges)) for share in values}
        drawn = {s: random_circuits(graph, n, settings["draws"], **kind) for s, n in sizes.items()}
        return [(share, circuit) for share in values for circuit in drawn[share]]
    if method == "hisp":
        values = thinned(range(len(masked_activations(graph)) + 1), settings.pop("circuits"))
    settings[_VARIED[method]] = list(values)
    runs = sweep(problem, method, on_progress=on_progress, **settings)
    return [(float(value), run.circuit) for value, run in zip(values, runs, strict=True)]


def _measured(
    experiment: Experiment, task: Task, value: float, circuit: Circuit, test: dict[str, float]
) -> Measured:
    """What one circuit is, beside what is known of its task."""
    subject, published, truth = experiment.subject, task.published, task.truth
    known = None if published is None else recovery(circuit, published, nodes="paper")
    is_listed, groups = bool(experiment.highlight) or subject.is_program, {}
    if experiment.highlight and subject.task in PUBLISHED:
        present = {node.name for node in circuit.nodes}
        for name, nodes in published_groups(subject.task).items():
            groups[name] = tuple(node for node in nodes if node in present)
    return Measured(
        value,
        circuit.n_edges,
        test,
        edges=None if known is None else known.edges,
        nodes=None if known is None else known.nodes,
        truth=None if truth is None else recovery(circuit, truth).edges,
        kept=tuple(edge.name for edge in circuit.edges) if is_listed else (),
        groups=groups,
    )


def _known(circuit: Circuit | None) -> KnownCircuit | None:
    if circuit is None:
        return None
    names = tuple(edge.name for edge in circuit.edges)
    return KnownCircuit(len(names), names if len(names) <= _LISTED else None)
