"""From trials to the rows of a leaderboard: means over programs, with intervals, and ranks.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.evaluation.records import Record
from edgewise.recipes.areas import AREAS
from edgewise.recipes.trials import Trial

DRAWS, LEVEL = 2_000, 0.95
_SEED = 0
_SAME = 1e-12  # between the means of methods that share a rank
_COSTS = ("forward_passes", "backward_passes", "removals", "seconds")

Numbers = NDArray[np.float64]


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
    methods = list(dict.fromkeys(trial.method for trial in trials))
    if not methods:
        return ()
    ran = {m: {trial.problem for trial in trials if trial.method == m} for m in methods}
    everywhere = [m for m in methods if ran[m] == {trial.problem for trial in trials}]
    areas = {area: _means(methods, _values(methods, trials, area)) for area in AREAS}
    precision = _values(methods, trials, AREAS[0])
    by_ablation = {
        name: _means(methods, _values(methods, [t for t in trials if t.ablation == name], AREAS[0]))
        for name in dict.fromkeys(trial.ablation for trial in trials)
    }
    ranks = _ranks(precision[[methods.index(m) for m in everywhere]])
    gains: dict[str, ProgramMean] = {}
    if "random" in methods:  # where both have run on the same problems
        with_random = [m for m in methods if m != "random" and ran[m] <= ran["random"]]
        over = precision - precision[methods.index("random")]
        gains = _means(with_random, over[[methods.index(m) for m in with_random]])
    rows = [
        _row(
            [trial for trial in trials if trial.method == method],
            rank=ranks[everywhere.index(method)] if method in everywhere else (None, None, None),
            areas={area: means[method] for area, means in areas.items()},
            by_ablation={name: m[method] for name, m in by_ablation.items() if method in m},
            over_random=gains.get(method),
        )
        for method in methods
    ]
    return tuple(
        sorted(rows, key=lambda r: (r.rank is None, r.rank or -r.average_precision.mean, r.method))
    )


def _row(
    trials: Sequence[Trial],
    *,
    rank: tuple[int | None, int | None, int | None],
    areas: Mapping[str, ProgramMean],
    by_ablation: Mapping[str, ProgramMean],
    over_random: ProgramMean | None,
) -> LeaderboardRow:
    """The row of a method, of its trials and of what was estimated for all methods together."""
    programs = list(dict.fromkeys(trial.program for trial in trials))
    by_program = _mean(_values([trials[0].method], trials, AREAS[0])[0])
    done = [trial for trial in trials if trial.status == "done"] or trials
    costs = (float(np.median([getattr(trial, cost) for trial in done])) for cost in _COSTS)
    return LeaderboardRow(
        trials[0].method,
        trials[-1].how,
        *rank,
        areas,
        by_ablation,
        dict(zip(programs, by_program.tolist(), strict=True)),
        over_random,
        len(programs),
        len({trial.seed for trial in trials}),
        len({trial.problem_id for trial in trials}),  # a gate's are one for all seeds
        sum(trial.status == "refused" for trial in trials),
        sum(trial.status == "failed" for trial in trials),
        *costs,
    )


def _values(methods: Sequence[str], trials: Sequence[Trial], area: str) -> Numbers:
    """An area, method by program by seed, the mean over ablations; nan where there is none."""
    programs, seeds, ablations = (
        list(dict.fromkeys(getattr(trial, name) for trial in trials))
        for name in ("program", "seed", "ablation")
    )
    values = np.full((len(methods), len(programs), len(seeds), len(ablations)), np.nan)
    for trial in trials:
        at = programs.index(trial.program), seeds.index(trial.seed)
        at_all = (methods.index(trial.method), *at, ablations.index(trial.ablation))
        values[at_all] = getattr(trial, area)
    return _mean(values)


def _mean(values: Numbers) -> Numbers:
    """Over the last axis, of what there is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing there: nan
        return np.nanmean(values, axis=-1)


def _drawn(values: Numbers) -> Numbers:
    """The mean of each method in every draw of programs, and of seeds within them."""
    _, n_programs, n_seeds = values.shape
    generator = np.random.default_rng(_SEED)
    programs = generator.integers(n_programs, size=(DRAWS, n_programs))
    seeds = generator.integers(n_seeds, size=(DRAWS, n_programs, n_seeds))
    return np.stack([_mean(_mean(own[programs[..., None], seeds])) for own in values])


def _means(methods: Sequence[str], values: Numbers) -> dict[str, ProgramMean]:
    """The mean over programs of each method that has a number."""
    means: dict[str, ProgramMean] = {}
    if not methods:
        return means
    for method, own, drawn in zip(methods, values, _drawn(values), strict=True):
        by_program = _mean(own)
        n_programs = int((~np.isnan(by_program)).sum())
        low, high = None, None
        if n_programs > 1:
            low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        if n_programs:
            means[method] = ProgramMean(float(np.nanmean(by_program)), low, high, n_programs)
    return means


def _ranks(values: Numbers) -> list[tuple[int, int | None, int | None]]:
    """The rank of each method among these, with its interval."""
    if not len(values):
        return []
    ranks = _rank(_mean(_mean(values))[:, None])[:, 0].tolist()
    if values.shape[1] < 2:
        return [(rank, None, None) for rank in ranks]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(_rank(_drawn(values)), ends, axis=1, method="nearest").astype(int)
    return list(zip(ranks, low.tolist(), high.tolist(), strict=True))


def _rank(means: Numbers) -> NDArray[np.int64]:
    """1 and how many are better, in every column."""
    better = means[None, :, :] > means[:, None, :] + _SAME
    return 1 + better.sum(axis=1)
