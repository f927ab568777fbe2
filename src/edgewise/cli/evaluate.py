"""`edgewise evaluate`: how good a circuit is, on prompts that discovery has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgewise as ew
from edgewise.arguments import check_choice, whole
from edgewise.cli import console
from edgewise.cli.options import (
    AllowCode,
    CircuitFile,
    Force,
    Json,
    ProblemOptions,
    Random,
    Report,
    Split,
)
from edgewise.cli.problems import check_split, circuit_and_task, held_out
from edgewise.documents import check_output_file
from edgewise.errors import SettingError
from edgewise.tables import Result

if TYPE_CHECKING:
    from edgewise.evaluation.recovery import ScoreRecovery

Minimal = Annotated[
    bool, typer.Option("--minimality/--no-minimality", help="Remove each edge alone.")
]
WithCurve = Annotated[bool, typer.Option("--curve", help="CPR and CMD: scores at MIB's sizes.")]


def evaluate(
    *,
    circuit: CircuitFile,
    problem: ProblemOptions,
    split: Split = "test",
    random: Random = 20,
    knock_outs: Annotated[int, typer.Option(help="Sets of its nodes to knock out.")] = 10,
    greedy: Annotated[int, typer.Option(help="Grow the worst set of so many nodes.")] = 0,
    minimality: Minimal = True,
    curve: WithCurve = False,
    node_counting: Annotated[str, typer.Option(help="Of recovery: plain, or paper.")] = "plain",
    report: Report = None,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Say how good a circuit is, on held-out prompts.

    Faithfulness, beside random circuits of its size; completeness; minimality; recovery of a
    published circuit or of structural truth, if one is known; and what that means, in sentences.
    Where no prompts are held out, on those of discovery.

    edgewise evaluate runs/reverse

    edgewise evaluate circuit.json --task tracr-reverse
    """
    check_split(split)
    _check_choices(node_counting, {"random": random, "knock-outs": knock_outs, "greedy": greedy})
    if (curve or report is not None) and circuit.is_file():
        raise SettingError("--curve and --report need a run folder; a circuit file has no scores.")
    check_output_file(report, overwrite=force)
    with console.spinner("loading", quiet=json):
        evaluated, task = circuit_and_task(circuit, problem, allow_code=allow_code)
    run = evaluated if isinstance(evaluated, ew.Run) else None
    test = held_out(task) if split == "test" else None
    on = test or task.problem
    against, ranks = _recovered(evaluated, task, node_counting)
    with console.progress_bar("evaluating", quiet=json) as bar:
        result = ew.evaluate(
            on,
            evaluated,
            split="discovery" if test is None else "test",
            random=random,
            knock_outs=knock_outs,
            greedy=greedy,
            minimal=minimality,
            seed=problem.seed or 0,
            on_progress=bar,
        )
        sizes = ew.curve(on, run, on_progress=bar) if curve and run is not None else None
    measured = {**result.to_json(), "curve": None if sizes is None else sizes.to_json()}
    if report is not None and run is not None:
        ew.report([run.with_(measurements={"evaluation": measured})], report)
    if json:
        console.as_json({**measured, **_as_json(recovery=against, score_recovery=ranks)})
        return
    orders = {f"order of edges, {name}": order for name, order in ranks.items()}
    parts: dict[str, Result] = {} if sizes is None else {"sizes": sizes}
    console.show(result, **parts, **against, **orders)
    console.wrote(report)


def _check_choices(node_counting: str, numbers: Mapping[str, int]) -> None:
    """Raise `SettingError`, `UnknownName` for choices that no evaluation has."""
    check_choice("node counting", node_counting, ("plain", "paper"))
    for name, number in numbers.items():
        whole(f"--{name}", number, 0)


def _as_json(**results: Mapping[str, ew.Recovery | ScoreRecovery]) -> dict[str, Any]:
    return {
        kind: {name: result.to_json() for name, result in named.items()}
        for kind, named in results.items()
    }


def _recovered(
    evaluated: ew.Run | ew.Circuit, task: ew.Task, node_counting: str
) -> tuple[dict[str, ew.Recovery], dict[str, ScoreRecovery]]:
    """How well the circuit, and a run's scores, recover each circuit that is known of the task."""
    run = evaluated if isinstance(evaluated, ew.Run) else None
    graph = ew.circuit.circuit_of(evaluated).graph
    circuits = {"published": task.published, "structural truth": task.truth}
    same = {name: c for name, c in circuits.items() if c is not None and c.graph == graph}
    proper = {name: c for name, c in same.items() if 0 < c.n_edges < graph.n_edges}
    against = {
        name: ew.recovery(evaluated, c, nodes=node_counting)  # type: ignore[arg-type]  # checked
        for name, c in same.items()
    }
    ranks = {} if run is None else {name: ew.score_recovery(run, c) for name, c in proper.items()}
    return against, ranks
