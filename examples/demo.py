"""Find and score circuits offline, of two compiled programs and a language model; write a report.

Questions: does ACDC with zero ablation recover what Conmy et al. (2023) report for tracr-reverse
and tracr-xproportion, on their own data? Which few connections does the bundled language model use
to say who is given the drink (indirect object identification)?
Command:  make demo        (or: python examples/demo.py [FOLDER])
Expected: some ten seconds after installation; every line says "agrees", and the language model's
circuit keeps over 0.9 of the behaviour on prompts it was not found on.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import edgewise as ew
from edgewise.evaluation import against_known
from edgewise.tasks import node_groups

# Threshold -> edges kept in the paper's sweeps.
PUBLISHED = {
    "tracr-reverse": {1e-5: 15, 1e-4: 15, 1e-3: 15, 1e-2: 15, 0.1: 15},
    "tracr-xproportion": {1e-5: 10, 1e-3: 10, 0.01: 10, 0.05: 8, 0.1: 2},
}


# Kept edges of a circuit that is small enough to read.
IOI_THRESHOLD = 0.03


def main(folder: Path) -> int:
    """Run everything, print what is found, write the page; 1 if a number is not as expected."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    programs, surprises = paper_programs(console)
    ioi, faithful = language_model(console)
    page = ew.report([ioi, *programs], folder / "report.html")
    console.print(f"Open {page} in a browser to see the circuits.", soft_wrap=True)
    return 1 if surprises or not faithful else 0


def paper_programs(console: Console) -> tuple[list[ew.Run], int]:
    """The compiled programs: runs to show, and how many differ from the paper's."""
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
    console.print(table)
    return shown, surprises


def language_model(console: Console) -> tuple[ew.Run, bool]:
    """IOI on the bundled language model: the run, and whether its circuit is faithful elsewhere."""
    task = ew.load_task("ioi", "small-lm")
    run = ew.acdc(task.problem, threshold=IOI_THRESHOLD)
    held_out = ew.faithfulness(task.test, run.circuit)
    assert held_out.normalized is not None  # the empty circuit is another thing than the model
    example = task.problem.model.tokenizer.decode(task.problem.pairs.clean[0].tolist())
    console.print(
        f"\nioi on small-lm, “{example}…”: {run.circuit.n_edges} of {run.circuit.graph.n_edges} "
        f"edges keep {held_out.normalized:.2f} of the behaviour on {len(task.test.pairs)} held-out "
        f"prompts ({run.cost.seconds:.1f} s).",
        soft_wrap=True,
    )
    measured = {**run.measurements, "held_out": held_out.to_json()}
    groups = node_groups(task.problem, run.circuit)
    assert groups is not None  # the heads of this model have roles
    for name, heads in groups["groups"].items():
        console.print(f"  {name}: {', '.join(heads)}")
    measured["groups"] = groups
    return run.with_(measurements=measured), held_out.normalized > 0.9


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
