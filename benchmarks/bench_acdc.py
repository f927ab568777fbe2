"""How long does a complete, exact ACDC run take at GPT-2-small size, beside slower ways?

Command:  python benchmarks/bench_acdc.py [PROMPTS] [--precision full|reduced|both]
              [--autocircuit PYTHON]       (2 cores, 10 prompts: 4 minutes, and 2 for AutoCircuit)
Model:    GPT-2-small shape, random weights scaled so that a few hundred edges stay, float32.
Problem:  PROMPTS prompts (10) of 15 tokens, two of them changed in the corrupted twin; KL; 0.005.

Every measurement has a process of its own, one after the other, so that peak memory is its own:
a complete incremental run in each precision; the plain evaluator on edge tests of the first of
these, drawn at random and replayed in the state they were decided in, which also checks their
decisions; and, given the interpreter of an environment for it, AutoCircuit by autocircuit_acdc.py,
which says how to make one. The two others' totals are their time for a test multiplied by the
number of tests: of the same run for the plain evaluator, of all edges for AutoCircuit.

Writes benchmarks/results/acdc.json, or acdc_PROMPTS.json for other than 10 prompts.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import edgewise as ew
from edgewise.work.store import peak_memory_bytes
from problems import TINY, Shape, make_problem
from results import FOLDER, write
from runs import agreement, described

THRESHOLD = 0.005
REPLAYED = 24
PRECISIONS = {"full": ["full"], "reduced": ["reduced"], "both": ["full", "reduced"]}


def main(arguments: argparse.Namespace) -> None:
    """Run everything, write the result."""
    suffix = "" if arguments.prompts == 10 else f"_{arguments.prompts}"
    precisions = PRECISIONS[arguments.precision]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for precision in precisions:
            measure(arguments, folder, precision)
        measure(arguments, folder, "plain")
        runs = {precision: ew.Run.load(folder / precision) for precision in precisions}
        plain = json.loads((folder / "plain.json").read_text(encoding="utf-8"))
    first = runs[precisions[0]]
    tests = first.cost.edge_tests
    plain["seconds_for_all_tests"] = plain["seconds_per_edge_test"]["median"] * tests
    values = {
        "prompts": first.problem.n_prompts,
        "tokens_per_prompt": shape(arguments).tokens,
        "threshold": THRESHOLD,
        "edges": first.circuit.graph.n_edges,
        **{precision: described(run) for precision, run in runs.items()},
        "plain": plain,
        "times_faster_than_plain": ratios(runs, plain["seconds_for_all_tests"]),
    }
    if len(runs) > 1:
        values["precisions_agree"] = agreement(*runs.values())
    if arguments.autocircuit:
        script = Path(__file__).parent / "autocircuit_acdc.py"
        subprocess.run([arguments.autocircuit, script, str(arguments.prompts)], check=True)
        found = FOLDER / f"acdc_autocircuit{suffix}.json"
        other = json.loads(found.read_text(encoding="utf-8"))
        values["autocircuit"] = other
        values["times_faster_than_autocircuit"] = ratios(runs, other["seconds_for_all_edges"])
        values["memory_beside_autocircuit"] = {
            precision: run.cost.peak_memory_bytes / other["peak_memory_bytes"]
            for precision, run in runs.items()
        }
    write(f"acdc{suffix}", first.environment, values, None if arguments.tiny else FOLDER)


def measure(arguments: argparse.Namespace, folder: Path, what: str) -> None:
    """Run this script again for one measurement, which leaves its result in the folder."""
    print(f"{what} …", file=sys.stderr)
    command = [sys.executable, __file__, str(arguments.prompts), "--precision", arguments.precision]
    command += ["--measure", what, "--folder", str(folder)]
    subprocess.run([*command, *(["--tiny"] if arguments.tiny else [])], check=True)


def shape(arguments: argparse.Namespace) -> Shape:
    """GPT-2 small, or something tiny, with as many prompts as asked for."""
    return replace(TINY if arguments.tiny else Shape(), prompts=arguments.prompts)


def ratios(runs: dict[str, ew.Run], seconds: float) -> dict[str, float]:
    """How many times longer than each run so many seconds are."""
    return {precision: seconds / run.cost.seconds for precision, run in runs.items()}


def measured(arguments: argparse.Namespace) -> None:
    """One measurement, in a process of its own."""
    problem, folder = make_problem(shape(arguments)), Path(arguments.folder)
    if arguments.measure != "plain":
        run = ew.acdc(problem, threshold=THRESHOLD, precision=arguments.measure)
        run.save(folder / arguments.measure)
        return
    run = ew.Run.load(folder / PRECISIONS[arguments.precision][0])
    times, agree, largest = replay(problem, run)
    values = {
        "edge_tests_timed": len(times),
        "seconds_per_edge_test": {
            "median": statistics.median(times),
            "min": min(times),
            "max": max(times),
        },
        "peak_memory_bytes": peak_memory_bytes(problem.model.device),
        "decisions_that_agree": f"{agree} of {len(times)}",
        "largest_difference_of_a_delta": largest,
    }
    (folder / "plain.json").write_text(json.dumps(values), encoding="utf-8")


def replay(problem: ew.Problem, run: ew.Run) -> tuple[list[float], int, float]:
    """Seconds of plain edge tests, how many decide alike, and the largest difference of a delta."""
    chosen = set(random.Random(0).sample(range(len(run.trace)), REPLAYED))
    keep = problem.graph.exists.clone()
    times, agree, largest = [], 0, 0.0
    for index, decision in enumerate(run.trace):
        at = problem.graph.index(decision.edge)
        if index in chosen:
            loss = problem.loss(ew.Circuit(problem.graph, keep))
            keep[at] = False
            start = time.perf_counter()
            without = problem.loss(ew.Circuit(problem.graph, keep))
            times.append(time.perf_counter() - start)
            delta = without - loss
            agree += (not delta < THRESHOLD) == decision.kept
            largest = max(largest, abs(delta - decision.delta))
        keep[at] = decision.kept
    return times, agree, largest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time a complete ACDC run beside slower ways.")
    parser.add_argument("prompts", type=int, nargs="?", default=10)
    parser.add_argument("--precision", choices=list(PRECISIONS), default="both")
    parser.add_argument("--autocircuit", metavar="PYTHON", help="interpreter of its environment")
    parser.add_argument("--tiny", action="store_true", help="a tiny problem; writes no result")
    parser.add_argument("--measure", choices=["full", "reduced", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    measured(given) if given.measure else main(given)
