"""The problems of the leaderboard: every bundled program, under several ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.arguments import check_seed
from edgewise.circuit import Circuit
from edgewise.errors import EdgewiseError, SettingError, quoted, unknown_name
from edgewise.leaderboards.cell import Cell
from edgewise.model import PROGRAMS
from edgewise.patching import Ablation
from edgewise.problem import Problem
from edgewise.sweeps import named_task
from edgewise.sweeps.compute import content_of
from edgewise.work.identity import hashed

# What removed edges carry. Two corruptions: as the paper corrupts programs, and tokens alone.
ABLATIONS: dict[str, str | Ablation] = {
    "zero": "zero",
    "mean": "mean",
    "corrupted": "corrupted",
    "corrupted-tokens": Ablation("corrupted"),
}
ABOUT_ABLATIONS = {
    "zero": "removed edges carry nothing",
    "mean": "the sender's mean over prompts and positions",
    "corrupted": "the sender's value on another input, positions permuted as well",
    "corrupted-tokens": "the sender's value on another input, positions as they are",
}
QUICK_PROGRAMS = ("or-gate", "tracr-reverse", "tracr-sort", "tracr-xproportion")
QUICK_ABLATIONS = ("zero", "corrupted")
_MOST_SEEDS = 10_000
_NO_EFFECT = 1e-9  # between full model and empty circuit, in the metric's unit (l2)


@dataclass(frozen=True, eq=False)
class Posed:
    """A problem with its truth, and the hash of what it is."""

    program: str
    ablation: str
    seed: int
    problem: Problem
    truth: Circuit
    problem_id: str

    def with_fresh_work(self) -> Problem:
        """The problem without what a method before left in it, its two baselines known."""
        problem = self.problem.with_()
        problem.baselines()
        return problem


def posed(program: str, ablation: str, seed: int) -> Posed | Cell:
    """The problem, or a cell that says why it is left out."""
    try:
        task = named_task(program, seed=seed, ablation=ABLATIONS[ablation])
        assert task.truth is not None, "bundled programs have one"
        full, empty = task.problem.baselines()
    except EdgewiseError as reason:  # such as a gate's corrupted prompts, which it has not
        return Cell(program, ablation, seed, "left out", why=str(reason))
    if abs(full - empty) <= _NO_EFFECT:
        why = "full model and empty circuit give the same: there is nothing to find."
        return Cell(program, ablation, seed, "left out", why=why)
    return Posed(program, ablation, seed, task.problem, task.truth, hashed(content_of(task)))


def check_programs(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Programs by name, all by default. Raises `UnknownName`."""
    return _known("bundled program", asked, PROGRAMS)


def check_ablations(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Ablations by name, all by default. Raises `UnknownName`."""
    return _known("ablation of the leaderboard", asked, tuple(ABLATIONS))


def _known(kind: str, asked: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    if asked is None:
        return tuple(known)
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in known:
            raise unknown_name(kind, str(name), known)
    if not names:
        raise SettingError(f"there is no {kind} to run on; name one, or leave it out for all.")
    return tuple(name for name in known if name in names)


def check_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """How many seeds, from 0 on, or which. Raises `SettingError`."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        wanted: Sequence[int] = range(seeds if seeds <= _MOST_SEEDS else 0)
    else:
        wanted = seeds if isinstance(seeds, Sequence) else ()
    chosen = tuple(dict.fromkeys(wanted))
    for seed in chosen:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise SettingError(f"seed {quoted(seed)} is not a whole number of at least 0.")
        check_seed(seed)
    if not chosen:
        raise SettingError(
            f"seeds is {quoted(seeds)}; pass how many (1 to {_MOST_SEEDS:,}), or which."
        )
    return chosen
