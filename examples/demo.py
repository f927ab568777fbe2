"""Find and score the two compiled circuits of the ACDC paper, offline, and write a report.

Question: does ACDC with zero ablation recover what Conmy et al. (2023) report for tracr-reverse and
tracr-xproportion, on their own data?
Command:  make demo        (or: python examples/demo.py [FOLDER])
Expected: a few seconds after installation; every line says "agrees".
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import edgewise as ew
from edgewise.evaluation import against_known

# Threshold -> edges kept in the paper's sweeps.
PUBLISHED = {
    "tracr-reverse": {1e-5: 15, 1e-4: 15, 1e-3: 15, 1e-2: 15, 0.1: 15},
    "tracr-xproportion": {1e-5: 10, 1e-3: 10, 0.01: 10, 0.05: 8, 0.1: 2},
}


def main(folder: Path) -> int:
    """Run everything, print a table, write the page; 1 if a number differs from the paper's."""
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "τ", "kept", "paper", "found", "others", "l2", ""):
        table.add_column(column, no_wrap=True)
    shown, surprises = [], 0
    for name, expected in PUBLISHED.items():
        task = ew.load_task(name, data="paper")
        assert task.published is not None
        for threshold, n_edges in expected.items():
            run = ew.acdc(task.problem, threshold=threshold)
            match = ew.recovery(run, task.published).edges
            agrees = run.circuit.n_edges == n_edges and match.false_positives == 0
            surprises += not agrees
            table.add_row(
                name,
                f"{threshold:g}",
                f"{run.circuit.n_edges}/{run.circuit.graph.n_edges}",
                str(n_edges),
                f"{match.true_positives}/{match.n_true}",
                str(match.false_positives),
                f"{run.measurements['faithfulness']['circuit']:.2g}",
                "agrees" if agrees else "DIFFERS",
            )
            if threshold in (0.01, 0.05):
                known = against_known(run, task.published, task.truth)
                shown.append(run.with_(measurements=known))
    console = Console()
    console.print(table)
    page = ew.report(shown, folder / "report.html")
    console.print(f"Open {page} in a browser to see the circuits.", soft_wrap=True)
    return 1 if surprises else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
