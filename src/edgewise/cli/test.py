"""`edgewise test`: hypothesis tests of a circuit."""

from __future__ import annotations

from typing import Annotated

import edgewise as ew
from edgewise.arguments import check_choice
from edgewise.cli.console import Output
from edgewise.cli.options import SPLITS, AllowCode, CircuitFile, Random, Split, option
from edgewise.cli.problems import ProblemRequest, circuit_and_task, held_out


def hypothesis_tests(
    *,
    circuit: CircuitFile,
    problem: ProblemRequest,
    split: Split = "test",
    alpha: float = option(0.05, "Error rate of the tests together."),
    epsilon: float = option(0.1, "A difference that does not count."),
    quantile: float = option(0.9, "Share of random ones to outdo."),
    random: Random = 100,
    permutations: int = option(1000, "How many permutations."),
    max_edges: int | None = option(None, "Minimality: test so many edges, chosen at random."),
    correction: str = option("holm", "Several tests: holm, benjamini-hochberg, none."),
    allow_code: AllowCode = False,
    output: Annotated[Output, "out", "report", "force", "json"],
) -> None:
    """Test hypotheses about a circuit.

    Equivalence, independence, minimality, sufficiency, partial necessity.

    edgewise test runs/reverse
    """
    check_choice("split", split, SPLITS)
    check_choice("correction", correction, ("holm", "benjamini-hochberg", "none"))
    tested, task = circuit_and_task(circuit, problem, output, allow_code=allow_code)
    test = held_out(task) if split == "test" else None
    with output.progress("testing") as on_progress:
        result = ew.hypothesis_tests(
            test or task.problem,
            tested,
            alpha=alpha,
            epsilon=epsilon,
            quantile=quantile,
            n_random=random,
            n_permutations=permutations,
            max_edges=max_edges,
            correction=correction,  # type: ignore[arg-type]  # checked above
            seed=problem.seed or 0,
            split="discovery" if test is None else "held-out",
            on_progress=on_progress,
        )
    output.deliver(result)
