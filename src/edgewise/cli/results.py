"""Runs and measurements as the command line prints them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgewise as ew
from edgewise.cli import console

if TYPE_CHECKING:
    from edgewise.methods.forecast import Forecast


def run_json(run: ew.Run, out: Path | None, report: Path | None) -> dict[str, Any]:
    """A run as the JSON document of `edgewise discover --json`."""
    return {
        "method": run.method,
        "settings": dict(run.settings),
        "n_edges": run.circuit.n_edges,
        "n_edges_total": run.circuit.graph.n_edges,
        "edges": [edge.name for edge in run.circuit.edges],
        "margin": run.margin,
        "notes": list(run.notes),
        "threshold_interval": _interval_json(run),
        "worst_error": run.worst_error,
        "measurements": dict(run.measurements),
        "cost": asdict(run.cost),
        "out": None if out is None else str(out),
        "report": None if report is None else str(report),
    }


def _interval_json(run: ew.Run) -> list[float | None] | None:
    """JSON has no infinity: an end that is not there is null."""
    if run.threshold_interval is None:
        return None
    return [end if math.isfinite(end) else None for end in run.threshold_interval]


def print_run(run: ew.Run, out: Path | None, report: Path | None) -> None:
    """A run for reading: the edges, what the circuit keeps, what it cost."""
    circuit, cost = run.circuit, run.cost
    rows = [(edge.name, console.number(run.scores.of(edge))) for edge in circuit.edges[:40]]
    if rows:
        console.table(run.title, ("edge", run.scores.meaning), rows)
    if circuit.n_edges > len(rows):
        console.OUT.print(f"… and {circuit.n_edges - len(rows)} more")
    faith = run.measurements["faithfulness"]
    console.OUT.print(
        f"\n{circuit.n_edges} of {circuit.graph.n_edges} edges kept. {faith['metric']} "
        f"({faith['unit']}): circuit {console.number(faith['circuit'])}, full model "
        f"{console.number(faith['full'])}, empty circuit {console.number(faith['empty'])}."
    )
    for name, label in (("recovery", "published"), ("recovery_of_truth", "structural truth")):
        if name in run.measurements:
            edges = run.measurements[name]["points"][0]["edges"]
            console.OUT.print(
                f"{label}: {edges['true_positives']} of its {edges['n_true']} edges found, "
                f"{edges['false_positives']} others."
            )
    taken_over, since = "", ""
    if cost.taken_over:
        taken_over, since = f" ({cost.taken_over:,} taken over from the stopped run)", " since"
    work = f"{cost.forward_passes} forward and {cost.backward_passes} backward passes"
    if cost.edge_tests:
        skipped = f"{cost.edges_skipped:,} skipped"
        work = f"{cost.edge_tests:,} edges tested{taken_over}, {skipped}"
    console.OUT.print(
        f"{work}, {cost.seconds:.2f} s{since}"
        + ("" if run.margin is None else f", closest decision {run.margin:.2g} from the threshold")
    )
    for note in run.notes:
        console.OUT.print(f"Note: {note}")
    interval = ew.reporting.text.thresholds(run)
    if interval is not None:
        console.OUT.print(f"same circuit for thresholds in {interval}")
    console.wrote(out, report)


def forecast_json(found: Forecast) -> dict[str, Any]:
    """A forecast as the JSON document of `edgewise discover --estimate --json`."""
    return asdict(found)


def print_forecast(found: Forecast) -> None:
    """What a run will take, and what that is known from."""
    bound = "at most " if found.at_most else "about "
    console.OUT.print(
        f"{bound}{_duration(found.seconds)}, and at most {found.memory_bytes / 1e6:,.0f} MB beside "
        f"the model: {found.edge_tests:,} edge tests, {found.edges_kept:,} edges kept"
    )
    console.OUT.print(
        f"(The whole run, made for this: {found.sampled_tests} tests.)"
        if found.finished
        else f"(From every edge's attribution, and the first {found.sampled_tests} tests of the "
        "run. Expect it within a factor of two.)"
    )


def _duration(seconds: float) -> str:
    for limit, unit in ((90, "s"), (90, "minutes"), (48, "hours")):
        if seconds < limit:
            return f"{seconds:.2g} {unit}"
        seconds /= 60 if unit != "hours" else 24
    return f"{seconds:.2g} days"
