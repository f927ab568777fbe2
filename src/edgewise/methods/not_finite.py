"""Which prompt gives a score that is not a number: asked only when there is such a score.

Scores are means over prompts, so one bad prompt spoils them all, and the sum does not tell which.
The method runs again on one prompt after the other until one of them shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from edgewise.errors import EdgewiseError, ScoreError
from edgewise.methods.journal import NO_JOURNAL, Journal
from edgewise.methods.method_result import MethodResult, OnProgress, ignore_progress
from edgewise.problem import Problem

Scoring = Callable[[Problem, Any, OnProgress, Journal], MethodResult]


def naming_prompt(method: Scoring) -> Scoring:
    """The method, whose error about a score also says on which prompt it is not finite."""

    @wraps(method)
    def named(
        problem: Problem,
        settings: Any,
        on_progress: OnProgress = ignore_progress,
        journal: Journal = NO_JOURNAL,
    ) -> MethodResult:
        try:
            return method(problem, settings, on_progress, journal)
        except ScoreError as reason:
            raise _first(problem, settings, method) or reason from reason

    return named


def _first(problem: Problem, settings: Any, method: Scoring) -> ScoreError | None:
    """The error of the first prompt that has one by itself."""
    ablation = problem.ablation.over(problem.pairs)  # all prompts' mean, not this one's
    for number, pairs in enumerate(problem.pairs.batches(1)):
        try:
            alone = problem.with_(pairs=pairs, ablation=ablation)
            method(alone, settings, ignore_progress, NO_JOURNAL)
        except ScoreError as found:
            return ScoreError(found.edge, found.value, prompt=number)
        except EdgewiseError:
            continue  # such as a pair whose prompts are equal, which is no problem by itself
    return None
