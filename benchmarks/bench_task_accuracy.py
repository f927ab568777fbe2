"""How often is a model right on the language tasks, as its tokenizer begins texts and otherwise?

Command:  python benchmarks/bench_task_accuracy.py [MODEL…] [-n PROMPTS] (one core, 10 min, 2 GB)
Models:   folders, hub names or bundled names; for the result, the two of `make real`.
Problems: every language task with its default sentences, 50 prompts unless it has fewer.

*Right* is what `problem.accuracy()` says it is. Writes benchmarks/results/task_accuracy.json, a row
for each model and task, and prints it as a table.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.errors import EdgewiseError
from edgewise.tasks.language import BEHAVIOURS
from edgewise.work.store import environment
from results import write


def main() -> None:
    """Measure every model, write the result, print the table."""
    parser = argparse.ArgumentParser()
    real = Path(os.environ.get("EDGEWISE_REAL", Path(__file__).parents[1] / ".real"))
    usual = [str(real / name) for name in ("smollm2", "gemma3")]
    parser.add_argument("models", nargs="*", default=usual)
    parser.add_argument("-n", type=int, default=50)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for source in asked.models:
        model = ew.load_model(source)
        for task, behaviour in BEHAVIOURS.items():
            n = min(asked.n, behaviour.n)
            rows.append({"model": Path(source).name, "task": task, **measured(model, task, n)})
    write("task_accuracy", environment(model), {"rows": rows})
    print(
        "\n| model | task | prompts | tokens | with BOS | without | by itself | right is |\n"
        + "|---" * 8
        + "|"
    )
    for row in rows:
        cells = [f"{v:.0%}" if isinstance(v, float) else v for v in list(row.values())]
        print(f"| {' | '.join(map(str, cells))} |")


def measured(model: ew.Model, task: str, n: int) -> dict[str, Any]:
    """The share that is right with BOS and without; why the task is refused, if it is."""
    try:
        problem = ew.load_task(task, model, n=n).problem
        other = ew.load_task(task, model, n=n, bos=not problem.pairs.bos).problem
    except EdgewiseError as reason:
        return {"refused": str(reason)}
    usual, accuracy = problem.accuracy(), {}
    assert usual is not None, f"nothing says what is right on {task}"
    accuracy[problem.pairs.bos] = usual.share
    tried = other.accuracy() if usual.other_bos is None else None
    accuracy[other.pairs.bos] = usual.other_bos if tried is None else tried.share
    return {
        "prompts": len(problem.pairs),
        "tokens": problem.pairs.n_positions,
        "with BOS": accuracy[True],
        "without": accuracy[False],
        "by itself": "with" if problem.pairs.bos else "without",
        "right is": usual.metric,
    }


if __name__ == "__main__":
    main()
