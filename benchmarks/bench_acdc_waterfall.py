"""How much work does each idea of the incremental engine save?

Command:  python benchmarks/bench_acdc_waterfall.py     (2 cores: 5 minutes, 2 GB)
Model:    GPT-2-small shape, random weights scaled so that a few hundred edges stay, float32.
Problem:  10 prompts of 15 tokens, two of them changed in the corrupted twin; KL; 0.005.

Work is counted, not timed: a complete run says which edges were tested and which stayed, and from
that follows, by the formulas in work.py, what every test would compute with some of the ideas only.
Each row adds one idea to those above it. The last two add what the engine evaluates beyond the
tests: speculation's removals in vain, and what makes removals final or decides from scratch.

Speculation saves no FLOPs but time, so it is timed: the same decisions, one removal at a time and
in batches, at the beginning of the run and from a third and two thirds of its decisions on. Writes
benchmarks/results/acdc_waterfall.json.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import edgewise as ew
from edgewise.engine import Removals
from problems import TINY, Shape, Watch, make_problem
from results import FOLDER, write
from work import (
    Costs,
    Evaluated,
    all_evaluated,
    costs,
    evaluated,
    everywhere,
    from_scratch,
    incremental_costs,
    kept_edges,
    per_receiver,
    reached,
    whole_nodes,
)

THRESHOLD = 0.005


def main(arguments: argparse.Namespace) -> None:
    """Run once, count, time samples, write the result."""
    problem = make_problem(TINY if arguments.tiny else Shape())
    with evaluated() as count:
        run = ew.acdc(problem, threshold=THRESHOLD)
    rows = waterfall(problem, run, count)
    values = {
        "prompts": len(problem.pairs),
        "tokens_per_prompt": problem.pairs.n_positions,
        "threshold": THRESHOLD,
        "edges": problem.graph.n_edges,
        "edges_kept": run.circuit.n_edges,
        "work": rows,
        "flops_saved": rows[0]["flops"] / rows[-1]["flops"],
        "speculation": [
            speculation(problem, run, part, arguments.decisions) for part in (0, 1 / 3, 2 / 3)
        ],
    }
    write("acdc_waterfall", run.environment, values, None if arguments.tiny else FOLDER)


def waterfall(problem: ew.Problem, run: ew.Run, count: Evaluated) -> list[dict[str, Any]]:
    """One row for each idea: edge tests, and what they compute."""
    graph, pairs = problem.graph, problem.pairs
    keep, full, everything = kept_edges(graph, run.trace), everywhere(problem), graph.exists.sum(0)
    assert torch.equal(keep, run.circuit.keep)
    n_logits = pairs.clean.numel()
    plain = from_scratch(problem, n_logits)
    suffix = costs(problem, whole_nodes(graph, reached(graph, graph.exists)), full, n_logits)
    live = costs(problem, reached(graph, keep), full, n_logits)
    engine = incremental_costs(problem, run.trace)
    tested = per_receiver(graph, Counter(decision.edge.receiver for decision in run.trace))
    variants = per_receiver(graph, count.variants)
    rows = [
        row("plain: every edge, the whole model, all logits", everything, plain),
        row("skip receivers that nothing reads", tested, plain),
        row("only what lies downstream of the receiver", tested, suffix),
        row("only nodes and ports that kept edges reach", tested, live),
        row("only positions that matter, logits of answers", tested, engine),
        row("speculation's removals in vain", tested, engine, evaluated=variants),
    ]
    for before, after in pairwise(rows[:5]):
        for what in ("edge_tests", "node_evaluations", "flops"):
            assert after[what] <= before[what], (before, after)
    assert rows[5]["removals_evaluated"] == run.cost.variants
    nodes, flops = all_evaluated(problem, run.trace, count, run.cost.forward_passes)
    last = {
        "idea": "removals made final, and runs from scratch",
        "node_evaluations": nodes,
        "flops": flops,
    }
    return [*rows, rows[5] | last]


def row(idea: str, tests: Tensor, cost: Costs, *, evaluated: Tensor | None = None) -> dict:
    """The work of so many tests of edges into each receiver."""
    times = tests if evaluated is None else evaluated
    return {
        "idea": idea,
        "edge_tests": int(tests.sum()),
        "removals_evaluated": int(times.sum()),
        "node_evaluations": int((times * cost.nodes).sum()),
        "flops": float((times * cost.flops).sum()),
    }


def speculation(problem: ew.Problem, run: ew.Run, part: float, n: int) -> dict[str, Any]:
    """Seconds for n decisions after a part of the run, one at a time and in batches."""
    earlier = run.trace[: int(part * len(run.trace))]
    seconds, removals, decided = {}, {}, {}
    for how in ("batches", "one_at_a_time"):
        watch = Watch(most=n, earlier=earlier)
        with evaluated() as count, one_at_a_time(how == "one_at_a_time"):
            watch.run(problem, threshold=THRESHOLD)
        assert count.started is not None
        seconds[how] = watch.at[-1] - count.started
        removals[how] = sum(count.variants.values())
        decided[how] = [(decision.edge, decision.kept) for decision in watch.taken]
    assert decided["batches"] == decided["one_at_a_time"]
    return {
        "after_decisions": len(earlier),
        "decisions": len(decided["batches"]),
        "seconds": seconds,
        "removals_evaluated": removals,
        "times_faster": seconds["one_at_a_time"] / seconds["batches"],
    }


@contextmanager
def one_at_a_time(really: bool) -> Iterator[None]:
    """Evaluate one removal at a time."""
    before = Removals.most_at_once
    if really:
        Removals.most_at_once = lambda self, *_: 1  # type: ignore[method-assign]
    try:
        yield
    finally:
        Removals.most_at_once = before  # type: ignore[method-assign]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Count the work that each idea saves.")
    parser.add_argument("--decisions", type=int, default=500, help="timed at each place")
    parser.add_argument("--tiny", action="store_true", help="a tiny problem; writes no result")
    main(parser.parse_args())
