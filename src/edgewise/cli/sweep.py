"""`edgewise sweep`: methods, settings and problems in all combinations, into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.options import Force, Json, Typed, with_values


@with_values
def sweep(
    typed: Typed,
    method: Annotated[
        list[str] | None, typer.Option(help="How to find circuits. Default: acdc.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that keeps every point; may hold some already.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes. Default: by cores, free memory and the first points."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    apart: Annotated[
        bool,
        typer.Option("--apart", help="Share no work, so that a kill loses at most a decision."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Compute points again that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load every problem, list the points, find nothing.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find circuits in all combinations of what is given, and judge them on held-out prompts.

    Options of problems and methods take several values: repeated, with commas, or as a range
    FIRST:LAST:HOW-MANY with log or lin behind. A setting goes to the methods that have it.

    Stopped in any way, the same command goes on; another one into the same folder adds to it. Exit
    code 1 if points failed.

    edgewise sweep --task ioi,greater-than --method acdc --threshold 0.01:1:9log --out sweeps/a

    edgewise sweep --task ioi --method eap,eap-ig --edges 10,50,200 --seed 0,1,2 --out sweeps/b
    """
    from edgewise.cli import sweeping
    from edgewise.storage import check_output_file, check_output_place

    check_output_file(report, overwrite=force)
    check_output_place(out)
    asked = sweeping.parse(typed, method or ["acdc"])
    if dry_run:
        sweeping.list_points(asked, out, json=json)
        return
    options = sweeping.How(workers=workers, apart=apart, retry_failed=retry_failed)
    failed = sweeping.run(asked, sweeping.folder_of(out), options, json=json, report=report)
    if failed:
        raise typer.Exit(1)
