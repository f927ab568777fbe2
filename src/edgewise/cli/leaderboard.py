"""`edgewise leaderboard`: methods, your own among them, against the truth of compiled programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.options import Json

Names = list[str] | None


def leaderboard(
    method: Annotated[
        Names,
        typer.Option(
            help="A name of `edgewise methods`, package.module:function of your own, an entry "
            "point, usual or trained. Default: usual."
        ),
    ] = None,
    program: Annotated[Names, typer.Option(help="A bundled program. Default: all.")] = None,
    ablation: Annotated[
        Names, typer.Option(help="zero, mean, corrupted, corrupted-tokens. Default: all.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often to draw other prompts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder that keeps cells, tables, page.")] = Path(
        "leaderboard"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Four small programs, two ablations, one seed.")
    ] = False,
    json: Json = False,
) -> None:
    """Judge methods by the edges that compiled programs really use, and write a page about it.

    Baselines always take part. Stopped in any way, the same command goes on; another one into the
    same folder adds to it. Exit code 1 if a method failed on some problem.

    edgewise leaderboard --method mine:find --quick

    edgewise leaderboard --method mine:find --method usual --out boards/mine
    """
    from edgewise.cli import leading
    from edgewise.storage import check_output_place

    check_output_place(out)
    asked = leading.parse(method, program, ablation, seeds, quick=quick)
    if leading.run(asked, out, json=json):
        raise typer.Exit(1)
