"""What a cell holds: circuits found, how they agree with what is known, how they do on new prompts.

Circuits are found on the task's prompts for discovery and measured on its held-out ones, by the
comparison with the full model and by the task's own loss, whichever of them was minimised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from time import monotonic, process_time
from typing import Any

from edgewise.circuit import Circuit
from edgewise.evaluation import random_circuits, recovery
from edgewise.graph import Graph
from edgewise.identity import Identity
from edgewise.methods import METHODS, OnProgress, Progress, ignore_progress
from edgewise.methods.units import units_of
from edgewise.model import Model, load_model, reset_network
from edgewise.problem import Problem
from edgewise.record import acdc_sweep, discover, sweep
from edgewise.reproduce.grid import Cell, Subject, thinned
from edgewise.sweeps.compute import content_of
from edgewise.tasks import Task, load_task, published_groups
from edgewise.tasks.published import PUBLISHED

FORMAT, FORMAT_VERSION = "edgewise-reproduced-cell", 2
_SEED = 0  # of random circuits


def compute(cell: Cell, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """A cell's document. Raises what loading the task or the method raises."""
    start, cpu_start = monotonic(), process_time()
    task = load(cell)
    found = _found(cell, task, on_progress)
    judge = _Judge(cell, task)
    points = []
    for done, (value, circuit) in enumerate(found):
        on_progress(Progress(done, len(found), f"measuring {circuit.n_edges} edges"))
        points.append({"value": value, **judge.point(circuit)})
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "key": cell.key,
        "cell": asdict(cell),
        "work": work_of(cell),
        "about": judge.about(),
        "points": points,
        "seconds": monotonic() - start,
        "cpu_seconds": process_time() - cpu_start,
    }


def work_of(cell: Cell) -> Identity:
    """What decides what the cell holds beside what was asked. Raises what loading raises."""
    revision = METHODS[cell.method].revision if cell.method in METHODS else 1
    return {"identity": FORMAT_VERSION, **content_of(load(cell)), "revision": revision}


def load(cell: Cell) -> Task:
    """The task of a cell, on the paper's graph, on the reset network if that is asked for."""
    task = _load(cell.subject, cell.metric, cell.ablation)
    if not cell.reset:
        return task
    assert cell.subject.reset_seed is not None, "the grid asks for no other"
    trained = task.problem.model
    broken = reset_network(trained, cell.subject.reset_seed)
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


def _found(cell: Cell, task: Task, on_progress: OnProgress) -> list[tuple[float, Circuit]]:
    """Each value of the cell, and the circuit found with it."""
    problem, settings = task.problem, dict(cell.settings)
    match cell.method:
        case "acdc":
            runs = acdc_sweep(problem, cell.values, on_progress=on_progress, **settings)
        case "hisp":
            n, most = len(units_of(problem.graph)), settings.pop("circuits")
            units = thinned(range(n + 1), most)
            runs = sweep(problem, "hisp", units=list(units), on_progress=on_progress, **settings)
            return [(float(k), run.circuit) for k, run in zip(units, runs, strict=True)]
        case "sp":
            runs = [
                discover(problem, "sp", regularisation=weight, on_progress=on_progress, **settings)
                for weight in cell.values
            ]
        case _:
            return _random(problem, cell.values, settings["draws"])
    return [(value, run.circuit) for value, run in zip(cell.values, runs, strict=True)]


def _random(problem: Problem, shares: Sequence[float], draws: int) -> list[tuple[float, Circuit]]:
    """Circuits of random paths: the harder chance to beat."""
    graph = problem.graph
    return [
        (share, circuit)
        for share in shares
        for circuit in random_circuits(
            graph, max(1, round(share * graph.n_edges)), draws, kind="connected", seed=_SEED
        )
    ]


class _Judge:
    """Measures circuits of one cell; equal circuits are run once."""

    def __init__(self, cell: Cell, task: Task) -> None:
        self._cell, self._task = cell, task
        self._tests = {name: _with_metric(task.test, name) for name in cell.subject.metrics}
        self._known: dict[str, dict[str, float]] = {}

    def point(self, circuit: Circuit) -> dict[str, Any]:
        """What one circuit is: its size, its agreement with what is known, its measures."""
        if circuit.id not in self._known:
            self._known[circuit.id] = {
                name: problem.value(circuit) for name, problem in self._tests.items()
            }
        found: dict[str, Any] = {"n_edges": circuit.n_edges, "test": self._known[circuit.id]}
        if self._task.published is not None:
            against = recovery(circuit, self._task.published, nodes="paper")
            found["edges"], found["nodes"] = against.edges.to_json(), against.nodes.to_json()
        if self._task.truth is not None:
            found["truth"] = recovery(circuit, self._task.truth).edges.to_json()
        if self._cell.highlight or self._cell.subject.metrics == ("l2",):
            found["kept"] = [edge.name for edge in circuit.edges]
        if self._cell.highlight and self._cell.subject.task in PUBLISHED:
            found["groups"] = _present(circuit, self._cell.subject.task)
        return found

    def about(self) -> dict[str, Any]:
        """What the points share."""
        task = self._task
        pairs, held_out = task.problem.pairs, task.test.pairs
        graph = task.problem.graph
        return {
            "model": task.problem.model.name,
            "n": len(pairs),
            "n_test": len(held_out),
            "held_out": pairs.sha256 != held_out.sha256,
            "pairs_sha256": pairs.sha256,
            "test_sha256": held_out.sha256,
            "n_edges": graph.n_edges,
            "published": None if task.published is None else _list(task.published),
            "truth": None if task.truth is None else _list(task.truth),
            "baselines": {name: list(p.baselines(graph)) for name, p in self._tests.items()},
            "published_test": None if task.published is None else self._published(task.published),
        }

    def _published(self, circuit: Circuit) -> dict[str, float]:
        return {name: problem.value(circuit) for name, problem in self._tests.items()}


def _with_metric(problem: Problem, metric: str) -> Problem:
    return problem if problem.metric.name == metric else problem.with_(metric=metric)


def _list(circuit: Circuit) -> dict[str, Any]:
    """How many edges, and which, where a page can list them."""
    few = circuit.n_edges <= 50
    return {
        "n_edges": circuit.n_edges,
        "edges": [edge.name for edge in circuit.edges] if few else None,
    }


def _present(circuit: Circuit, task: str) -> dict[str, list[str]]:
    """The nodes of each published group that the circuit's edges touch."""
    there = {node.name for node in circuit.nodes}
    groups = published_groups(task)
    return {name: [node for node in nodes if node in there] for name, nodes in groups.items()}


def quietly(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do work whose warnings (masks left undecided, say) the page speaks of for all cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()
