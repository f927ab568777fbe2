"""How much of each compiled program's structural truth does ACDC find, per ablation?

Command:  python benchmarks/bench_programs.py        (2 cores, about a minute)

Every bundled program, ablations zero, corrupted and mean, threshold 1e-3, both head orders. Writes
benchmarks/results/programs.json and the table in docs/programs.md between its two markers.
"""

from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.model import PROGRAMS
from results import write_result

THRESHOLD = 1e-3
ABLATIONS = ("zero", "corrupted", "mean")
PAGE = Path(__file__).parent.parent / "docs" / "programs.md"
START, END = "<!-- table: bench_programs.py -->", "<!-- end of table -->"


def main() -> None:
    """Run every cell, write the JSON and the table."""
    torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
    rows = [row(name) for name in PROGRAMS if not name.endswith("-gate")]
    write_result("programs", ew.load_model("tracr-reverse"), {"threshold": THRESHOLD, "rows": rows})
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(START)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{START}\n{table(rows)}\n{END}{tail}", encoding="utf-8")


def row(name: str) -> dict[str, Any]:
    """One program: sizes, and per ablation what ACDC found of the truth."""
    result: dict[str, Any] = {"program": name}
    for ablation in ABLATIONS:
        task = ew.load_task(name, ablation=ablation)
        assert task.truth is not None
        result |= {"edges": task.problem.graph.n_edges, "true_edges": task.truth.n_edges}
        found = {}
        for order in ("descending", "ascending"):
            run = ew.acdc(task.problem, threshold=THRESHOLD, head_order=order)
            match = ew.recovery(run, task.truth).edges
            found[order] = {
                "found": match.true_positives,
                "others": match.false_positives,
                "loss": run.measurements["faithfulness"]["circuit"],
                "edge_tests": run.cost.edge_tests,
                "seconds": run.cost.seconds,
            }
        result[ablation] = found
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown table: found + others for each ablation, head order descending."""
    lines = ["| program | edges | true | zero | corrupted | mean |", "|---|---|---|---|---|---|"]
    for r in rows:
        cells = [
            f"{r[k]['descending']['found']} + {r[k]['descending']['others']}" for k in ABLATIONS
        ]
        lines.append(f"| {r['program']} | {r['edges']} | {r['true_edges']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
