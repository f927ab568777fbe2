"""`edgewise test`: hypothesis tests of a circuit."""

from __future__ import annotations

from typing import Annotated

import typer

import edgewise as ew
from edgewise.arguments import check_choice
from edgewise.cli import console
from edgewise.cli.options import (
    AllowCode,
    CircuitFile,
    File,
    Force,
    Json,
    ProblemOptions,
    Random,
    Report,
    Split,
)
from edgewise.cli.problems import check_split, circuit_and_task, held_out
from edgewise.documents import check_output_files


def hypothesis_tests(
    *,
    circuit: CircuitFile,
    problem: ProblemOptions,
    split: Split = "test",
    alpha: Annotated[float, typer.Option(help="Error rate of the tests together.")] = 0.05,
    epsilon: Annotated[float, typer.Option(help="A difference that does not count.")] = 0.1,
    quantile: Annotated[float, typer.Option(help="Share of random ones to outdo.")] = 0.9,
    random: Random = 100,
    permutations: Annotated[int, typer.Option(help="How many permutations.")] = 1000,
    max_edges: Annotated[
        int | None, typer.Option(help="Minimality: test so many edges, chosen at random.")
    ] = None,
    correction: Annotated[
        str, typer.Option(help="Several tests: holm, benjamini-hochberg, none.")
    ] = "holm",
    out: File = None,
    report: Report = None,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Test hypotheses about a circuit.

    Equivalence, independence, minimality, sufficiency, partial necessity.

    edgewise test runs/reverse
    """
    check_split(split)
    check_choice("correction", correction, ("holm", "benjamini-hochberg", "none"))
    check_output_files(out, report, overwrite=force)
    with console.spinner("loading", quiet=json):
        tested, task = circuit_and_task(circuit, problem, allow_code=allow_code)
    test_prompts = held_out(task) if split == "test" else None
    with console.progress_bar("testing", quiet=json) as on_progress:
        result = ew.hypothesis_tests(
            test_prompts or task.problem,
            tested,
            alpha=alpha,
            epsilon=epsilon,
            quantile=quantile,
            n_random=random,
            n_permutations=permutations,
            max_edges=max_edges,
            correction=correction,  # type: ignore[arg-type]  # checked above
            seed=problem.seed or 0,
            split="held-out" if test_prompts else "discovery",
            on_progress=on_progress,
        )
    console.deliver(result, out=out, report=report, json=json)
