"""`edgewise evaluate`: how good a circuit is, on prompts that discovery has not seen."""

from __future__ import annotations

from typing import Annotated, Any

import edgewise as ew
from edgewise.arguments import check_choice, whole
from edgewise.cli.console import Output
from edgewise.cli.options import SPLITS, AllowCode, CircuitFile, Random, Split, option
from edgewise.cli.problems import ProblemRequest, circuit_and_task, held_out
from edgewise.errors import SettingError


def evaluate(
    *,
    circuit: CircuitFile,
    problem: ProblemRequest,
    split: Split = "test",
    random: Random = 20,
    knock_outs: int = option(10, "Sets of its nodes to knock out."),
    greedy: int = option(0, "Grow the worst set of so many nodes."),
    minimality: bool = option(True, "Remove each edge alone.", "--minimality/--no-minimality"),
    curve: bool = option(False, "CPR and CMD: scores at MIB's sizes.", "--curve"),
    node_counting: str = option("plain", "Of recovery: plain, or paper."),
    allow_code: AllowCode = False,
    output: Annotated[Output, "report", "force", "json"],
) -> None:
    """Say how good a circuit is, on held-out prompts.

    Faithfulness, beside random circuits of its size; completeness; minimality; recovery of a
    published circuit or of structural truth, if one is known; and what that means, in sentences.
    Where no prompts are held out, on those of discovery.

    edgewise evaluate runs/reverse

    edgewise evaluate circuit.json --task tracr-reverse
    """
    check_choice("split", split, SPLITS)
    check_choice("node counting", node_counting, ("plain", "paper"))
    for name, number in (("random", random), ("knock-outs", knock_outs), ("greedy", greedy)):
        whole(f"--{name}", number, 0)
    if (curve or output.report) and circuit.is_file():
        raise SettingError("--curve and --report need a run folder; a circuit file has no scores.")
    evaluated, task = circuit_and_task(circuit, problem, output, allow_code=allow_code)
    test = held_out(task) if split == "test" else None
    against, orders = _recovered(evaluated, task, node_counting)
    sizes = None
    with output.progress("evaluating") as on_progress:
        result = ew.evaluate(
            test or task.problem,
            evaluated,
            split="test" if test else "discovery",
            random=random,
            knock_outs=knock_outs,
            greedy=greedy,
            minimal=minimality,
            seed=problem.seed or 0,
            on_progress=on_progress,
        )
        if curve and isinstance(evaluated, ew.Run):
            sizes = ew.curve(test or task.problem, evaluated, on_progress=on_progress)
    measured = {**result.to_json(), "curve": None if sizes is None else sizes.to_json()}
    page_of = None
    if isinstance(evaluated, ew.Run):
        page_of = [evaluated.with_(measurements={"evaluation": measured})]
    document = measured | {"recovery": _as_json(against), "score_recovery": _as_json(orders)}
    parts = {} if sizes is None else {"sizes": sizes}
    parts |= against | {f"order of edges, {name}": order for name, order in orders.items()}
    output.deliver(result, document=document, page_of=page_of, **parts)


def _recovered(
    evaluated: ew.Run | ew.Circuit, task: ew.Task, node_counting: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How well the circuit, and a run's scores, recover each circuit that is known of the task."""
    graph = ew.circuit.circuit_of(evaluated).graph
    circuits = {"published": task.published, "structural truth": task.truth}
    against, orders = {}, {}
    for name, circuit in circuits.items():
        if circuit is None or circuit.graph != graph:
            continue
        against[name] = ew.recovery(evaluated, circuit, nodes=node_counting)  # type: ignore[arg-type]  # checked
        if isinstance(evaluated, ew.Run) and 0 < circuit.n_edges < graph.n_edges:
            orders[name] = ew.score_recovery(evaluated, circuit)
    return against, orders


def _as_json(results: dict[str, Any]) -> dict[str, Any]:
    return {name: result.to_json() for name, result in results.items()}
