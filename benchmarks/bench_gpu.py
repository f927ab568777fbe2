"""How fast is ACDC on a GPU, how much of the card does it use, and does it decide as a CPU does?

Command:  python benchmarks/bench_gpu.py [--parts correctness ioi sweep xl] [--xl-minutes 8]
              (one H200: half an hour; where Edgewise is not installed, with PYTHONPATH=src)
Model:    GPT-2-small shape, and for xl GPT-2-XL's; random scaled weights, float32.
Problem:  200 prompts of 16 tokens (xl: 32), two changed in the corrupted twin; KL; split q/k/v.

    correctness  2 layers, 20 prompts: circuit and decisions on GPU and CPU, float64 and float32
    ioi          a threshold that keeps 3.4 % of the edges, found by a sweep on 20 prompts; then a
                 complete run in each precision, and where the time goes in the first minute of
                 another, which waits for the GPU after each part and so is slower
    sweep        20 thresholds from a tenth to ten times that one, beside four of them alone
    xl           as much of a run as fits into the minutes, and what the whole would take

Without a CUDA GPU it says so and does nothing; `--tiny` runs the same code on the CPU. FLOPs are
counted by the formulas in work.py. Each part is written to results/gpu.json as soon as it is done,
beside the parts that were there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.work.store import environment, peak_memory_bytes
from problems import TINY, Shape, Watch, log_spaced, make_model, make_problem, pick_threshold
from results import FOLDER, write
from runs import agreement, described, extrapolated
from timed import profile, work_done
from work import evaluated

SHARE = 0.034  # of IOI's edges that the literature keeps
PRECISIONS = ("full", "reduced")
PARTS = ("correctness", "ioi", "sweep", "xl")


class Bench:
    """The parts, on one device at one size."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given, self.device = given, "cpu" if given.tiny else "cuda"
        small = replace(TINY, heads=4) if given.tiny else Shape(prompts=200, tokens=16)
        big = Shape(layers=48, heads=25, d_model=1600, prompts=32, tokens=16)
        self._small = replace(small, device=self.device)
        self._big = self._small if given.tiny else replace(big, device=self.device)
        self._few = 2 if given.tiny else 20  # prompts, where all would take too long

    def correctness(self) -> dict[str, Any]:
        """Whether both devices find the same circuit by the same decisions."""
        result = {}
        for dtype in ("float64", "float32"):
            shape = replace(self._small, layers=2, prompts=self._few, dtype=dtype)
            runs = []
            for device in (self.device, "cpu"):
                problem = make_problem(replace(shape, device=device))
                runs.append(ew.acdc(problem, threshold=3 / problem.graph.n_edges))
            pairs = zip(*(run.trace for run in runs), strict=False)
            result[dtype] = {
                **agreement(*runs),
                "edges_kept": runs[0].circuit.n_edges,
                "edge_tests": runs[0].cost.edge_tests,
                "largest_difference_of_a_delta": max(abs(a.delta - b.delta) for a, b in pairs),
                "margin": runs[0].margin,
                "seconds": [run.cost.seconds for run in runs],
            }
        return result

    @cached_property
    def _ioi(self) -> tuple[ew.Problem, float, float | None]:
        """The problem, a threshold, and the share of edges it keeps with a few of the prompts."""
        model, threshold, share = make_model(self._small), self._given.threshold, None
        if threshold is None:
            few = make_problem(replace(self._small, prompts=self._few), model)
            tried = log_spaced(0.001, 1.0, 5) if self._given.tiny else log_spaced(5e-4, 1e-2, 20)
            threshold, share = pick_threshold(few, SHARE, tried)
        return make_problem(self._small, model), threshold, share

    def ioi(self) -> dict[str, Any]:
        """Complete runs in both precisions, and where the time of each goes."""
        start = time.perf_counter()
        problem, threshold, share = self._ioi
        result: dict[str, Any] = {
            "prompts": len(problem.pairs),
            "tokens_per_prompt": problem.pairs.n_positions,
            "edges": problem.graph.n_edges,
            "threshold": threshold,
            "share_kept_with_few_prompts": share,
            "seconds_to_choose_it": time.perf_counter() - start,
        }
        runs = []
        for precision in PRECISIONS:
            settings = {"threshold": threshold, "precision": precision}
            Watch(most=1).run(problem, **settings)  # warm up
            self._forget_peak()
            with evaluated() as count:
                run = ew.acdc(problem, **settings)
            runs.append(run)
            passes, seconds = run.cost.forward_passes, run.cost.seconds
            result[precision] = {
                **described(run),
                "share_kept": run.circuit.n_edges / problem.graph.n_edges,
                **work_done(problem, run.trace, count, passes, seconds),
                "profile": profile(problem, settings),
            }
        return result | {"precisions_agree": agreement(*runs)}

    def sweep(self) -> dict[str, Any]:
        """Twenty thresholds in one search, and some of them alone."""
        problem, middle, _ = self._ioi
        thresholds = log_spaced(middle / 10, middle * 10, 4 if self._given.tiny else 20)
        Watch(most=1).run(problem, threshold=middle)  # warm up
        self._forget_peak()
        runs = ew.sweep(problem, threshold=thresholds)
        alone = {}
        for index in sorted({0, len(runs) // 3, 2 * len(runs) // 3, len(runs) - 1}):
            one = ew.acdc(problem, threshold=thresholds[index])
            alone[f"{thresholds[index]:.3g}"] = {
                "seconds": one.cost.seconds,
                "removals_evaluated": one.cost.variants,
                "agrees": torch.equal(one.circuit.keep, runs[index].circuit.keep),
            }
        most = max(one["seconds"] for one in alone.values())
        return {
            "thresholds": thresholds,
            "edges_kept": [run.circuit.n_edges for run in runs],
            "seconds": runs[0].cost.seconds,
            "removals_evaluated": max(run.cost.variants for run in runs),  # the last has all
            "peak_memory_bytes": runs[0].cost.peak_memory_bytes,
            "alone": alone,
            "times_the_most_expensive": runs[0].cost.seconds / most,
        }

    def xl(self) -> dict[str, Any]:
        """A run under a time limit."""
        problem = make_problem(self._big)
        settings = {"threshold": self._given.xl_threshold, "precision": self._given.xl_precision}
        self._forget_peak()
        start = time.perf_counter()
        with evaluated() as count:
            watch = Watch(seconds=60 * self._given.xl_minutes).run(problem, **settings)
        seconds, n = time.perf_counter() - start, problem.graph.n_edges
        return {
            "prompts": len(problem.pairs),
            "edges": n,
            **settings,
            "finished": watch.finished,
            "seconds": seconds,
            "seconds_to_the_first_decision": watch.at[0] - start,
            **extrapolated(watch, start, n),
            "edge_tests": len(watch.taken),
            "removals_evaluated": sum(count.variants.values()),
            "edges_kept": sum(decision.kept for decision in watch.taken),
            "peak_memory_bytes": peak_memory_bytes(problem.model.device),
            **work_done(problem, watch.taken, count, problem.passes()[0], seconds),
        }

    def _forget_peak(self) -> None:
        """Let torch's count of peak memory begin anew (a CPU's cannot)."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def main(given: argparse.Namespace) -> None:
    """Run the parts asked for, writing each as it comes."""
    if not given.tiny and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    if given.tiny:
        torch.set_num_threads(1)
    folder = None if given.tiny else Path(given.results)
    values = {} if folder is None else earlier_parts(folder)
    bench = Bench(given)
    where = environment(ew.load_model("tracr-reverse", device=bench.device))
    for part in given.parts:
        print(f"{part} …", file=sys.stderr)
        start = time.perf_counter()
        found = getattr(bench, part)()
        seconds = time.perf_counter() - start
        values[part] = {**found, "seconds_of_this_part": seconds, "commit": where.get("commit")}
        write("gpu", where, values, folder)


def earlier_parts(folder: Path) -> dict[str, Any]:
    """The parts measured before: in this folder, or else among the results."""
    for path in (folder / "gpu.json", FOLDER / "gpu.json"):
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            return {part: found[part] for part in PARTS if part in found}
    return {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="ACDC on a GPU.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threshold", type=float, help="of ioi and sweep, without looking for one")
    parser.add_argument("--xl-minutes", type=float, default=8.0)
    parser.add_argument("--xl-threshold", type=float, default=2e-4)
    parser.add_argument("--xl-precision", choices=PRECISIONS, default="full")
    parser.add_argument("--results", default=str(FOLDER), help="folder for gpu.json")
    parser.add_argument("--tiny", action="store_true", help="tiny, on the CPU; writes no result")
    main(parser.parse_args())
