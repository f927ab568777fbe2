"""`edgewise leaderboard`: methods, your own among them, against the truth of compiled programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import MethodNames, Quick, option
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_place

_FILES = ("leaderboard.html", "leaderboard.json", "leaderboard.csv", "cells.csv")


def leaderboard(
    *,
    method: MethodNames = None,
    program: list[str] | None = option(None, "Bundled programs. Default: all."),
    ablation: list[str] | None = option(
        None, "Outside the circuit: zero, mean, corrupted, corrupted-tokens."
    ),
    seeds: int = option(3, "How often to draw other prompts."),
    out: Path = option(Path("leaderboard"), "Folder that keeps trials, tables, page."),
    quick: Quick = False,
    output: Annotated[Output, "json"],
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
    with output.progress("leaderboard", kept=out) as on_progress:
        board = ew.leaderboard(
            methods,
            programs=programs,
            ablations=ablations,
            seeds=seeds,
            out=out,
            on_progress=on_progress,
        )
    ew.report(board, out / _FILES[0])
    files = [str(out / name) for name in _FILES]
    rows = [row.to_json() for row in board.rows]
    failed = sum(row.n_failed for row in board.rows)
    document = {"standings": rows, "n_failed": failed, "out": str(out), "files": files}
    console.summarize(board, document, *files, quiet=output.json)
    if failed:
        raise typer.Exit(1)
