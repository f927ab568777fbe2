"""From cells to a table: means over programs, with intervals, and ranks.

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
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.leaderboards.cell import AREAS, Cell

DRAWS, LEVEL = 2_000, 0.95
_SEED = 0
_SAME = 1e-12  # between the means of methods that share a rank

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over `n_programs`, and its interval; None where there are fewer than two programs."""

    mean: float
    low: float | None
    high: float | None
    n_programs: int

    def in_words(self, digits: int = 2) -> str:
        """The mean, and the interval in brackets."""
        if self.low is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


@dataclass(frozen=True)
class Standing:
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
    areas: Mapping[str, Estimate]
    by_ablation: Mapping[str, Estimate]
    by_program: Mapping[str, float]
    over_random: Estimate | None
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
    def rank_in_words(self) -> str:
        """The rank, and its interval in brackets; a dash without one."""
        if self.rank is None:
            return "–"
        ends = "" if self.rank_low is None else f" ({self.rank_low}–{self.rank_high})"
        return f"{self.rank}{ends}"

    def to_json(self) -> dict[str, Any]:
        """Every number, with plain mappings."""
        return asdict(self)

    def row(self) -> dict[str, Any]:
        """The same in one line, for tables; without the single programs."""
        row: dict[str, Any] = {"method": self.method, "how": self.how}
        row |= {name: getattr(self, name) for name in ("rank", "rank_low", "rank_high")}
        ablations = {f"{AREAS[0]}_{name}": e for name, e in self.by_ablation.items()}
        more = {**self.areas, **ablations, f"{AREAS[0]}_over_random": self.over_random}
        for name, estimate in more.items():
            row[name] = None if estimate is None else estimate.mean
            row[f"{name}_low"] = None if estimate is None else estimate.low
            row[f"{name}_high"] = None if estimate is None else estimate.high
        counts = ("n_programs", "n_seeds", "n_problems", "n_refused", "n_failed")
        costs = ("forward_passes", "backward_passes", "removals", "seconds")
        return row | {name: getattr(self, name) for name in (*counts, *costs)}


@dataclass(frozen=True)
class _Grid:
    """Numbers of one area, method by program by seed; nan where there are none."""

    methods: tuple[str, ...]
    values: Numbers

    def mean(self) -> Numbers:
        """Of each method, over programs."""
        return _mean(_mean(self.values))

    def drawn(self) -> Numbers:
        """The means of each method, in every draw."""
        n_methods, n_programs, n_seeds = self.values.shape
        generator = np.random.default_rng(_SEED)
        programs = generator.integers(n_programs, size=(DRAWS, n_programs))
        seeds = generator.integers(n_seeds, size=(DRAWS, n_programs, n_seeds))
        each = [_mean(_mean(of_one[programs[..., None], seeds])) for of_one in self.values]
        return np.stack(each) if n_methods else np.zeros((0, DRAWS))


def standings(cells: Sequence[Cell]) -> tuple[Standing, ...]:
    """A row for every method, the best first; those that have not run everywhere behind."""
    answered = [cell for cell in cells if cell.method]
    if not answered:
        return ()
    methods = tuple(dict.fromkeys(cell.method for cell in answered))
    problems = {cell.problem for cell in answered}
    ran = {m: {cell.problem for cell in answered if cell.method == m} for m in methods}
    everywhere = [m for m in methods if ran[m] == problems]
    ablations = list(dict.fromkeys(cell.ablation for cell in answered))
    by_area = {area: _estimates(_grid(answered, area)) for area in AREAS}
    by_ablation = {
        name: _estimates(_grid([c for c in answered if c.ablation == name], AREAS[0]))
        for name in ablations
    }
    ranks = _ranks(_grid([c for c in answered if c.method in everywhere], AREAS[0]))
    gains = _gains(_grid(answered, AREAS[0]), ran)
    rows = []
    for method in methods:
        own = [cell for cell in answered if cell.method == method]
        rank, low, high = ranks.get(method, (None, None, None))
        rows.append(
            Standing(
                method=method,
                how=own[-1].how,
                rank=rank,
                rank_low=low,
                rank_high=high,
                areas={area: by_area[area][method] for area in AREAS},
                by_ablation={r: e[method] for r, e in by_ablation.items() if method in e},
                by_program=_by_program(own),
                over_random=gains.get(method),
                n_programs=len({cell.program for cell in own}),
                n_seeds=len({cell.seed for cell in own}),
                n_problems=len({cell.problem_id for cell in own}),  # a gate's are one for all seeds
                n_refused=sum(cell.status == "refused" for cell in own),
                n_failed=sum(cell.status == "failed" for cell in own),
                **_costs(own),
            )
        )
    return tuple(
        sorted(rows, key=lambda r: (r.rank is None, r.rank or -r.areas[AREAS[0]].mean, r.method))
    )


