"""`edgewise evaluate`: how good a circuit is, on prompts that discovery has not seen."""

from __future__ import annotations

from typing import Annotated

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


def evaluate(
    *,
    circuit: CircuitFile,
    problem: ProblemOptions,
    split: Split = "test",
    random: Random = 20,
    knock_outs: Annotated[int, typer.Option(help="Sets of its nodes to knock out.")] = 10,
    greedy: Annotated[int, typer.Option(help="Grow the worst set of so many nodes.")] = 0,
    minimality: Annotated[
        bool, typer.Option("--minimality/--no-minimality", help="Remove each edge alone.")
    ] = True,
    curve: Annotated[
        bool, typer.Option("--curve", help="CPR and CMD: scores at MIB's sizes.")
    ] = False,
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
    check_choice("node counting", node_counting, ("plain", "paper"))
    for name, number in (("random", random), ("knock-outs", knock_outs), ("greedy", greedy)):
        whole(f"--{name}", number, 0)
    if (curve or report is not None) and circuit.is_file():
        raise SettingError("--curve and --report need a run folder; a circuit file has no scores.")
    check_output_file(report, overwrite=force)
    with console.spinner("loading", quiet=json):
        evaluated, task = circuit_and_task(circuit, problem, allow_code=allow_code)
    run = evaluated if isinstance(evaluated, ew.Run) else None
    graph = evaluated.circuit.graph if isinstance(evaluated, ew.Run) else evaluated.graph
    test = held_out(task) if split == "test" else None
    on = test or task.problem
    known = {"published": task.published, "structural truth": task.truth}
    same = {k: c for k, c in known.items() if c is not None and c.graph == graph}
    against = {k: ew.recovery(evaluated, c, nodes=node_counting) for k, c in same.items()}  # type: ignore[arg-type]  # checked above
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
    proper = {k: c for k, c in same.items() if 0 < c.n_edges < c.graph.n_edges}
    ranks = {} if run is None else {k: ew.score_recovery(run, c) for k, c in proper.items()}
    if report is not None and run is not None:
        measured = {**result.to_json(), "curve": None if sizes is None else sizes.to_json()}
        ew.report([run.with_(measurements={"evaluation": measured})], report)
    if json:
        console.as_json(
            {
                **result.to_json(),
                "recovery": {name: found.to_json() for name, found in against.items()},
                "score_recovery": {name: found.to_json() for name, found in ranks.items()},
                "curve": None if sizes is None else sizes.to_json(),
            }
        )
        return
    parts: dict[str, Result] = {} if sizes is None else {"sizes": sizes}
    parts |= {**against} | {f"order of edges, {name}": found for name, found in ranks.items()}
    console.show(result, **parts)
    console.wrote(report)
