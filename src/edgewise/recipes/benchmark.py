"""Run the leaderboard: contestants on programs, ablations and seeds, each trial kept for good.

A method is handed the problem and nothing else: the truth stays here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path

from edgewise.arguments import check_seed
from edgewise.errors import OutputError, SettingError, quoted
from edgewise.model import PROGRAMS
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.recipes.contestants import AnyContestant, Contestant, contestants
from edgewise.recipes.leaderboard import JOURNAL, KEPT_TRIALS, Leaderboard, current, last_trials
from edgewise.recipes.trials import (
    ABLATIONS,
    BenchmarkProblem,
    Trial,
    benchmark_problem,
    named,
    run_trial,
)
from edgewise.work.identity import warn_if_untold
from edgewise.work.journal import Journal

_MOST_SEEDS = 10_000
_Place = tuple[str, str, int, str]


def leaderboard(
    methods: AnyContestant | Iterable[AnyContestant] | Mapping[str, AnyContestant] | None = None,
    *,
    programs: Sequence[str] | None = None,
    ablations: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Leaderboard:
    """Methods on every bundled program, ablation and seed, against the structural truth.

    A method is one of ours by name, or one of yours: a function that takes a `Problem` and returns
    `EdgeScores` (larger matters more), a `Circuit`, or a list of them, as it is, by the name of an
    entry point (group "edgewise.methods") or as "module:function"; a mapping gives names. Baselines
    `random` and `magnitude` always take part. Seeds draw other prompts, and are the seed of methods
    that have one. By default all methods that need no training, all programs and ablations.

    Your methods get one problem first; what raises or returns something else is refused before
    anything else runs. Later such a trial counts as an order in which all edges tie.

    With `out`, a finished trial is in that folder for good: the same call goes on where it stopped,
    a call with other values adds, and what is returned is all the folder holds. Trials of a method
    whose source has changed are run again.

    Raises `UnknownName`, `SettingError`; `OutputError` if the folder cannot be written, is in use
    or holds something else, `FormatError` if its journal is broken.

    >>> board = leaderboard(["exact"], programs=["tracr-reverse"], ablations=["zero"], seeds=1)
    >>> [row.method for row in board.rows]
    ['exact', 'magnitude', 'random']
    """
    chosen = contestants(methods)
    places = product(
        named("bundled program", programs, PROGRAMS),
        _seeds(seeds),
        named("ablation of the leaderboard", ablations, tuple(ABLATIONS)),
    )
    grid = [(program, ablation, seed) for program, seed, ablation in places]
    now = {contestant.name: contestant.identity for contestant in chosen}
    with nullcontext() if out is None else _opened(Path(out)) as journal:
        known: dict[_Place, Trial] = {}
        if journal is not None:
            warn_if_untold({f"method {name}": identity for name, identity in now.items()})
            known = {t.place: t for t in last_trials(journal.records, journal.path)}
            _warn_of_changed(known.values(), now, out)
        tried = _first_trials(grid, chosen, known)
        total = len(grid) * len(chosen)
        for number, place in enumerate(grid):
            step = Progress(number * len(chosen), total, "")
            for trial in _trials(place, chosen, {**known, **tried}, step, on_progress):
                if journal is not None and known.get(trial.place) != trial:
                    journal.add(trial.to_json(), lasting=True)
                known[trial.place] = trial
        on_progress(Progress(total, total, ""))
        board = Leaderboard.of(current(list(known.values()), now))
        if out is not None:
            board.save(out)
    return board


def _opened(folder: Path) -> Journal:
    """The journal of a folder, which may be new. Raises as `leaderboard` does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except OSError as reason:
        raise OutputError(f"cannot write to {folder}: {reason.strerror}.") from reason
    if names and JOURNAL not in names:
        raise OutputError(
            f"{folder} is not the folder of a leaderboard: it holds {names[0]}. Choose another."
        )
    return Journal(folder / JOURNAL, KEPT_TRIALS)


def _warn_of_changed(trials: Iterable[Trial], now: Mapping[str, str], out: object) -> None:
    changed = {t.method for t in trials if t.method in now and t.method_id != now[t.method]}
    if changed:
        warnings.warn(
            f"{out} has trials of {', '.join(sorted(changed))} from before they changed, or of an "
            "older Edgewise; those of this call are run again.",
            stacklevel=3,
        )


def _first_trials(
    grid: Sequence[tuple[str, str, int]],
    chosen: Sequence[Contestant],
    known: Mapping[_Place, Trial],
) -> dict[_Place, Trial]:
    """Users' methods on the first problem there is. Raises `SettingError` if one fails."""
    own = [contestant for contestant in chosen if contestant.is_own]
    if not own:
        return {}
    problems = (benchmark_problem(*place) for place in grid)
    first = next((p for p in problems if isinstance(p, BenchmarkProblem)), None)
    if first is None:
        raise SettingError("none of these problems has an effect to find; name other programs.")
    trials = {}
    for contestant in own:
        if _known(contestant, first, known) is not None:
            continue
        trial, reason = run_trial(contestant, first)
        if reason is not None:
            raise SettingError(
                f"method {contestant.name}, tried on {first.program} ({first.ablation} "
                f"ablation): {trial.why}"
            ) from reason
        trials[trial.place] = trial
    return trials


def _trials(
    place: tuple[str, str, int],
    chosen: Sequence[Contestant],
    known: Mapping[_Place, Trial],
    step: Progress,
    on_progress: OnProgress,
) -> Iterator[Trial]:
    """The trials of one problem, known ones as they are."""
    problem = benchmark_problem(*place)
    if isinstance(problem, Trial):
        yield problem
        return
    for i, contestant in enumerate(chosen):
        trial = _known(contestant, problem, known)
        if trial is None:
            program, ablation, seed = place
            message = f"{contestant.name} on {program}, {ablation}, seed {seed}"
            on_progress(Progress(step.done + i, step.total, message))
            trial, _ = run_trial(contestant, problem)
        yield trial


def _known(
    contestant: Contestant, problem: BenchmarkProblem, known: Mapping[_Place, Trial]
) -> Trial | None:
    """The trial if it is known, and of this method and problem as they are now."""
    trial = known.get((problem.program, problem.ablation, problem.seed, contestant.name))
    if trial is None or trial.method_id != contestant.identity:
        return None
    return trial if trial.problem_id == problem.problem_id else None


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """How many seeds, from 0 on, or which. Raises `SettingError`."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        chosen: Sequence[int] = range(seeds if seeds <= _MOST_SEEDS else 0)
    else:
        chosen = seeds if isinstance(seeds, Sequence) else ()
    for seed in chosen:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise SettingError(f"seed {quoted(seed)} is not a whole number of at least 0.")
        check_seed(seed)
    if not chosen:
        raise SettingError(
            f"seeds is {quoted(seeds)}; pass how many (1 to {_MOST_SEEDS:,}), or which."
        )
    return tuple(dict.fromkeys(chosen))
