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
from edgewise.evaluation.faithfulness import normalized
from edgewise.evaluation.records import Record
from edgewise.evaluation.recovery import Confusion
from edgewise.graph import Graph
from edgewise.methods import METHODS, OnProgress, Progress, ignore_progress
from edgewise.methods.node_masks import masked_activations
from edgewise.model import Model, load_model, reset_network
from edgewise.problem import Problem
from edgewise.recipes.paper import Experiment, Subject, thinned
from edgewise.sweeps import content_of
from edgewise.sweeps.runs import sweep
from edgewise.tasks import Task, load_task, published_groups
from edgewise.tasks.published import PUBLISHED
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


def smallest(
    points: Sequence[Measured],
    metric: str,
    baselines: tuple[float, float],
    *,
    share: float = ENOUGH,
) -> int | None:
    """The fewest edges of a circuit that keeps this share of the effect; None if none does.

    The share is 1 as the full model, 0 as the empty circuit, whose values `baselines` are.
    """
    return min(
        (p.n_edges for p in points if (normalized(p.test[metric], *baselines) or 0.0) >= share),
        default=None,
    )


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
    tests = {name: _with_metric(task.test, name) for name in experiment.subject.metrics}

    @cache
    def measures(circuit: Circuit) -> dict[str, float]:
        return {name: problem.value(circuit) for name, problem in tests.items()}

    points = []
    for done, (value, circuit) in enumerate(circuits):
        on_progress(Progress(done, len(circuits), f"measuring {circuit.n_edges} edges"))
        points.append(_measured(experiment, task, value, circuit, measures(circuit)))
    return ExperimentRecord(
        experiment,
        _about(task, tests),
        tuple(points),
        monotonic() - start,
        process_time() - cpu_start,
    )


def work_of(experiment: Experiment) -> Identity:
    """What decides what an experiment finds, beside its settings. Raises what loading raises."""
    method = METHODS.get(experiment.method)
    return {
        "identity": 2,
        **content_of(load(experiment)),
        "revision": method.revision if method else 1,
    }


def load(experiment: Experiment) -> Task:
    """The task, on the paper's graph, and on the reset network if it is the control."""
    subject = experiment.subject
    task = _load(subject, experiment.metric, experiment.ablation)
    if not experiment.reset:
        return task
    assert subject.reset_seed is not None, "the grid asks for no other"
    trained = task.problem.model
    broken = reset_network(trained, subject.reset_seed)
    parts = [p.with_(model=broken, target=trained) for p in (task.problem, task.test)]
    return replace(task, problem=parts[0], test=parts[1])


@lru_cache(maxsize=4)
def _load(subject: Subject, metric: str, ablation: str) -> Task:
    model = _model(subject.model, subject.processing)
    task = load_task(
        subject.task,
        model,
        n=subject.n,
        seed=subject.seed,
        metric=metric,
        ablation=ablation,
        data=subject.data,
        template=subject.template,
    )
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
    values = experiment.values
    if experiment.method == "random":  # of whole paths: the harder chance to beat
        return [
            (share, circuit)
            for share in values
            for circuit in random_circuits(
                problem.graph,
                max(1, round(share * problem.graph.n_edges)),
                settings["draws"],
                kind="connected",
                seed=_RANDOM_SEED,
            )
        ]
    if experiment.method == "hisp":
        values = thinned(
            range(len(masked_activations(problem.graph)) + 1), settings.pop("circuits")
        )
    settings[_VARIED[experiment.method]] = list(values)
    runs = sweep(problem, experiment.method, on_progress=on_progress, **settings)
    return [(float(value), run.circuit) for value, run in zip(values, runs, strict=True)]


def _measured(
    experiment: Experiment, task: Task, value: float, circuit: Circuit, test: dict[str, float]
) -> Measured:
    """What one circuit is, beside what is known of its task."""
    subject, published, truth = experiment.subject, task.published, task.truth
    known = None if published is None else recovery(circuit, published, nodes="paper")
    names = tuple(edge.name for edge in circuit.edges)
    is_grouped = bool(experiment.highlight) and subject.task in PUBLISHED
    return Measured(
        value,
        circuit.n_edges,
        test,
        edges=None if known is None else known.edges,
        nodes=None if known is None else known.nodes,
        truth=None if truth is None else recovery(circuit, truth).edges,
        kept=names if experiment.highlight or subject.is_program else (),
        groups=_groups(circuit, subject.task) if is_grouped else {},
    )


def _groups(circuit: Circuit, task: str) -> dict[str, tuple[str, ...]]:
    """The nodes of each published group that the circuit's edges touch."""
    present = {node.name for node in circuit.nodes}
    return {
        name: tuple(node for node in nodes if node in present)
        for name, nodes in published_groups(task).items()
    }


def _about(task: Task, tests: dict[str, Problem]) -> About:
    pairs, held_out, graph = task.problem.pairs, task.test.pairs, task.problem.graph
    return About(
        model=task.problem.model.name,
        n=len(pairs),
        n_test=len(held_out),
        held_out=pairs.sha256 != held_out.sha256,
        pairs_sha256=pairs.sha256,
        test_sha256=held_out.sha256,
        n_edges=graph.n_edges,
        baselines={name: problem.baselines(graph) for name, problem in tests.items()},
        published=_known(task.published),
        truth=_known(task.truth),
    )


def _known(circuit: Circuit | None) -> KnownCircuit | None:
    if circuit is None:
        return None
    names = tuple(edge.name for edge in circuit.edges)
    return KnownCircuit(len(names), names if len(names) <= _LISTED else None)


def _with_metric(problem: Problem, metric: str) -> Problem:
    return problem if problem.metric.name == metric else problem.with_(metric=metric)
