"""One experiment: circuits, how they agree with what is known, how they do on new prompts.

Circuits are found on the task's prompts for discovery and measured on its held-out ones, by the
comparison with the full model and by the task's own loss, whichever of them was minimised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from time import monotonic, process_time
from typing import Any

from edgewise.circuit import Circuit
from edgewise.evaluation import pessimistic_auc, random_circuits, recovery
from edgewise.evaluation.records import Record
from edgewise.evaluation.recovery import Confusion
from edgewise.graph import Graph
from edgewise.methods import METHODS, OnProgress, Progress, ignore_progress
from edgewise.methods.node_masks import masked_activations
from edgewise.model import Model, load_model, reset_network
from edgewise.points import content_of
from edgewise.problem import Problem
from edgewise.recipes.paper import Experiment, Subject, thinned
from edgewise.sweeps import sweep
from edgewise.tasks import PUBLISHED, Task, load_task, published_groups
from edgewise.work.identity import Identity

_VARIED = {"acdc": "threshold", "hisp": "activations", "sp": "regularisation"}
_RANDOM_SEED = 0
ENOUGH = 0.9  # of the effect
_LISTED = 50  # edges that a page can list


@dataclass(frozen=True)
class KnownCircuit:
    """How many edges a known circuit has, and which, if they are few."""

    n_edges: int
    edges: tuple[str, ...] | None


@dataclass(frozen=True)
class About:
    """What the circuits of an experiment share: prompts, size of the graph, known circuits.

    `baselines` are of the full model and the empty circuit, by metric, on held-out prompts.
    """

    model: str
    n: int
    n_test: int
    held_out: bool
    pairs_sha256: str
    test_sha256: str
    n_edges: int
    baselines: dict[str, tuple[float, float]]
    published: KnownCircuit | None = None
    truth: KnownCircuit | None = None


@dataclass(frozen=True)
class Measured:
    """One circuit: the value it was found with, its size, its measures on held-out prompts.

    `edges` and `nodes` are against the paper's circuit (nodes as its code counts them), `truth`
    against what the weights can use.
    """

    value: float
    n_edges: int
    test: dict[str, float]
    edges: Confusion | None = None
    nodes: Confusion | None = None
    truth: Confusion | None = None
    kept: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


def area_under(points: Sequence[Measured], against: str) -> float:
    """The paper's pessimistic area under circuits, against "edges", "nodes" or "truth"."""
    return pessimistic_auc([(getattr(p, against).fpr, getattr(p, against).tpr) for p in points])


@dataclass(frozen=True)
class ExperimentRecord(Record):
    """An experiment that is done; `cell` is what it was."""

    cell: Experiment
    about: About
    points: tuple[Measured, ...]
    seconds: float
    cpu_seconds: float


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
    method = METHODS.get(experiment.method)
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
