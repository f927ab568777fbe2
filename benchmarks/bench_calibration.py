"""Are edges that many bootstrap circuits have really used by the program?

Command:  python benchmarks/bench_calibration.py [--tiny]      (1 thread: about 5 minutes)

Compiled programs, whose structural truth is known from their weights. For each program and method:
`ew.stability` over prompts, 40 replicates of 12 prompts, ACDC at thresholds 0.001 and 0.1, eap-ig
keeping as many edges as are true, and ACDC over thresholds too (a factor of 10 up or down). Edges
of all programs are put into bins by their inclusion; a bin's frequency is the share of its edges
that are true. Beside it, on the same programs: what acdc-test keeps that is false (its error rate
is 5 %), how much of what ACDC keeps at 1e-4 it keeps too, and how often certified edges are true.
Writes benchmarks/results/calibration.json and the table in docs/stability.md between its markers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import edgewise as ew
from edgewise.evaluation.inference import proportion_interval
from results import write

PROGRAMS = (
    "tracr-xproportion",
    "tracr-sort",
    "tracr-histogram",
    "tracr-count-less-frequent",
    "tracr-detect",
    "tracr-parity",
    "tracr-remove-duplicates",
    "tracr-pair-balance",
)
BINS = ((0.0, 0.0), (0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0), (1.0, 1.0))
PAGE = Path(__file__).parent.parent / "docs" / "stability.md"
START, END = "<!-- table: bench_calibration.py -->", "<!-- end of table -->"
PROMPTS, REPLICATES, SEED = 12, 40, 0


def methods(truth: ew.Circuit) -> dict[str, dict[str, Any]]:
    """What is asked of `ew.stability`, by the name of a column."""
    return {
        "acdc, 0.001": {"method": "acdc", "threshold": 0.001},
        "acdc, 0.1": {"method": "acdc", "threshold": 0.1},
        "acdc, over thresholds": {
            "method": "acdc",
            "threshold": 0.03,
            "over": ("prompts", "threshold"),
            "spread": 10.0,
        },
        "eap-ig, true size": {"method": "eap-ig", "edges": truth.n_edges},
    }


def measured(program: str, replicates: int) -> list[dict[str, Any]]:
    """A row for each method on one program: the inclusion of every edge, and whether it is true."""
    task = ew.load_task(program, n=PROMPTS, seed=SEED)
    truth, exists = task.truth, task.problem.graph.exists
    assert truth is not None
    rows = []
    for name, asked in methods(truth).items():
        found = ew.stability(task.problem, n=replicates, seed=SEED, core=0.4, **asked)
        rows.append(
            {
                "program": program,
                "method": name,
                "n_prompts": len(task.problem.pairs),
                "jaccard": found.jaccard.mean,
                "inclusion": found.inclusion[exists].tolist(),
                "true": truth.keep[exists].tolist(),
            }
        )
    return rows


def tested(program: str) -> dict[str, Any]:
    """What acdc-test keeps with 50 prompts, against truth and ACDC; and certificates."""
    task = ew.load_task(program, seed=SEED)
    truth = task.truth
    assert truth is not None
    run, plain = ew.acdc_test(task.problem), ew.acdc(task.problem, threshold=1e-4)
    certified = ew.certify(task.problem, "eap-ig", edges=truth.n_edges, n=200, seed=SEED)
    false = truth.complement()
    return {
        "program": program,
        "n_prompts": len(task.problem.pairs),
        "kept": run.circuit.n_edges,
        "kept_false": (run.circuit & false).n_edges,
        "false_tested": sum(decision.edge in false for decision in run.trace),
        "acdc_kept": plain.circuit.n_edges,
        "acdc_kept_too": (plain.circuit & run.circuit).n_edges,
        "true": truth.n_edges,
        "certified_kept": certified.kept(1).n_edges,
        "certified_kept_true": (certified.kept(1) & truth).n_edges,
        "certified_removed": certified.removed(1).n_edges,
        "certified_removed_false": (certified.removed(1) & false).n_edges,
    }


def binned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each method and bin: how many edges, their mean inclusion, how many are true."""
    result = []
    for name in dict.fromkeys(row["method"] for row in rows):
        of = [row for row in rows if row["method"] == name]
        edges = [e for row in of for e in zip(row["inclusion"], row["true"], strict=True)]
        for low, high in BINS:
            inside = [e for e in edges if (low < e[0] < high) or (low == high == e[0])]
            inside += [e for e in edges if low < high and e[0] == high and high not in (0.0, 1.0)]
            n, true = len(inside), sum(is_true for _, is_true in inside)
            ends = proportion_interval(true, n, 0.95) if n else (0.0, 1.0)
            mean = sum(p for p, _ in inside) / n if n else None
            result.append(
                {"method": name, "bin": [low, high], "edges": n, "true": true}
                | {"mean_inclusion": mean, "low": ends[0], "high": ends[1]}
            )
    return result


def table(bins: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]]) -> str:
    """The Markdown tables."""
    names = list(dict.fromkeys(cell["method"] for cell in bins))
    lines = ["| inclusion | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for low, high in BINS:
        label = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        cells = []
        for name in names:
            cell = next(c for c in bins if c["method"] == name and c["bin"] == [low, high])
            share = (
                f"{cell['true'] / cell['edges']:.2f} ({cell['edges']})" if cell["edges"] else "–"
            )
            cells.append(share)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    total = {key: sum(row[key] for row in tests) for key in tests[0] if key != "program"}
    lines += [
        "",
        f"On 50 prompts of each (fewer where there are no more), `acdc-test` kept {total['kept']} "
        f"edges; {total['kept_false']} of the {total['false_tested']} untrue edges it tested were "
        f"among them, and {total['acdc_kept_too']} of the {total['acdc_kept']} edges that `acdc` "
        f"keeps at 1e-4. Of {total['certified_kept']} edges of `eap-ig` certified kept against one "
        f"deletion {total['certified_kept_true']} are true, of {total['certified_removed']} "
        f"certified removed {total['certified_removed_false']} are untrue.",
    ]
    return "\n".join(lines)


def main(*, tiny: bool) -> None:
    """Measure, and write the JSON and the table; with `tiny`, one program, and print only."""
    torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
    programs = PROGRAMS[:1] if tiny else PROGRAMS
    rows = [row for name in programs for row in measured(name, 6 if tiny else REPLICATES)]
    tests = [tested(name) for name in programs]
    from edgewise.work.store import environment

    values = {
        "seed": SEED,
        "replicates": 6 if tiny else REPLICATES,
        "bins": binned(rows),
        "tests": tests,
        "per_program": [
            {key: row[key] for key in ("program", "method", "n_prompts", "jaccard")} for row in rows
        ],
    }
    where = environment(ew.load_model(PROGRAMS[0]))
    if tiny:
        write("calibration", where, values, folder=None)
        return
    write("calibration", where, values)
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(START)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{START}\n{table(values['bins'], tests)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="one program, and nothing is written")
    main(tiny=parser.parse_args().tiny)
