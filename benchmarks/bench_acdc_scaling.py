"""How do time and memory of a complete ACDC run grow with the model and the problem?

Command:  python benchmarks/bench_acdc_scaling.py     (2 cores: 3 minutes, 1 GB)
Model:    4 layers, 4 heads, d_model 128, vocabulary 5,000, random scaled weights, float32.
Problem:  8 prompts of 16 tokens, two of them changed in the corrupted twin; KL.

Varies one of layers, heads, prompts, tokens and vocabulary at a time. A run's threshold is 12
divided by the number of edges: an edge's share of the KL shrinks as edges become more, so that some
10 % of them stay everywhere. Each run has a process of its own, with 2 threads. Peak memory is that
process's, and stands beside what it held before the run: Python, torch and the model.

Also small models, with 1 thread (a second costs more than it gives): every bundled compiled program
at its task's ablation and threshold 0.001, and an attention-only model of 4 layers and 8 heads.
Median and range of five runs after a warm-up. Writes benchmarks/results/acdc_scaling.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import torch

import edgewise as ew
from edgewise.tasks import TASKS
from edgewise.work.store import environment
from problems import TINY, Shape, held_at_most, make_problem
from results import FOLDER, write

BASE = Shape(layers=4, heads=4, d_model=128, vocab=5000, prompts=8, tokens=16)
VARIED: dict[str, tuple[int, ...]] = {
    "layers": (2, 4, 6, 8),
    "heads": (2, 4, 8, 16),
    "prompts": (2, 8, 32, 128),
    "tokens": (8, 16, 32, 64),
    "vocab": (1_000, 5_000, 20_000, 50_000),
}
ATTENTION_ONLY = Shape(
    layers=4, heads=8, d_model=256, vocab=5000, prompts=10, tokens=30, mlps=False
)
PROGRAM_THRESHOLD = 1e-3
REPEATS = 5


def main(tiny: bool) -> None:
    """Measure small models, then every point of every curve; write the result."""
    torch.set_num_threads(1)
    small = small_models(tiny)
    base = replace(TINY, heads=4) if tiny else BASE
    varied = {"layers": (1, 2), "vocab": (100, 200)} if tiny else VARIED
    shapes = {
        name: [replace(base, **{name: value}) for value in values]
        for name, values in varied.items()
    }
    # The base belongs to every curve, and is run once.
    points = {shape: point(shape) for curve in shapes.values() for shape in curve}
    torch.set_num_threads(2)
    values = {
        "threads": 2,
        "base": asdict(base),
        "curves": {
            name: [{name: getattr(shape, name), **points[shape]} for shape in curve]
            for name, curve in shapes.items()
        },
        "small_models": {"threads": 1, "repeats": REPEATS, "models": small},
    }
    where = environment(ew.load_model("tracr-reverse"))
    write("acdc_scaling", where, values, None if tiny else FOLDER)


def point(shape: Shape) -> dict[str, Any]:
    """One run, in a process of its own."""
    command = [sys.executable, __file__, "--shape", json.dumps(asdict(shape))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"{shape}: {done.stdout}", end="", file=sys.stderr)
    return json.loads(done.stdout)


def measured(shape: Shape) -> dict[str, Any]:
    """What a run at this shape takes, and finds."""
    torch.set_num_threads(2)
    warm_up()
    problem = make_problem(shape)
    before = held_at_most()
    run = ew.acdc(problem, threshold=threshold(problem))
    return {
        "seconds": run.cost.seconds,
        "edges": problem.graph.n_edges,
        "edge_tests": run.cost.edge_tests,
        "removals_evaluated": run.cost.variants,
        "edges_kept": run.circuit.n_edges,
        "threshold": run.settings["threshold"],
        "ms_per_edge_test": 1000 * run.cost.seconds / run.cost.edge_tests,
        "peak_memory_bytes": held_at_most(),
        "peak_memory_before_bytes": before,
    }


def warm_up() -> None:
    """Whatever happens only once in a process, such as imports at the first call."""
    ew.acdc(make_problem(TINY), threshold=1.0)


def threshold(problem: ew.Problem) -> float:
    """A threshold that keeps some 10 % of a random model's edges."""
    return 12 / problem.graph.n_edges


def small_models(tiny: bool) -> dict[str, dict[str, Any]]:
    """Every compiled program, and a random attention-only model."""
    names = [name for name in TASKS if name.startswith("tracr-")]
    rows = {
        name: repeated(ew.load_task(name).problem, PROGRAM_THRESHOLD)
        for name in (names[:2] if tiny else names)
    }
    problem = make_problem(replace(TINY, mlps=False) if tiny else ATTENTION_ONLY)
    return {**rows, "attention-only": repeated(problem, threshold(problem))}


def repeated(problem: ew.Problem, at: float) -> dict[str, Any]:
    """Median and range of several complete runs, on a fresh problem each."""
    runs = [ew.acdc(problem.with_(), threshold=at) for _ in range(REPEATS + 1)]
    seconds = [run.cost.seconds for run in runs[1:]]
    return {
        "seconds": {
            "median": statistics.median(seconds),
            "min": min(seconds),
            "max": max(seconds),
        },
        "prompts": len(problem.pairs),
        "edges": problem.graph.n_edges,
        "edge_tests": runs[0].cost.edge_tests,
        "edges_kept": runs[0].circuit.n_edges,
        "threshold": at,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time and memory of ACDC runs as curves.")
    parser.add_argument("--tiny", action="store_true", help="tiny models; writes no result")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.shape:
        print(json.dumps(measured(Shape(**json.loads(given.shape)))))
    else:
        main(given.tiny)
