"""What a leaderboard says: who stands where and how surely, where each is good, what it costs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgewise.recipes.contestants import ABOUT_ABLATIONS, BASELINES, NOTES
from edgewise.tables import Cell, Column, Table, count

if TYPE_CHECKING:
    from edgewise.recipes.leaderboard import Leaderboard


def leaderboard_sentences(board: Leaderboard) -> tuple[str, ...]:
    """Who stands first and how surely, on what, and who has no answer."""
    sentences = [*_first(board), f"On {_about(board)}."]
    for row in board.rows:
        for status, verb in (("refused", "refuses"), ("failed", "fails on")):
            trials = [t for t in board.answered if (t.method, t.status) == (row.method, status)]
            if trials:
                n = len({trial.problem_id for trial in trials})
                words = f"{row.method} {verb} {n} of {row.n_problems} problems"
                sentences.append(f"{words}: {trials[0].why}")
    return tuple(sentences)


def _first(board: Leaderboard) -> list[str]:
    ranked = [row for row in board.rows if row.rank is not None]
    if not ranked:
        return ["No method has run on every problem, so that none can be ranked."]
    best, n = ranked[0], len(board.values("program"))
    sentences = [
        f"{best.method} stands first: an average precision of {best.average_precision.mean:.2f}, "
        f"mean over {count(n, 'program')}."
    ]
    close = [row.method for row in ranked[1:] if row.rank_low == 1]
    if close:
        sentences.append(f"With other programs it could as well be {' or '.join(close)}.")
    base = [
        f"{r.method} gets {r.average_precision.mean:.2f}" for r in ranked if r.method in BASELINES
    ]
    if base:
        sentences.append(f"Of the baselines {' and '.join(base)}.")
    return sentences


def _about(board: Leaderboard) -> str:
    ablations = board.values("ablation")
    return ", ".join(
        (
            count(len(board.values("program")), "compiled program"),
            f"{count(len(ablations), 'ablation')} ({', '.join(ablations)})",
            count(len(board.values("seed")), "seed") + " of prompts",
            count(board.n_problems, "problem"),
            count(len(board.rows), "method"),
        )
    )


def leaderboard_tables(board: Leaderboard) -> tuple[Table, ...]:
    """Rows, areas, ablations, programs, costs; and where methods have no answer."""
    share = {trial.program: trial.n_true / trial.n_edges for trial in board.answered}
    chance = sum(share.values()) / max(1, len(share))
    tied = f"If all edges tie it is the share of true ones, here {chance:.2f} on average."
    notes = [NOTES[name] for name in ("rows", "precision", "limits", "own")]
    tables = [_rows(board, "Leaderboard", (*notes[:2], tied, *notes[2:]))]
    partly = [row.method for row in board.rows if row.rank is None]
    if partly:
        note = f"{', '.join(partly)} ran on fewer than the {board.n_problems} problems, so that "
        note += "their means above are over other problems than the others'. "
        common = board.common()
        note += f"Here all methods are compared on what all have run on: {_about(common)}."
        tables.append(_rows(common, "Where all have run", (note,)))
    tables += [_areas(board), _ablations(board), _programs(board), _costs(board), _missing(board)]
    return tuple(table for table in tables if table.rows)


def _rows(board: Leaderboard, title: str, notes: Sequence[str]) -> Table:
    columns = (
        Column("rank", "estimate"),
        Column("method", "name"),
        Column("average precision", "estimate", "share"),
        *(Column(name, "count") for name in ("programs", "seeds", "problems")),
    )
    rows = tuple(
        (
            row.rank_cell,
            row.method,
            row.average_precision.cell,
            *(row.n_programs, row.n_seeds, row.n_problems),
        )
        for row in board.rows
    )
    return Table(title, columns, rows, tuple(notes))


def _areas(board: Leaderboard) -> Table:
    names = ("over random", "pessimistic AUC", "ROC AUC")
    columns = (Column("method", "name"), *(Column(name, "estimate") for name in names))
    rows = tuple(
        (
            row.method,
            None if row.over_random is None else row.over_random.cell,
            row.areas["pessimistic_auc"].cell,
            row.areas["roc_auc"].cell,
        )
        for row in board.rows
    )
    return Table("Other areas", columns, rows, (NOTES["areas"],))


def _ablations(board: Leaderboard) -> Table:
    ablations = board.values("ablation")
    columns = [Column("method", "name")]
    for name in ablations:
        columns += [Column(name, "estimate"), Column("n", "count")]
    rows: list[tuple[Cell, ...]] = []
    for row in board.rows:
        cells: list[Cell] = [row.method]
        for name in ablations:
            mean = row.by_ablation.get(name)
            cells += [None, None] if mean is None else [mean.cell, mean.n_programs]
        rows.append(tuple(cells))
    about = "; ".join(f"{name}: {ABOUT_ABLATIONS[name]}" for name in ablations)
    note = f"Average precision, mean over n programs and their seeds. {about}."
    return Table("By ablation", tuple(columns), tuple(rows), (note,))


def _programs(board: Leaderboard) -> Table:
    edges = {trial.program: f"{trial.n_true}/{trial.n_edges}" for trial in board.answered}
    columns = (
        Column("program (true edges/edges)", "name"),
        *(Column(row.method, "index") for row in board.rows),
    )
    rows = tuple(
        (f"{name} ({edges[name]})", *(row.by_program.get(name) for row in board.rows))
        for name in board.values("program")
    )
    return Table("By program", columns, rows, (NOTES["programs"],), shaded=True)


def _costs(board: Leaderboard) -> Table:
    columns = (
        Column("method", "name"),
        *(Column(name, "number") for name in ("forward passes", "backward passes", "removals")),
        Column("seconds", "number"),
        Column("problems", "count"),
        Column("settings"),
    )
    rows = tuple(
        (
            row.method,
            *(row.forward_passes, row.backward_passes, row.removals, row.seconds),
            row.n_problems,
            row.how or "defaults",
        )
        for row in board.rows
    )
    return Table("What it costs", columns, rows, (NOTES["costs"],))


def _missing(board: Leaderboard) -> Table:
    """Where methods have no answer, and the problems that no method has."""
    reasons = Counter((t.method, t.status, t.why) for t in board.answered if t.status != "done")
    rows = [(*about, n) for about, n in reasons.items()]
    left_out: dict[str, dict[str, None]] = defaultdict(dict)
    for trial in board.left_out:
        is_idle = trial.why.startswith("full model")
        reason = "no effect to find" if is_idle else "no such prompts"
        left_out[reason][f"{trial.program} ({trial.ablation})"] = None
    rows += [
        ("all", "left out", f"{reason}: {', '.join(problems)}", len(problems))
        for reason, problems in left_out.items()
    ]
    columns = (Column("method", "name"), Column("status"), Column("why"), Column("trials", "count"))
    return Table("No answers", columns, tuple(rows), (NOTES["missing"],))
