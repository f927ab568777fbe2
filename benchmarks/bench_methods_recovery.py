"""How well does each method find what the weights of compiled programs really use?

Command:  python benchmarks/bench_methods_recovery.py [--trained]   (1 thread: 4 minutes; 30 with)
          … --methods edge-pruning --programs or-gate tracr-sort    (these again, the rest as it is)

Every bundled program and gate, every method, ablations zero, corrupted and mean; the task's own
metric. The number is the area under the ROC curve of a method's edges against structural truth:
score methods by their absolute scores (ties count half), ACDC and its variants by their circuits at
six thresholds from 1e-5 to 1, and the trained ones (--trained, 1,000 steps) by their masks, highest
first. 1 is perfect, 0.5 is chance; the table has the mean over programs. Writes
benchmarks/results/methods_recovery.json and the table in docs/methods.md between its two markers.
"""

import argparse
import itertools
import json
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.errors import EdgewiseError
from edgewise.methods import METHODS
from edgewise.model import PROGRAMS
from edgewise.recipes import THRESHOLDS, TRAINED
from results import FOLDER, write_result

ABLATIONS = ("zero", "corrupted", "mean")
PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
RESULTS = FOLDER / "methods_recovery.json"
START, END = "<!-- table: bench_methods_recovery.py -->", "<!-- end of table -->"


def main(methods: Sequence[str], programs: Sequence[str]) -> None:
    """Run every cell of these, and write the JSON, with what it has of others, and the table."""
    torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
    fresh = {key(cell): cell for name in programs for cell in cells(name, methods)}
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"] if RESULTS.exists() else []
    known = {key(cell): cell for cell in before} | fresh
    order = {(name, ref, m): None for name in PROGRAMS for ref in ABLATIONS for m in ("", *METHODS)}
    rows = [known[k] for k in order if k in known]
    model = ew.load_model("tracr-reverse")
    write_result("methods_recovery", model, {"trained": TRAINED, "cells": rows})
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(START)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{START}\n{table(rows)}\n{END}{tail}", encoding="utf-8")


def key(cell: dict[str, Any]) -> tuple[str, str, str]:
    """What a cell is about; a problem that there is not has no method."""
    return cell["program"], cell["ablation"], cell.get("method", "")


def cells(program: str, methods: Sequence[str]) -> list[dict[str, Any]]:
    """These methods and every ablation on one program."""
    found = []
    for ablation in ABLATIONS:
        try:
            task = ew.load_task(program, ablation=ablation)
        except EdgewiseError as reason:  # a gate has no corrupted prompts
            found.append({"program": program, "ablation": ablation, "refused": str(reason)})
            continue
        assert task.truth is not None
        for method in methods:
            cell = {"program": program, "ablation": ablation, "method": method}
            try:
                cell["auc"] = area(task.problem, method, task.truth)
            except EdgewiseError as reason:  # such as HISP where the gradient is zero
                cell["refused"] = str(reason)
            found.append(cell)
    return found


def area(problem: ew.Problem, method: str, truth: ew.Circuit) -> float:
    """The area under the ROC curve of a method against the truth."""
    if method.startswith("acdc"):
        runs = [ew.discover(problem, method, threshold=t) for t in THRESHOLDS]
        points = [ew.recovery(run, truth).points[0].edges for run in runs]
        return _under([(p.fpr, p.tpr) for p in points])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = ew.discover(problem, method, **TRAINED.get(method, {})).scores
    by = "signed" if method in TRAINED else "absolute"  # log-odds: low ones are sure to go
    return ew.score_recovery(scores, truth, by=by).roc_auc


def _under(points: list[tuple[float, float]]) -> float:
    """The area under points and the corners, joined by straight lines, the best at each place."""
    curve = sorted({(0.0, 0.0), *points, (1.0, 1.0)})
    best, line = 0.0, []
    for fpr, tpr in curve:
        best = max(best, tpr)
        line.append((fpr, best))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(line))


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown table: the mean over programs, and the worst program."""
    lines = [
        "| method | " + " | ".join(ABLATIONS) + " | worst |",
        "|---|" + "---|" * (len(ABLATIONS) + 1),
    ]
    for method in METHODS:
        of = [r for r in rows if r.get("method") == method]
        if not of:
            continue
        shown = []
        for ablation in ABLATIONS:
            values = [r["auc"] for r in of if r["ablation"] == ablation and "auc" in r]
            shown.append(f"{statistics.mean(values):.3f} ({len(values)})" if values else "–")
        scored = [r for r in of if "auc" in r]
        worst = min(scored, key=lambda r: r["auc"], default=None)
        last = "–"
        if worst is not None:
            last = f"{worst['auc']:.2f} {worst['program']}, {worst['ablation']}"
        lines.append(f"| `{method}` | {' | '.join(shown)} | {last} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trained", action="store_true", help="the trained methods too")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="these again, not all")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, help="on these, not all")
    asked = parser.parse_args()
    every = [name for name in METHODS if asked.trained or name not in TRAINED]
    main(asked.methods or every, asked.programs or PROGRAMS)