def _costs(cells: Sequence[Cell]) -> dict[str, float]:
    done = [cell for cell in cells if cell.status == "done"] or cells
    names = ("forward_passes", "backward_passes", "removals", "seconds")
    return {name: float(np.median([getattr(c, name) for c in done])) for name in names}


def _grid(cells: Sequence[Cell], area: str) -> _Grid:
    methods = tuple(dict.fromkeys(cell.method for cell in cells))
    programs = list(dict.fromkeys(cell.program for cell in cells))
    ablations = list(dict.fromkeys(cell.ablation for cell in cells))
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    shape = (len(methods), len(programs), len(seeds), len(ablations))
    values = np.full(shape, np.nan)
    for cell in cells:
        at = (methods.index(cell.method), programs.index(cell.program), seeds.index(cell.seed))
        values[(*at, ablations.index(cell.ablation))] = getattr(cell, area)
    return _Grid(methods, _mean(values))


def _mean(values: Numbers) -> Numbers:
    """Over the last axis, of what is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing there: nan
        return np.nanmean(values, axis=-1)


def _estimates(grid: _Grid) -> dict[str, Estimate]:
    means, drawn = grid.mean(), grid.drawn()
    return {
        method: _estimate(means[i], drawn[i], _n_programs(grid.values[i]))
        for i, method in enumerate(grid.methods)
    }


def _n_programs(values: Numbers) -> int:
    return int((~np.isnan(values)).any(axis=-1).sum())


def _estimate(mean: float, drawn: Numbers, n_programs: int) -> Estimate:
    if n_programs < 2:
        return Estimate(float(mean), None, None, n_programs)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(mean), float(low), float(high), n_programs)


def _gains(grid: _Grid, ran: Mapping[str, set[Any]]) -> dict[str, Estimate]:
    """What each method gets more than `random`, where both have run on the same problems."""
    if "random" not in grid.methods:
        return {}
    base = grid.values[grid.methods.index("random")]
    others = [m for m in grid.methods if m != "random" and ran[m] <= ran["random"]]
    kept = [grid.values[grid.methods.index(m)] - base for m in others]
    return _estimates(_Grid(tuple(others), np.stack(kept))) if kept else {}


def _ranks(grid: _Grid) -> dict[str, tuple[int, int | None, int | None]]:
    if not grid.methods:
        return {}
    ranks, drawn = _rank(grid.mean()[:, None])[:, 0], _rank(grid.drawn())
    if grid.values.shape[1] < 2:
        return {m: (int(r), None, None) for m, r in zip(grid.methods, ranks, strict=True)}
    ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1, method="nearest")
    return {
        method: (int(ranks[i]), int(ends[0, i]), int(ends[1, i]))
        for i, method in enumerate(grid.methods)
    }


def _rank(values: Numbers) -> NDArray[np.int64]:
    """1 and how many are better, in every column."""
    better = values[None, :, :] > values[:, None, :] + _SAME
    return 1 + better.sum(axis=1)


def _by_program(cells: Sequence[Cell]) -> dict[str, float]:
    grid = _grid(cells, AREAS[0])
    programs = dict.fromkeys(cell.program for cell in cells)
    return {name: float(v) for name, v in zip(programs, _mean(grid.values[0]), strict=True)}
