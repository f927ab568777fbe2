"""What do two real pretrained models do of the language tasks, and which circuits carry it?

Command:  make real (or scripts/real_models.py first), then
          python benchmarks/bench_real_models.py        (two cores, half an hour, 5 GB)
Models:   SmolLM2-135M-Instruct and Gemma 3 270M, from .real/; each point in a process of its own,
          on one thread, two at a time.
Problems: every language task, 10 prompts to discover on, 50 held-out ones to judge by.

For each model and task: how often the full model is right; ACDC with a threshold of a share of the
effect (the metric of the full model minus that of the empty circuit), its circuit's size, and the
share of the effect it keeps on held-out prompts, beside EAP-IG's and 10 random circuits of as many
edges; seconds and peak memory of ACDC. Where the model is right on fewer than 80 % of the prompts
there is no behaviour to explain, and no circuit is looked for.

Points are kept as they come (.real/points): after a stop the same command goes on. Writes
benchmarks/results/real_models.json and the table of docs/models.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
REAL = Path(os.environ.get("EDGEWISE_REAL", REPOSITORY / ".real"))
POINTS = REAL / "points"
MODELS = {"smollm2": "SmolLM2-135M-Instruct", "gemma3": "Gemma 3 270M"}
SHARE, FOUND_ON, RANDOM = 0.02, 10, 10
SHARES = {"ioi": 0.05}  # at 2 % of its effect ten minutes are not enough: small effects are many
JUDGED_ON = {"capitals": 20, "sports": 10}  # as many as there are; 50 prompts of other tasks
PAGE = REPOSITORY / "docs" / "models.md"
BEGIN, END = "<!-- real models: made by benchmarks/bench_real_models.py -->", "<!-- end -->"


def main() -> None:
    """Measure what is not measured yet, write the result and the page's table."""
    from edgewise.tasks.language import BEHAVIOURS

    options = argparse.ArgumentParser()
    options.add_argument("--point", nargs=2, metavar=("MODEL", "TASK"))
    point = options.parse_args().point
    if point:
        print(json.dumps(measured(*point)))
        return
    POINTS.mkdir(parents=True, exist_ok=True)
    points = [(model, task) for model in MODELS for task in BEHAVIOURS]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda at: kept(*at), points))
    write({f"{model} {task}": row for (model, task), row in zip(points, found, strict=True)})


def kept(model: str, task: str) -> dict[str, Any]:
    """A point measured before, or now, in a process of its own."""
    file = POINTS / f"{model}-{task}.json"
    if not file.exists():
        command = [sys.executable, __file__, "--point", model, task]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        scratch = file.with_suffix(".part")
        scratch.write_text(done.stdout.splitlines()[-1])
        scratch.rename(file)
    found = json.loads(file.read_text())
    print(f"{model} {task}: {found}", flush=True)
    return found


def measured(name: str, task_name: str) -> dict[str, Any]:
    """One point: accuracy, and the circuits of ACDC, EAP-IG and chance on held-out prompts."""
    import torch

    import edgewise as ew

    torch.set_num_threads(1)
    model = ew.load_model(REAL / name)
    task = ew.load_task(task_name, model, n=FOUND_ON)
    held_out = ew.load_task(task_name, model, n=JUDGED_ON.get(task_name, 50)).test
    metric = "kl" if task.problem.pairs.wrong is None else "logit-diff"
    problem, test = (p.with_(metric=metric) for p in (task.problem, held_out))
    accuracy = test.accuracy()
    assert accuracy is not None  # language tasks have answers, or a next token
    row: dict[str, Any] = {
        "metric": metric,
        "accuracy": accuracy.share,
        "bos": accuracy.bos,
        "judged_on": len(test.pairs),
        "edges_of_graph": problem.graph.n_edges,
    }
    if accuracy.low:
        return row
    full, empty = problem.baselines()
    started = time.process_time()
    found = ew.acdc(problem, threshold=SHARES.get(task_name, SHARE) * abs(full - empty))
    size = found.circuit.n_edges
    row |= {
        "threshold": found.settings["threshold"],
        "edges": size,
        "edge_tests": found.cost.edge_tests,
        "cpu_seconds": time.process_time() - started,
        "seconds": found.cost.seconds,
        "peak_memory_bytes": found.cost.peak_memory_bytes,
        "seen": ew.faithfulness(problem, found.circuit).normalized,
        "acdc": ew.faithfulness(test, found.circuit).normalized,
    }
    attributed = ew.eap_ig(problem, edges=size)
    row["eap_ig"] = ew.faithfulness(test, attributed.circuit).normalized
    generator, graph = torch.Generator().manual_seed(0), problem.graph
    chance = []
    for _ in range(RANDOM):
        chosen = torch.randperm(graph.n_edges, generator=generator)[:size].tolist()
        circuit = ew.Circuit.of(graph, [graph.edges[i] for i in chosen])
        chance.append(ew.faithfulness(test, circuit).normalized)
    row["random"] = sum(chance) / RANDOM
    return row


def write(rows: dict[str, dict[str, Any]]) -> None:
    """The result file, and the table between two marks of the page."""
    from edgewise.model import load_model
    from results import write_result

    about = {"share": SHARE, "shares": SHARES, "found_on": FOUND_ON}
    write_result("real_models", load_model("small-lm"), {**about, "rows": rows})
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}")


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as the page shows them."""
    heads = ["model", "task", "metric", "full model right", "threshold", "edges", "ACDC",
             "EAP-IG", "random", "CPU seconds", "memory"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for key, row in rows.items():
        name, task = key.split()
        cells = [MODELS[name], task, f"`{row['metric']}`"]
        cells.append(f"{row['accuracy']:.0%}".replace("%", " %"))
        if "edges" in row:
            cells += [f"{row['threshold']:.3g}", f"{row['edges']:,} of {row['edges_of_graph']:,}"]
            cells += [
                f"{100 * row[k]:.0f} %".replace("-0 %", "0 %") for k in ("acdc", "eap_ig", "random")
            ]
            cells.append(f"{row['cpu_seconds']:.0f}")
            cells.append(f"{row['peak_memory_bytes'] / 1e9:.1f} GB")
        lines.append("| " + " | ".join(cells + ["–"] * (len(heads) - len(cells))) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
