"""`edgewise leaderboard`: methods, your own among them, against the truth of compiled programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Json, MethodNames, Quick
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_place
from edgewise.errors import FormatError

Names = list[str] | None


def leaderboard(
    *,
    method: MethodNames = None,
    program: Annotated[Names, typer.Option(help="Bundled programs. Default: all.")] = None,
    ablation: Annotated[
        Names, typer.Option(help="Outside the circuit: zero, mean, corrupted, corrupted-tokens.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often to draw other prompts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder that keeps trials, tables, page.")] = Path(
        "leaderboard"
    ),
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Rank methods against the truth of programs.

    Compiled programs say which edges they really use. A method is a name of `edgewise methods`,
    package.module:function of your own, an entry point, usual (the default) or trained. Baselines
    always take part. After an interruption, run the same command again to resume; another one with
    the same --out adds to it. Exit code 1 if a method failed on some problem.

    edgewise leaderboard --method mine:find --quick
    """
    check_output_place(out)
    methods, programs, ablations = (
        parse_values(name, words, str) if words else None
        for name, words in (("method", method), ("program", program), ("ablation", ablation))
    )
    if quick:
        programs = programs or [*ew.recipes.QUICK_PROGRAMS]
        ablations, seeds = ablations or [*ew.recipes.QUICK_ABLATIONS], 1

    def kept() -> str:
        try:
            n = len(ew.Leaderboard.load(out).trials)
        except FormatError:
            n = 0
        return f"stopped. {n:,} trials are finished in {out}; run the same command again to resume."

    with console.stoppable(kept), console.progress_bar("leaderboard", quiet=json) as bar:
        board = ew.leaderboard(
            methods, programs=programs, ablations=ablations, seeds=seeds, out=out, on_progress=bar
        )
    page = ew.report(board, out / "leaderboard.html")
    names = ("leaderboard.json", "leaderboard.csv", "cells.csv")
    files = [str(page), *(str(out / name) for name in names)]
    failed = sum(row.n_failed for row in board.rows)
    if json:
        rows = [row.to_json() for row in board.rows]
        console.as_json({"standings": rows, "n_failed": failed, "out": str(out), "files": files})
    else:
        console.show_table(board.tables()[0])  # the page has the others
        for sentence in board.sentences():
            console.OUT.print(sentence)
        console.wrote(*files)
    if failed:
        raise typer.Exit(1)
