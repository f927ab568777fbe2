"""What results say of runs: their cost and what they found, and whether two agree."""

from typing import Any

import torch

import edgewise as ew
from problems import Watch


def described(run: ew.Run) -> dict[str, Any]:
    """What one precision took and found."""
    return {
        "seconds": run.cost.seconds,
        "ms_per_edge_test": 1000 * run.cost.seconds / run.cost.edge_tests,
        "edges_kept": run.circuit.n_edges,
        "edge_tests": run.cost.edge_tests,
        "edges_skipped": run.cost.edges_skipped,
        "removals_evaluated": run.cost.variants,
        "margin": run.margin,
        "decisions_by_rung": run.rungs,
        "threshold_interval": run.threshold_interval,
        "peak_memory_bytes": run.cost.peak_memory_bytes,
    }


def agreement(one: ew.Run, other: ew.Run) -> dict[str, Any]:
    """Whether two runs found the same circuit, and by the same decisions."""
    decisions = [[(d.edge, d.kept) for d in run.trace] for run in (one, other)]
    return {
        "circuits": torch.equal(one.circuit.keep, other.circuit.keep),
        "edges_in_one_only": (one.circuit.keep ^ other.circuit.keep).sum().item(),
        "decisions": decisions[0] == decisions[1],
    }


def extrapolated(watch: Watch, start: float, n_edges: int) -> dict[str, Any]:
    """How far a stopped run got, and its seconds if the rest went as fast as all or the last part.

    The last part is the last quarter of its time.
    """
    if watch.finished:
        return {"edges_done": n_edges}
    pairs = list(zip(watch.at, watch.done, strict=False))  # the decision it stopped at has no count
    if len(pairs) < 2:
        return {"edges_done": watch.done[-1] if watch.done else 0}
    (first, n_first), (end, n_end) = pairs[0], pairs[-1]
    late, n_late = next(p for p in pairs if p[0] >= first + 0.75 * (end - first))
    mean = (end - first) / max(n_end - n_first, 1)
    last = (end - late) / max(n_end - n_late, 1)
    return {
        "edges_done": n_end,
        "seconds_for_all_at_mean_speed": end - start + (n_edges - n_end) * mean,
        "seconds_for_all_at_last_speed": end - start + (n_edges - n_end) * last,
    }
