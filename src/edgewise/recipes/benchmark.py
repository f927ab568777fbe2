"""Run the leaderboard: contestants on programs, ablations and seeds, each trial kept for good.

A method is handed the problem and nothing else: the truth stays here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
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

    Your methods go first; what raises or returns something else on its first problem is refused
    before anything else runs. Later such a trial counts as an order in which all edges tie.

    With `out`, a finished trial is in that folder for good: the same call resumes where it stopped,
    a call with other values adds, and what is returned is all the folder holds. Trials of a method
    whose source has changed are run again.

    Raises `UnknownName`, `SettingError`; `OutputError` if the folder cannot be written, is in use
    or holds something else, `FormatError` if its journal is broken.

    >>> board = leaderboard(["exact"], programs=["tracr-reverse"], ablations=["zero"], seeds=1)
    >>> [row.method for row in board.rows]
    ['exact', 'magnitude', 'random']
    """
    chosen = sorted(contestants(methods), key=lambda contestant: not contestant.is_own)
    grid = product(
        named("bundled program", programs, PROGRAMS),
        _seeds(seeds),
        named("ablation of the leaderboard", ablations, tuple(ABLATIONS)),
    )
    places = [(program, ablation, seed) for program, seed, ablation in grid]
    now = {contestant.name: contestant.identity for contestant in chosen}
    step = Progress(0, len(places) * len(chosen), "")
    with nullcontext() if out is None else _opened(Path(out)) as journal:
        known: dict[_Place, Trial] = {}
        if journal is not None:
            warn_if_untold({f"method {name}": identity for name, identity in now.items()})
            known = {t.place: t for t in last_trials(journal.records, journal.path)}
            _warn_of_changed(known.values(), now, out)
        for place in places:
            problem = benchmark_problem(*place)
            for trial in _trials(problem, chosen, known, step, on_progress):
                if journal is not None and known.get(trial.place) != trial:
                    journal.add(trial.to_json(), lasting=True)
                known[trial.place] = trial
            step = replace(step, done=step.done + len(chosen))
        on_progress(step)
        board = Leaderboard.of(current(list(known.values()), now))
        if out is not None:
            board.save(out)
    if not board.answered:
        raise SettingError("none of these problems has an effect to find; name other programs.")
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


def _trials(
    problem: BenchmarkProblem | Trial,
    chosen: Sequence[Contestant],
    known: Mapping[_Place, Trial],
    step: Progress,
    on_progress: OnProgress,
) -> Iterator[Trial]:
    """The trials of one problem, known ones as they are.

    Raises `SettingError` if the first of a user's own method fails.
    """
    if isinstance(problem, Trial):  # left out
        yield problem
        return
    place = problem.program, problem.ablation, problem.seed
    for contestant in chosen:
        trial = known.get((*place, contestant.name))
        ids = contestant.identity, problem.problem_id
        if trial is None or (trial.method_id, trial.problem_id) != ids:
            message = f"{contestant.name} on {problem.program}, {problem.ablation}, "
            on_progress(replace(step, message=f"{message}seed {problem.seed}"))
            trial, wrong = run_trial(contestant, problem)
            is_first = contestant.identity not in {t.method_id for t in known.values()}
            if wrong is not None and contestant.is_own and is_first:
                raise SettingError(
                    f"method {contestant.name}, tried on {problem.program} ({problem.ablation} "
                    f"ablation): {trial.why}"
                ) from wrong
        yield trial
        step = replace(step, done=step.done + 1)


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """How many seeds, from 0 on, or which. Raises `SettingError`."""
    chosen = range(seeds) if isinstance(seeds, int) and seeds <= _MOST_SEEDS else seeds
    if not isinstance(chosen, Sequence) or not chosen:
        raise SettingError(
            f"seeds is {quoted(seeds)}; pass how many (1 to {_MOST_SEEDS:,}), or which."
        )
    return tuple(dict.fromkeys(check_seed(seed) for seed in chosen))
