"""From trials to the rows of a leaderboard, and what they say: means with intervals, and ranks.

1. Where a method has several numbers on a program (ablations, seeds), their mean is its number.
2. A mean is over programs, each with the same weight, however many ablations it has.
3. Intervals are of a bootstrap: 2,000 times, draw as many programs with replacement, and in each as
   many seeds; take the means of all methods on the same draw, and their ranks. The interval holds
   the middle 95 %. It says how the numbers would move with other programs of this kind.
4. Ranks are by average precision; equal means share the better rank. Only methods that have run
   on every problem of the board are ranked: means over other problems say nothing of each other.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from edgewise.evaluation.records import Record
from edgewise.recipes.trials import ABOUT_ABLATIONS, AREAS, BASELINES, NOTES, Trial
from edgewise.tables import Cell, Kind, Table, count

if TYPE_CHECKING:
    from edgewise.recipes.leaderboard import Leaderboard

DRAWS, LEVEL = 2_000, 0.95
_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles of the draws
_SEED = 0
_SAME = 1e-12  # between the means of methods that share a rank
_KINDS: dict[str, Kind] = {"method": "name", "rank": "estimate", "average precision": "estimate"}
_COSTS = ("forward_passes", "backward_passes", "removals", "seconds")

Numbers = Float[np.ndarray, "..."]
Cells = dict[str, Cell]  # of a table's row, by column
Rank = tuple[int | None, int | None, int | None]  # with its interval


@dataclass(frozen=True)
class ProgramMean:
    """A mean over `n_programs`, and its interval; None where there are fewer than two programs."""

    mean: float
    low: float | None
    high: float | None
    n_programs: int

    @property
    def cell(self) -> float | tuple[float, float, float]:
        """For a table, to three decimals: the mean with its interval, if there is one."""
        if self.low is None or self.high is None:
            return round(self.mean, 3)
        return round(self.mean, 3), round(self.low, 3), round(self.high, 3)


@dataclass(frozen=True)
class LeaderboardRow(Record):
    """A method's row. `rank` and its interval are None for one that has not run everywhere.

    `areas` by name, over all ablations; `by_ablation` the average precision under each, and
    `by_program` on each; `over_random`: how much more of it than `random` has. `n_problems` are
    different ones; `n_refused` and `n_failed` count seeds apart. The costs are medians.
    """

    method: str
    how: str
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    areas: Mapping[str, ProgramMean]
    by_ablation: Mapping[str, ProgramMean]
    by_program: Mapping[str, float]
    over_random: ProgramMean | None
    n_programs: int
    n_seeds: int
    n_problems: int
    n_refused: int
    n_failed: int
    forward_passes: float
    backward_passes: float
    removals: float
    seconds: float

    @property
    def average_precision(self) -> ProgramMean:
        """What methods are ranked by."""
        return self.areas[AREAS[0]]

    @property
    def rank_cell(self) -> int | tuple[int, int, int] | None:
        """For a table: the rank with its interval, if there is one."""
        if self.rank is None or self.rank_low is None or self.rank_high is None:
            return self.rank
        return self.rank, self.rank_low, self.rank_high

    def flat(self) -> dict[str, Any]:
        """The same in one line, for leaderboard.csv; without the single programs."""
        row = self.to_json()
        del row["by_program"]
        means = {**row.pop("areas")}
        means |= {f"{AREAS[0]}_{name}": mean for name, mean in row.pop("by_ablation").items()}
        means[f"{AREAS[0]}_over_random"] = row.pop("over_random")
        for name, mean in means.items():
            for suffix, key in (("", "mean"), ("_low", "low"), ("_high", "high")):
                row[f"{name}{suffix}"] = None if mean is None else mean[key]
        return row


def leaderboard_rows(trials: Sequence[Trial]) -> tuple[LeaderboardRow, ...]:
    """A row for every method, the best first; those that have not run everywhere behind."""
    names = ("method", "program", "seed", "ablation")
    axes = [list(dict.fromkeys(getattr(trial, name) for trial in trials)) for name in names]
    methods, programs, _, ablations = axes
    values = np.full((*map(len, axes), len(AREAS)), np.nan)
    for trial in trials:
        at = tuple(axis.index(getattr(trial, name)) for axis, name in zip(axes, names, strict=True))
        values[at] = [getattr(trial, area) for area in AREAS]
    areas = [_estimates(_mean(values[..., k])) for k in range(len(AREAS))]
    by_ablation = [_estimates(values[..., k, 0]) for k in range(len(ablations))]
    precision, ran = _mean(values[..., 0]), ~np.isnan(values[..., 0])
    ranks = _ranks(precision, everywhere=(ran == ran.any(axis=0)).all(axis=(1, 2, 3)))
    gains: list[ProgramMean | None] = [None] * len(methods)
    if "random" in methods:  # where both have run on the same problems
        random = methods.index("random")
        beside = (ran <= ran[random]).all(axis=(1, 2, 3))
        beside[random] = False
        gains = _estimates(np.where(beside[:, None, None], precision - precision[random], np.nan))
    rows = []
    for k, method in enumerate(methods):
        own = [trial for trial in trials if trial.method == method]
        done = [trial for trial in own if trial.status == "done"] or own
        costs: dict[str, Any] = {
            name: float(np.median([getattr(trial, name) for trial in done])) for name in _COSTS
        }
        on_programs = dict(zip(programs, _mean(precision[k]).tolist(), strict=True))
        under = {name: means[k] for name, means in zip(ablations, by_ablation, strict=True)}
        row = LeaderboardRow(
            method,
            own[-1].how,
            *ranks[k],
            areas=_present(dict(zip(AREAS, (means[k] for means in areas), strict=True))),
            by_ablation=_present(under),
            by_program={p: value for p, value in on_programs.items() if not np.isnan(value)},
            over_random=gains[k],
            n_programs=len({trial.program for trial in own}),
            n_seeds=len({trial.seed for trial in own}),
            n_problems=len({trial.problem_id for trial in own}),  # a gate's are one for all seeds
            n_refused=sum(trial.status == "refused" for trial in own),
            n_failed=sum(trial.status == "failed" for trial in own),
            **costs,
        )
        rows.append(row)
    rows.sort(key=lambda r: (r.rank is None, r.rank or -r.average_precision.mean, r.method))
    return tuple(rows)


def _present(means: Mapping[str, ProgramMean | None]) -> dict[str, ProgramMean]:
    return {name: mean for name, mean in means.items() if mean is not None}


def _mean(values: Numbers) -> Numbers:
    """Over the last axis, of what there is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing there: nan
        return np.nanmean(values, axis=-1)


