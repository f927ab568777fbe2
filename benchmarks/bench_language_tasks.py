"""How good are the circuits ACDC finds in the bundled language model, on prompts it has not seen?

Command:  python benchmarks/bench_language_tasks.py [MODEL]     (one core, 2 minutes, 1 GB)
Model:    a bundled language model, small-lm if none is named, and its untrained twin.
Problems: every language task with its own metric and number of prompts (20 to 100).

For each task: the full and the untrained model's logit difference on held-out prompts; ACDC at
two thresholds and its circuit's faithfulness there (0: nothing kept, 1: the full model), beside
that of 20 random circuits of as many edges. Writes benchmarks/results/language_tasks.json, for
another model than small-lm language_tasks_MODEL.json, and prints a table.
"""

import sys
from typing import Any

import torch

import edgewise as ew
from edgewise.tasks.language import BEHAVIOURS
from results import write_result

THRESHOLDS = (0.01, 0.1)
RANDOM = 20


def main() -> None:
    """Measure every task, write the result, print the table."""
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "small-lm"
    model, untrained = ew.load_model(name), ew.load_model(f"{name}-untrained")
    rows = {task: measured(task, model, untrained) for task in BEHAVIOURS}
    result = "language_tasks" if name == "small-lm" else f"language_tasks_{name.replace('-', '_')}"
    write_result(result, model, {"model": name, "tasks": rows})
    print(table(rows))


def measured(name: str, model: ew.Model, untrained: ew.Model) -> dict[str, Any]:
    """One task: both models, and a circuit for each threshold."""
    metric = None if name != "induction" else "kl"
    task = ew.load_task(name, model, metric=metric)
    return {
        "metric": task.test.metric.name,
        "prompts": len(task.problem.pairs),
        "edges": task.test.graph.n_edges,
        "logit_difference": {
            "model": logit_difference(task.test),
            "untrained": logit_difference(ew.load_task(name, untrained, metric=metric).test),
        },
        "circuits": [found(task, threshold) for threshold in THRESHOLDS],
    }


def logit_difference(problem: ew.Problem) -> float | None:
    """The full model's mean logit difference; None where prompts have no one answer."""
    if problem.pairs.answers is None or problem.pairs.wrong is None:
        return None
    other = problem.with_(metric="logit-diff")
    return ew.faithfulness(other, ew.Circuit.full(other.graph)).full


def found(task: Any, threshold: float) -> dict[str, Any]:
    """ACDC's circuit, judged on the held-out prompts, and random ones of its size."""
    run = ew.acdc(task.problem, threshold=threshold)
    graph, size = run.circuit.graph, run.circuit.n_edges
    generator = torch.Generator().manual_seed(0)
    chance = []
    for _ in range(RANDOM):
        chosen = torch.randperm(graph.n_edges, generator=generator)[:size].tolist()
        circuit = ew.Circuit.of(graph, [graph.edges[i] for i in chosen])
        chance.append(ew.faithfulness(task.test, circuit).normalized)
    judged = ew.faithfulness(task.test, run.circuit)
    return {
        "threshold": threshold,
        "seconds": run.cost.seconds,
        "edges": size,
        "metric": judged.circuit,
        "faithfulness": judged.normalized,
        "faithfulness_seen": ew.faithfulness(task.problem, run.circuit).normalized,
        "random": {"mean": sum(chance) / RANDOM, "max": max(chance)},
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The results as a page shows them."""
    lines = [
        "| task | metric | logit difference | untrained | edges at 0.01 | faithful | random "
        "| edges at 0.1 | faithful | random |",
        "|---" * 10 + "|",
    ]
    for name, row in rows.items():
        differences = row["logit_difference"].values()
        cells = [name, row["metric"], *("–" if d is None else f"{d:.1f}" for d in differences)]
        for circuit in row["circuits"]:
            cells += [
                str(circuit["edges"]),
                f"{circuit['faithfulness']:.2f}",
                f"{circuit['random']['mean']:.2f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
