"""What does ACDC cost on a model of half precision, and how exactly is it decided?

Command:  python benchmarks/bench_half_precision.py        (1 thread, under a minute)
          python benchmarks/bench_half_precision.py NAME   writes results/NAME.json instead
Model:    4 layers of 8 heads, width 128, random weights, 4 prompts, by KL and by L2 at
          0.3 % of the effect: weights in bfloat16, and the same weights cast to float32.

Reports CPU-seconds, the decisions that each rung took, and whether both decide alike. It uses only
what commits before float32 computing have too: `half_precision_before.json` is 4415d8e.
Writes benchmarks/results/half_precision.json.
"""

import argparse
import time
from typing import Any

import torch

import edgewise as ew
from problems import Shape, make_problem
from results import write_result

SHARE = 0.003


def measured(problem: ew.Problem) -> tuple[dict[str, Any], list[tuple[ew.Edge, bool]]]:
    """Cost and rungs of one run, and its decisions."""
    full, empty = problem.baselines()
    start = time.process_time()
    run = ew.acdc(problem, threshold=SHARE * abs(full - empty))
    row = {
        "cpu_seconds": time.process_time() - start,
        "edge_tests": run.cost.edge_tests,
        "edges_kept": run.circuit.n_edges,
        "decisions_by_rung": run.rungs,
    }
    return row, [(d.edge, d.kept) for d in run.trace or ()]


def main(name: str) -> None:
    """Measure both metrics in both dtypes and write the result."""
    torch.set_num_threads(1)
    wide = make_problem(Shape(layers=4, heads=8, d_model=128, vocab=2000, prompts=4))
    half = wide.model.to(dtype=torch.bfloat16)
    rows: dict[str, Any] = {}
    for metric in ("kl", "l2"):
        problem = wide.with_(metric=metric)
        ours, decisions = measured(problem.with_(model=half))
        cast, same = measured(problem.with_(model=half.to(dtype=torch.float32)))
        rows[metric] = {"bfloat16": ours, "float32": cast, "decided_alike": decisions == same}
    write_result(name, half, {"prompts": len(wide.pairs), "share_of_effect": SHARE, **rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default="half_precision")
    main(parser.parse_args().name)