def _draws(values: Float[np.ndarray, "method program seed"]) -> Float[np.ndarray, "method draw"]:
    """The mean of each method in every draw of programs, and of seeds within them."""
    _, n_programs, n_seeds = values.shape
    generator = np.random.default_rng(_SEED)
    programs = generator.integers(n_programs, size=(DRAWS, n_programs))
    seeds = generator.integers(n_seeds, size=(DRAWS, n_programs, n_seeds))
    return np.stack([_mean(_mean(own[programs[..., None], seeds])) for own in values])


def _estimates(values: Float[np.ndarray, "method program seed"]) -> list[ProgramMean | None]:
    """The mean over programs of each method; None for one that has no number."""
    ran = ~np.isnan(values)
    if not ran.any():
        return [None] * len(values)
    values = values[:, ran.any(axis=(0, 2))][:, :, ran.any(axis=(0, 1))]
    estimates: list[ProgramMean | None] = []
    for own, drawn in zip(values, _draws(values), strict=True):
        by_program = _mean(own)
        n_programs, mean = int((~np.isnan(by_program)).sum()), None
        if n_programs:
            low, high = np.nanquantile(drawn, _ENDS).tolist() if n_programs > 1 else (None, None)
            mean = ProgramMean(float(np.nanmean(by_program)), low, high, n_programs)
        estimates.append(mean)
    return estimates


def _ranks(values: Float[np.ndarray, "method program seed"], *, everywhere: Any) -> list[Rank]:
    """The rank of each method among those that ran everywhere, with its interval."""
    ranks: list[Rank] = [(None, None, None)] * len(values)
    ranked = values[everywhere]
    if not len(ranked):
        return ranks
    middle = _rank(_mean(_mean(ranked))[:, None])[:, 0].tolist()
    ends: list[list[int | None]] = [[None, None]] * len(ranked)
    if values.shape[1] > 1:
        drawn = np.quantile(_rank(_draws(ranked)), _ENDS, axis=1, method="nearest")
        ends = drawn.astype(int).T.tolist()
    for k, rank, (low, high) in zip(np.flatnonzero(everywhere), middle, ends, strict=True):
        ranks[k] = rank, low, high
    return ranks


