"""What a leaderboard says: who stands where and how surely, where each is good, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgewise.recipes.contestants import ABOUT_ABLATIONS, BASELINES, NOTES
from edgewise.tables import Cell, Kind, Table, count

if TYPE_CHECKING:
    from edgewise.recipes.leaderboard import Leaderboard

_KINDS: dict[str, Kind] = {"method": "name", "rank": "estimate", "average precision": "estimate"}


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
    tables = [_rows(board, "Leaderboard", [NOTES["rows"]])]
    partly = [row.method for row in board.rows if row.rank is None]
    if partly:
        note = f"{', '.join(partly)} ran on fewer than the {board.n_problems} problems, so that "
        note += "their means above are over other problems than the others'. "
        common = board.common()
        note += f"Here all methods are compared on what all have run on: {_about(common)}."
        tables.append(_rows(common, "Where all have run", (note,)))
    notes = [NOTES["precision"], tied, *(NOTES[name] for name in ("areas", "limits", "own"))]
    tables += [_areas(board, notes), _ablations(board), _programs(board)]
    tables += [_costs(board), _missing(board)]
    return tuple(table for table in tables if table.rows)


def _rows(board: Leaderboard, title: str, notes: Sequence[str]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "rank": row.rank_cell,
            "method": row.method,
            "average precision": row.average_precision.cell,
            "programs": row.n_programs,
            "seeds": row.n_seeds,
            "problems": row.n_problems,
        }
        for row in board.rows
    ]
    return Table.of(title, rows, kinds=_KINDS, notes=notes)


def _areas(board: Leaderboard, notes: Sequence[str]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "method": row.method,
            "over random": None if row.over_random is None else row.over_random.cell,
            "pessimistic AUC": row.areas["pessimistic_auc"].cell,
            "ROC AUC": row.areas["roc_auc"].cell,
        }
        for row in board.rows
    ]
    return Table.of("Areas, and how they are measured", rows, kinds=_KINDS, notes=notes)


def _ablations(board: Leaderboard) -> Table:
    rows: list[dict[str, Cell]] = []
    for row in board.rows:
        cells: dict[str, Cell] = {"method": row.method}
        for name, mean in row.by_ablation.items():
            cells |= {name: mean.cell, f"programs, {name}": mean.n_programs}
        rows.append(cells)
    about = "; ".join(f"{name}: {ABOUT_ABLATIONS[name]}" for name in board.values("ablation"))
    note = f"Average precision, mean over programs and their seeds. {about}."
    return Table.of("By ablation", rows, kinds=_KINDS, notes=[note])


def _programs(board: Leaderboard) -> Table:
    edges = {trial.program: f"{trial.n_true}/{trial.n_edges}" for trial in board.answered}
    heading = "program (true edges/edges)"
    rows: list[dict[str, Cell]] = [
        {
            heading: f"{name} ({edges[name]})",
            **{row.method: row.by_program.get(name) for row in board.rows},
        }
        for name in board.values("program")
    ]
    kinds: dict[str, Kind] = dict.fromkeys(board.values("method"), "index")
    table = Table.of("By program", rows, kinds=kinds, notes=[NOTES["programs"]])
    return replace(table, shaded=True)


def _costs(board: Leaderboard) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "method": row.method,
            "forward passes": row.forward_passes,
            "backward passes": row.backward_passes,
            "removals": row.removals,
            "seconds": row.seconds,
            "problems": row.n_problems,
            "settings": row.how or "defaults",
        }
        for row in board.rows
    ]
    return Table.of("What it costs", rows, kinds=_KINDS, notes=[NOTES["costs"]])


def _missing(board: Leaderboard) -> Table:
    """Where methods have no answer, and the problems that no method has."""
    reasons = Counter((t.method, t.status, t.why) for t in board.answered if t.status != "done")
    for trial in board.left_out:
        no_effect = trial.why.startswith("full model")
        why = "no effect to find" if no_effect else "no such prompts"
        reasons["all", "left out", f"{why}: {trial.program} ({trial.ablation})"] += 1
    rows: list[dict[str, Cell]] = [
        {"method": method, "status": status, "why": why, "trials": n}
        for (method, status, why), n in reasons.items()
    ]
    return Table.of("No answers", rows, kinds=_KINDS, notes=[NOTES["missing"]])
