"""What `edgewise leaderboard` does: parse, run, print the standings, write the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgewise.cli import show
from edgewise.cli.unfinished import Stopped
from edgewise.cli.values import parse_values
from edgewise.errors import FormatError
from edgewise.leaderboards import (
    QUICK_ABLATIONS,
    QUICK_PROGRAMS,
    Leaderboard,
    Standing,
)
from edgewise.leaderboards import leaderboard as make_leaderboard
from edgewise.reporting import report as write_report


@dataclass(frozen=True)
class Asked:
    """What takes part, and on what; None stands for all there is."""

    methods: Sequence[str] | None
    programs: Sequence[str] | None
    ablations: Sequence[str] | None
    seeds: int


def parse(
    methods: Sequence[str] | None,
    programs: Sequence[str] | None,
    ablations: Sequence[str] | None,
    seeds: int,
    *,
    quick: bool,
) -> Asked:
    """What was typed, words with commas in parts. What is not named, `quick` makes few."""
    asked = Asked(
        _words("method", methods),
        _words("program", programs),
        _words("ablation", ablations),
        seeds,
    )
    if not quick:
        return asked
    return Asked(
        asked.methods,
        asked.programs or QUICK_PROGRAMS,
        asked.ablations or QUICK_ABLATIONS,
        1,
    )


def _words(name: str, given: Sequence[str] | None) -> list[str] | None:
    return parse_values(name, given, str) if given else None


def run(asked: Asked, out: Path, *, json: bool) -> int:
    """Run it, print the standings, and return on how many problems a method failed."""
    with _stopping(out), show.progress_bar("leaderboard", quiet=json) as bar:
        board = make_leaderboard(
            asked.methods,
            programs=asked.programs,
            ablations=asked.ablations,
            seeds=asked.seeds,
            out=out,
            on_progress=bar,
        )
    page = write_report(board, out / "leaderboard.html")
    names = ("leaderboard.json", "leaderboard.csv", "cells.csv")
    files = [str(page), *(str(out / name) for name in names)]
    failed = sum(row.n_failed for row in board.standings)
    if json:
        rows = [row.to_json() for row in board.standings]
        show.as_json({"standings": rows, "n_failed": failed, "out": str(out), "files": files})
    else:
        _print(board, files)
    return failed


def _print(board: Leaderboard, files: Sequence[str]) -> None:
    ablations = board.asked("ablation")
    columns = ["method", "rank", "precision", "AUC", *ablations, "n", "passes"]
    show.table("Standings", columns, [_row(row, ablations) for row in board.standings])
    show.OUT.print(
        "Precision: average precision, mean over programs, and the 95 % interval of a bootstrap "
        "over programs and seeds; so by ablation. AUC: the paper's pessimistic one. n: programs "
        "and problems. Passes: forward, median."
    )
    for row in board.standings:
        for n, what in ((row.n_refused, "refuses"), (row.n_failed, "fails on")):
            if n:
                why = next(c.why for c in board.answered if c.method == row.method and c.why)
                text = f"{row.method} {what} {n} of {row.n_problems} problems: {why}"
                show.OUT.print(text)
    show.wrote(*files)


def _row(row: Standing, ablations: Sequence[str]) -> list[str]:
    each = [row.by_ablation.get(name) for name in ablations]
    return [
        row.method,
        row.rank_in_words,
        row.areas["average_precision"].in_words(),
        f"{row.areas['pessimistic_auc'].mean:.2f}",
        *("–" if e is None else f"{e.mean:.2f}" for e in each),
        f"{row.n_programs}, {row.n_problems}",
        show.number(row.forward_passes),
    ]


@contextmanager
def _stopping(out: Path) -> Iterator[None]:
    """Turn Ctrl-C into a sentence on what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            n = len(Leaderboard.load(out).cells)
        except FormatError:
            n = 0
        raise Stopped(
            f"stopped. {n:,} cells are finished in {out}; the same command goes on."
        ) from None
