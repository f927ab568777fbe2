"""A trial of the leaderboard: one contestant on one benchmark problem, and what came of it.

The problems are every bundled program under several ablations, with several draws of prompts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgewise.blame import explained
from edgewise.circuit import Circuit
from edgewise.documents import Finite
from edgewise.errors import (
    EdgewiseError,
    FormatError,
    OutputError,
    SettingError,
    shortened,
    unknown_name,
)
from edgewise.evaluation.records import Record
from edgewise.model import PROGRAMS
from edgewise.patching import Ablation
from edgewise.problem import Problem
from edgewise.recipes.areas import AREAS, areas_of, tied_areas
from edgewise.recipes.contestants import Contestant
from edgewise.sweeps import named_task
from edgewise.sweeps.points import content_of
from edgewise.work.identity import hashed

# What an edge outside the circuit carries. Two corruptions: as the paper corrupts programs, and
# tokens alone.
ABLATIONS: dict[str, str | Ablation] = {
    "zero": "zero",
    "mean": "mean",
    "corrupted": "corrupted",
    "corrupted-tokens": Ablation("corrupted"),
}
QUICK_PROGRAMS = ("or-gate", "tracr-reverse", "tracr-sort", "tracr-xproportion")
QUICK_ABLATIONS = ("zero", "corrupted")
_NO_EFFECT = 1e-9  # between full model and empty circuit, in the metric's unit (l2)


@dataclass(frozen=True)
class Trial(Record):
    """One method on one problem, against the structural truth.

    `status`: done; refused, the method told with an error of Edgewise's why it has no answer;
    failed, it raised something else or returned what is no answer. The areas of the latter two are
    those of an order in which all edges tie. A problem that is not there, or has no effect, is
    left out: it has no method and no areas.
    `problem_id` and `method_id` are hashes of all that the answer depends on.
    """

    program: str
    ablation: str
    seed: int
    status: Literal["done", "refused", "failed", "left out"]
    method: str = ""
    how: str = ""  # the method's settings
    why: str = ""
    problem_id: str = ""
    method_id: str = ""
    n_prompts: int = 0
    n_edges: int = 0
    n_true: int = 0
    average_precision: Finite | None = None
    pessimistic_auc: Finite | None = None
    roc_auc: Finite | None = None
    n_circuits: int | None = None  # None for scores
    forward_passes: int = 0
    backward_passes: int = 0
    removals: int = 0  # evaluated on their own, each less than a forward pass
    seconds: Finite = 0.0

    @property
    def problem(self) -> tuple[str, str, int]:
        """Program, ablation, seed."""
        return self.program, self.ablation, self.seed

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Its point of the grid: program, ablation, seed, method."""
        return *self.problem, self.method

    def checked(self, source: str) -> Trial:
        """The trial itself. Raises `FormatError` if its values do not go together."""
        for name, known in (("program", PROGRAMS), ("ablation", ABLATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise FormatError(
                    f"{source}: {name} is {shortened(repr(value))}, which is not one."
                )
        if self.method and (self.n_edges < 1 or None in [getattr(self, a) for a in AREAS]):
            raise FormatError(f"{source}: a method's cell needs n_edges, {', '.join(AREAS)}.")
        return self


@dataclass(frozen=True, eq=False)
class BenchmarkProblem:
    """A problem with its truth, and the hash of what it is."""

    program: str
    ablation: str
    seed: int
    problem: Problem
    truth: Circuit
    problem_id: str


def benchmark_problem(program: str, ablation: str, seed: int) -> BenchmarkProblem | Trial:
    """The problem, or a trial that says why it is left out."""
    try:
        task = named_task(program, seed=seed, ablation=ABLATIONS[ablation])
        assert task.truth is not None, "bundled programs have one"
        full, empty = task.problem.baselines()
    except EdgewiseError as reason:  # such as a gate's corrupted prompts, which it has not
        return Trial(program, ablation, seed, "left out", why=str(reason))
    if abs(full - empty) <= _NO_EFFECT:
        why = "full model and empty circuit give the same: there is nothing to find."
        return Trial(program, ablation, seed, "left out", why=why)
    content = hashed(content_of(task))
    return BenchmarkProblem(program, ablation, seed, task.problem, task.truth, content)


def named(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """The names in the order known, all by default. Raises `UnknownName`, `SettingError`."""
    chosen = known if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in known:
            raise unknown_name(kind, str(name), known)
    if not chosen:
        raise SettingError(f"there is no {kind} to run on; name one, or leave it out for all.")
    return tuple(name for name in known if name in chosen)


def run_trial(
    contestant: Contestant, benchmark: BenchmarkProblem
) -> tuple[Trial, Exception | None]:
    """Ask a contestant, which is handed the problem and nothing of the truth.

    Beside the trial: what was wrong with the answer. Raises `OutputError`.
    """
    truth = benchmark.truth
    problem = benchmark.problem.with_()  # without what a method before left in it
    problem.baselines()
    before, start = problem.passes(), time.perf_counter()
    wrong: Exception | None = None
    removals, areas = 0, tied_areas(truth)
    try:
        answer, removals = contestant.answer(problem, benchmark.seed)
    except OutputError:
        raise
    except Exception as reason:
        wrong = reason
    seconds = time.perf_counter() - start
    forward, backward = (b - a for a, b in zip(before, problem.passes(), strict=True))
    if wrong is None:
        try:
            areas = areas_of(answer, truth, by=contestant.by)
        except EdgewiseError as reason:
            wrong = SettingError(str(reason))
            wrong.__cause__ = reason
    status: Any = "done"
    if wrong is not None:
        is_refused = isinstance(wrong, EdgewiseError) and not contestant.is_own
        status = "refused" if is_refused else "failed"
    trial = Trial(
        program=benchmark.program,
        ablation=benchmark.ablation,
        seed=benchmark.seed,
        status=status,
        method=contestant.name,
        how=contestant.how,
        why="" if wrong is None else explained(wrong),
        problem_id=benchmark.problem_id,
        method_id=contestant.identity,
        n_prompts=len(problem.pairs),
        n_edges=truth.graph.n_edges,
        n_true=truth.n_edges,
        **vars(areas),
        forward_passes=forward,
        backward_passes=backward,
        removals=removals,
        seconds=seconds,
    )
    return trial, wrong
