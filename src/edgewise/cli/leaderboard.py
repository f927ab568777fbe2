"""`edgewise leaderboard`: methods, your own among them, against the truth of compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Json, MethodNames, Quick
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_place
from edgewise.errors import FormatError

if TYPE_CHECKING:
    from edgewise.leaderboards import Standing

Names = list[str] | None


def leaderboard(
    *,
    method: MethodNames = None,
    program: Annotated[Names, typer.Option(help="Bundled programs. Default: all.")] = None,
    ablation: Annotated[
        Names, typer.Option(help="Outside the circuit: zero, mean, corrupted, corrupted-tokens.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often to draw other prompts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder that keeps cells, tables, page.")] = Path(
        "leaderboard"
    ),
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Rank methods against the truth of programs.

    Compiled programs say which edges they really use. A method is a name of `edgewise methods`,
    package.module:function of your own, an entry point, usual (the default) or trained. Baselines
    always take part. After an interruption, run the
    same command again to resume; another one with the same --out adds to it. Exit code 1 if a
    method failed on some problem.

    edgewise leaderboard --method mine:find --quick
    """
    check_output_place(out)
    methods, programs, ablations = (
        parse_values(name, words, str) if words else None
        for name, words in (("method", method), ("program", program), ("ablation", ablation))
    )
    if quick:
        programs = programs or [*ew.leaderboards.QUICK_PROGRAMS]
        ablations, seeds = ablations or [*ew.leaderboards.QUICK_ABLATIONS], 1

    def kept() -> str:
        try:
            n = len(ew.Leaderboard.load(out).cells)
        except FormatError:
            n = 0
        return f"stopped. {n:,} cells are finished in {out}; the same command goes on."

    with console.stoppable(kept), console.progress_bar("leaderboard", quiet=json) as bar:
        board = ew.leaderboard(
            methods, programs=programs, ablations=ablations, seeds=seeds, out=out, on_progress=bar
        )
    page = ew.report(board, out / "leaderboard.html")
    names = ("leaderboard.json", "leaderboard.csv", "cells.csv")
    files = [str(page), *(str(out / name) for name in names)]
    failed = sum(row.n_failed for row in board.standings)
    if json:
        rows = [row.to_json() for row in board.standings]
        console.as_json({"standings": rows, "n_failed": failed, "out": str(out), "files": files})
    else:
        _print(board, files)
    if failed:
        raise typer.Exit(1)


def _print(board: ew.Leaderboard, files: Sequence[str]) -> None:
    ablations = board.asked("ablation")
    columns = ["method", "rank", "precision", "AUC", *ablations, "n", "passes"]
    console.table("Standings", columns, [_row(row, ablations) for row in board.standings])
    console.OUT.print(
        "Precision: average precision, mean over programs, and the 95 % interval of a bootstrap "
        "over programs and seeds; so by ablation. AUC: the paper's pessimistic one. n: programs "
        "and problems. Passes: forward, median."
    )
    for row in board.standings:
        for n, what in ((row.n_refused, "refuses"), (row.n_failed, "fails on")):
            if n:
                why = next(c.why for c in board.answered if c.method == row.method and c.why)
                text = f"{row.method} {what} {n} of {row.n_problems} problems: {why}"
                console.OUT.print(text)
    console.wrote(*files)


def _row(row: Standing, ablations: Sequence[str]) -> list[str]:
    each = [row.by_ablation.get(name) for name in ablations]
    return [
        row.method,
        row.rank_in_words,
        row.areas["average_precision"].in_words(),
        f"{row.areas['pessimistic_auc'].mean:.2f}",
        *("–" if e is None else f"{e.mean:.2f}" for e in each),
        f"{row.n_programs}, {row.n_problems}",
        console.number(row.forward_passes),
    ]
