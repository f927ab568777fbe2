"""`edgewise evaluate`: judge a circuit on prompts that discovery has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.options import AllowCode, Force, Json, ProblemOptions, with_problem
from edgewise.errors import SettingError, quoted

_SPLITS = ("test", "discovery")
_COUNTINGS = ("plain", "paper")


@with_problem
def evaluate(
    circuit: Annotated[Path, typer.Argument(help="A run folder, or a circuit file.")],
    problem: ProblemOptions,
    split: Annotated[
        str, typer.Option(help="Prompts to evaluate on: test (held out) or discovery.")
    ] = "test",
    random: Annotated[
        int, typer.Option(help="Random circuits of its size, of each kind, to compare with.")
    ] = 20,
    knock_outs: Annotated[
        int, typer.Option(help="Random sets of its nodes to knock out in circuit and model.")
    ] = 10,
    greedy: Annotated[
        int, typer.Option(help="Grow a set to knock out, to this many nodes, as bad as can be.")
    ] = 0,
    minimality: Annotated[
        bool, typer.Option("--minimality/--no-minimality", help="Remove each edge alone.")
    ] = True,
    curve: Annotated[
        bool, typer.Option("--curve", help="A run's scores at MIB's ten sizes: CPR and CMD.")
    ] = False,
    nodes: Annotated[
        str, typer.Option(help="How recovery counts nodes: plain, or paper (as its code did).")
    ] = "plain",
    random_seed: Annotated[
        int, typer.Option(help="Seed of the random circuits and knock-outs.")
    ] = 0,
    report: Annotated[
        Path | None, typer.Option(help="HTML file for a report of the run and its evaluation.")
    ] = None,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Say how good a circuit is, on prompts that discovery has not seen where there are any.

    Faithfulness, beside random circuits of its size; completeness; minimality; recovery of a
    published circuit or of structural truth, if one is known; and what that means, in sentences.

    edgewise evaluate runs/reverse
    edgewise evaluate circuit.json --task tracr-reverse
    """
    from edgewise.arguments import check_choice, whole
    from edgewise.cli import judged, show
    from edgewise.cli.problems import build, circuit_and_problem, from_run
    from edgewise.evaluation import curve as curve_of
    from edgewise.evaluation import evaluate as judge
    from edgewise.evaluation import recovery, score_recovery
    from edgewise.record import Run
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_file

    if split not in _SPLITS:
        raise SettingError(f"split is {quoted(split)}; it must be 'test' or 'discovery'.")
    check_choice("node counting", nodes, _COUNTINGS)
    for name, number in (("random", random), ("knock-outs", knock_outs), ("greedy", greedy)):
        whole(f"--{name}", number, 0)
    if (curve or report is not None) and circuit.is_file():
        raise SettingError("--curve and --report need a run folder; a circuit file has no scores.")
    check_output_file(report, overwrite=force)
    run = None
    with show.spinner("loading", quiet=json):
        if circuit.is_dir():
            run = Run.load(circuit)
            found = run.circuit
            named = problem.task is not None or problem.pairs is not None
            built = build(problem) if named else from_run(run, allow_code=allow_code)
        else:
            found, built = circuit_and_problem(circuit, problem, allow_code=allow_code)
    held_out = split == "test" and built.test is not None
    on = built.test if held_out and built.test is not None else built.problem
    known = {"published": built.published, "structural truth": built.truth}
    same = {k: c for k, c in known.items() if c is not None and c.graph == found.graph}
    against = {k: recovery(found, c, nodes=nodes) for k, c in same.items()}  # type: ignore[arg-type]
    with show.progress_bar("evaluating", quiet=json) as bar:
        result = judge(
            on,
            found,
            split="test" if held_out else "discovery",
            random=random,
            knock_outs=knock_outs,
            greedy=greedy,
            minimal=minimality,
            seed=random_seed,
            on_progress=bar,
        )
        sizes = curve_of(on, run, on_progress=bar) if curve and run is not None else None
    ranks = {}
    if run is not None:
        ranks = {
            k: score_recovery(run, c) for k, c in same.items() if 0 < c.n_edges < c.graph.n_edges
        }
    if report is not None and run is not None:
        judgement = {**result.to_json(), "curve": None if sizes is None else sizes.to_json()}
        write_report([run.with_(measurements={"evaluation": judgement})], report)
    if json:
        show.as_json(judged.as_json(result, against, ranks, sizes))
    else:
        judged.print_evaluation(result, against, ranks, sizes)
        show.wrote(report)