def _rank(means: Float[np.ndarray, "method draw"]) -> Int[np.ndarray, "method draw"]:
    """1 and how many are better, in every column."""
    better = means[None, :, :] > means[:, None, :] + _SAME
    return 1 + better.sum(axis=1)


# --- in words and tables


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
    tables = [_table(board, "Leaderboard", _ranking, NOTES["rows"])]
    partly = [row.method for row in board.rows if row.rank is None]
    if partly:
        common = board.common()
        note = (
            f"{', '.join(partly)} ran on fewer than the {board.n_problems} problems, so that "
            "their means above are over other problems than the others'. Here all methods are "
            f"compared on what all have run on: {_about(common)}."
        )
        tables.append(_table(common, "Where all have run", _ranking, note))
    notes = [NOTES["precision"], tied, *(NOTES[name] for name in ("areas", "limits", "own"))]
    about = "; ".join(f"{name}: {ABOUT_ABLATIONS[name]}" for name in board.values("ablation"))
    note = f"Average precision, mean over programs and their seeds. {about}."
    tables += [
        _table(board, "Areas, and how they are measured", _areas, *notes),
        _table(board, "By ablation", _ablations, note),
        _programs(board),
        _table(board, "What it costs", _costs, NOTES["costs"]),
        _missing(board),
    ]
    return tuple(table for table in tables if table.rows)


def _table(
    board: Leaderboard, title: str, cells: Callable[[LeaderboardRow], Cells], *notes: str
) -> Table:
    return Table.of(title, [cells(row) for row in board.rows], kinds=_KINDS, notes=notes)


def _ranking(row: LeaderboardRow) -> Cells:
    return {
        "rank": row.rank_cell,
        "method": row.method,
        "average precision": row.average_precision.cell,
        "programs": row.n_programs,
        "seeds": row.n_seeds,
        "problems": row.n_problems,
    }


def _areas(row: LeaderboardRow) -> Cells:
    return {
        "method": row.method,
        "over random": None if row.over_random is None else row.over_random.cell,
        "pessimistic AUC": row.areas["pessimistic_auc"].cell,
        "ROC AUC": row.areas["roc_auc"].cell,
    }


def _ablations(row: LeaderboardRow) -> Cells:
    cells: Cells = {"method": row.method}
    for name, mean in row.by_ablation.items():
        cells |= {name: mean.cell, f"programs, {name}": mean.n_programs}
    return cells


def _costs(row: LeaderboardRow) -> Cells:
    return {
        "method": row.method,
        "forward passes": row.forward_passes,
        "backward passes": row.backward_passes,
        "removals": row.removals,
        "seconds": row.seconds,
        "problems": row.n_problems,
        "settings": row.how or "defaults",
    }


def _programs(board: Leaderboard) -> Table:
    edges = {trial.program: f"{trial.n_true}/{trial.n_edges}" for trial in board.answered}
    rows: list[Cells] = [
        {
            "program (true edges/edges)": f"{name} ({edges[name]})",
            **{row.method: row.by_program.get(name) for row in board.rows},
        }
        for name in board.values("program")
    ]
    kinds: dict[str, Kind] = dict.fromkeys(board.values("method"), "index")
    table = Table.of("By program", rows, kinds=kinds, notes=[NOTES["programs"]])
    return replace(table, shaded=True)


def _missing(board: Leaderboard) -> Table:
    """Where methods have no answer, and the problems that no method has."""
    reasons = Counter((t.method, t.status, t.why) for t in board.answered if t.status != "done")
    for trial in board.left_out:
        no_effect = trial.why.startswith("full model")
        why = "no effect to find" if no_effect else "no such prompts"
        reasons["all", "left out", f"{why}: {trial.program} ({trial.ablation})"] += 1
    rows: list[Cells] = [
        {"method": method, "status": status, "why": why, "trials": n}
        for (method, status, why), n in reasons.items()
    ]
    return Table.of("No answers", rows, kinds=_KINDS, notes=[NOTES["missing"]])
