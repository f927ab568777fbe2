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
    ranked = [row for row in board.rows if row.rank is not None]
    sentences = ["No method has run on every problem, so that none can be ranked."]
    if ranked:
        precisions = {row.method: f"{row.average_precision.mean:.2f}" for row in ranked}
        best, n_programs = ranked[0].method, len(board.values("program"))
        sentences = [
            f"{best} stands first: an average precision of {precisions[best]}, "
            f"mean over {count(n_programs, 'program')}."
        ]
        if close := [row.method for row in ranked[1:] if row.rank_low == 1]:
            sentences.append(f"With other programs it could as well be {' or '.join(close)}.")
        if base := [f"{m} gets {value}" for m, value in precisions.items() if m in BASELINES]:
            sentences.append(f"Of the baselines {' and '.join(base)}.")
    sentences.append(f"On {_about(board)}.")
    for row in board.rows:
        for status, verb in (("refused", "refuses"), ("failed", "fails on")):
            trials = [t for t in board.answered if (t.method, t.status) == (row.method, status)]
            if trials:
                n = len({trial.problem_id for trial in trials})
                words = f"{row.method} {verb} {n} of {row.n_problems} problems"
                sentences.append(f"{words}: {trials[0].why}")
    return tuple(sentences)


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
    tables = [_rows(board, "Leaderboard", NOTES["rows"])]
    partly = [row.method for row in board.rows if row.rank is None]
    if partly:
        common = board.common()
        note = (
            f"{', '.join(partly)} ran on fewer than the {board.n_problems} problems, so that "
            "their means above are over other problems than the others'. Here all methods are "
            f"compared on what all have run on: {_about(common)}."
        )
        tables.append(_rows(common, "Where all have run", note))
    notes = [NOTES["precision"], tied, *(NOTES[name] for name in ("areas", "limits", "own"))]
    tables += [_areas(board, notes), _ablations(board), _programs(board)]
    tables += [_costs(board), _missing(board)]
    return tuple(table for table in tables if table.rows)


def _rows(board: Leaderboard, title: str, note: str) -> Table:
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
    return Table.of(title, rows, kinds=_KINDS, notes=[note])


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
        rows.append({"method": row.method})
        for name, mean in row.by_ablation.items():
            rows[-1] |= {name: mean.cell, f"programs, {name}": mean.n_programs}
    about = "; ".join(f"{name}: {ABOUT_ABLATIONS[name]}" for name in board.values("ablation"))
    note = f"Average precision, mean over programs and their seeds. {about}."
    return Table.of("By ablation", rows, kinds=_KINDS, notes=[note])


def _programs(board: Leaderboard) -> Table:
    edges = {trial.program: f"{trial.n_true}/{trial.n_edges}" for trial in board.answered}
    rows: list[dict[str, Cell]] = [
        {
            "program (true edges/edges)": f"{name} ({edges[name]})",
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
