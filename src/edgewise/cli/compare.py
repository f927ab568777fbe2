"""`edgewise compare`: what circuits share, and what only one of them sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgewise.cli.options import AllowCode, Force, Json, ProblemOptions, with_problem, with_settings


@with_problem
@with_settings
def compare(
    problem: ProblemOptions,
    settings: dict[str, Any],
    found: Annotated[
        list[Path] | None, typer.Argument(help="Run folders and circuit files to compare.")
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="Find circuits and compare them, over: corruption, template, data, metric, "
            "ablation, seed, model. Several with commas; values after =: metric=kl,nll."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How --over finds circuits. Default: acdc.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="Names for the circuits given, with commas.")
    ] = None,
    cross: Annotated[
        bool,
        typer.Option("--cross", help="Judge every circuit on every problem, held-out prompts."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the runs of --over; a stopped one goes on.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write a page into.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Find as many circuits as --over asks for.")
    ] = False,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Compare circuits: edges, nodes and groups, scores, faithfulness.

    Those of finished runs and circuit files, or those that a method finds in several settings:

    edgewise compare runs/a runs/b circuit.json --report page.html

    edgewise compare --task ioi --model gpt2 --over corruption --threshold 0.05 --out runs/ioi
    """
    from edgewise.cli import comparing, show
    from edgewise.cli.comparison import print_comparison
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_file, check_output_place

    check_output_file(report, overwrite=force)
    check_output_place(out)
    if over:
        comparing.refuse_given_circuits(found, names)
        asked = comparing.Asked(problem, over, method or "acdc", settings, out, cross, yes)
        comparison, runs = comparing.find_and_compare(asked, quiet=json)
    else:
        comparing.refuse_finding(settings, method=method, out=out, yes=yes)
        comparison = comparing.compare_given(
            found or [], names, problem, cross=cross, allow_code=allow_code, quiet=json
        )
        runs = {}
    if report is not None:
        write_report(comparison, report)
    if json:
        where = {"runs": runs, "report": None if report is None else str(report)}
        show.as_json(comparison.to_json() | where)
        return
    print_comparison(comparison)
    show.wrote(out, report)
