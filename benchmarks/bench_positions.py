"""What do spans of positions add to ACDC's circuits in the bundled language model?

Command:  python benchmarks/bench_positions.py     (one core, 4 minutes, 1 GB)
Model:    small-lm.
Problems: five language tasks, 30 prompts each, their own metric.

For each task: ACDC at one threshold with positions together and with the task's spans apart; edges
kept, faithfulness on held-out prompts (0: nothing kept, 1: the full model) beside the mean of 20
random circuits of as many edges, the spans that the circuit touches, removals evaluated. Writes
benchmarks/results/positions.json and prints a table.
"""

from collections import Counter
from typing import Any

import torch

import edgewise as ew
from results import write_result

TASKS = ("ioi", "greater-than", "docstring", "pronouns", "agreement")
THRESHOLD = 0.05
PROMPTS = 30
RANDOM = 20


def main() -> None:
    """Measure every task, write the result, print the table."""
    torch.set_num_threads(1)
    model = ew.load_model("small-lm")
    rows = {name: measured(name, model) for name in TASKS}
    write_result("positions", model, {"threshold": THRESHOLD, "tasks": rows})
    print(table(rows))


def measured(name: str, model: ew.Model) -> dict[str, Any]:
    """One task, both graphs."""
    task = ew.load_task(name, model, n=PROMPTS)
    graph = ew.Graph.of(model, spans=task.problem.pairs)
    found = {
        "together": found_on(task, graph.whole),
        "apart": found_on(task, graph),
    }
    return {"prompts": PROMPTS, "metric": task.problem.metric.name, **found}


def found_on(task: Any, graph: ew.Graph) -> dict[str, Any]:
    """ACDC's circuit on a graph, judged on the held-out prompts, and random ones of its size."""
    run = ew.acdc(task.problem.with_(graph=graph), threshold=THRESHOLD)
    test = task.test.with_(graph=graph)
    random = [
        ew.faithfulness(test, random_circuit(test, run.circuit.n_edges, seed))
        for seed in range(RANDOM)
    ]
    return {
        "edges": run.circuit.n_edges,
        "of": graph.n_edges,
        "faithfulness": ew.faithfulness(test, run.circuit).normalized,
        "random": sum(one.normalized or 0.0 for one in random) / RANDOM,
        "spans": dict(Counter(edge.receiver.node.span for edge in run.circuit.edges))
        if graph.spans
        else None,
        "variants": run.cost.variants,
        "seconds": round(run.cost.seconds, 2),
    }


def random_circuit(problem: ew.Problem, n: int, seed: int) -> ew.Circuit:
    """n edges at random."""
    return ew.discover(problem, method="random", edges=n, seed=seed).circuit


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = [
        "| task | together: edges, faithfulness | apart: edges, faithfulness, random | where |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        one, other = row["together"], row["apart"]
        where = sorted(other["spans"].items(), key=lambda item: -item[1])
        lines.append(
            f"| {name} | {one['edges']} of {one['of']:,}, {one['faithfulness']:.2f} "
            f"| {other['edges']} of {other['of']:,}, {other['faithfulness']:.2f}, "
            f"{other['random']:.2f} | {', '.join(f'{span} {n}' for span, n in where)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
