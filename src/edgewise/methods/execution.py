"""Running a method by its row: what is the same for all of them.

A method is a function (problem, settings, session) -> MethodResult, a user's own a function
(problem) -> scores or circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import EdgewiseError, ScoreError, SettingError
from edgewise.graph import Graph
from edgewise.methods.catalogue import Method
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import Session
from edgewise.methods.settings import SelectionSettings
from edgewise.problem import Problem
from edgewise.progress import OnProgress, ignore_progress
from edgewise.work.store import Checkpoint


def run_method(
    method: Method,
    problem: Problem,
    settings: Any,
    *,
    on_progress: OnProgress = ignore_progress,
    journal: Checkpoint | None = None,
) -> MethodResult:
    """What a method finds. Raises what it raises; a `ScoreError` that names the prompt too."""
    function = method.load()
    if method.function is not None:
        return _of_answer(method, function(problem), problem, settings)
    try:
        return function(problem, settings, Session(on_progress, journal))
    except ScoreError as reason:
        raise _of_one_prompt(problem, settings, function) or reason from reason


def run_together(
    method: Method,
    problem: Problem,
    choices: Sequence[Any],
    *,
    on_progress: OnProgress = ignore_progress,
) -> list[MethodResult]:
    """What a method finds with each of several choices of a setting that shares work, in order.

    Each is what the method finds with these settings alone.
    """
    if method.together:
        return method.load_together()(problem, choices, Session(on_progress))
    first = run_method(method, problem, choices[0], on_progress=on_progress)
    return [replace(first, circuit=settings.circuit(first.scores)) for settings in choices]


# --- a score that is not a number


def _of_one_prompt(
    problem: Problem, settings: Any, function: Callable[..., MethodResult]
) -> ScoreError | None:
    """The error of the first prompt that has one by itself.

    Scores are means over prompts, so one bad prompt spoils them all, and the sum does not tell
    which. Run again on one prompt after the other until one of them shows it.
    """
    for number, alone in prompts_alone(problem):
        try:
            function(alone, settings)
        except ScoreError as reason:
            return ScoreError(reason.edge, reason.value, prompt=number)
        except EdgewiseError:
            continue
    return None


def prompts_alone(problem: Problem) -> Iterator[tuple[int, Problem]]:
    """Each prompt by its number, as a problem of its own with the ablation it has among all."""
    ablation = problem.ablation.over(problem.pairs)  # all prompts' mean, not this one's
    for number, pairs in enumerate(problem.pairs.batches(1)):
        try:
            yield number, problem.with_(pairs=pairs, ablation=ablation)
        except EdgewiseError:
            continue  # such as a pair whose prompts are equal, which is no problem by itself


# --- functions of users


def check_answer(answer: Any, graph: Graph, whose: str, *, wanted: str) -> None:
    """Raise `SettingError` unless a function's answer is a circuit or scores of edges, on a graph.

    `whose` names the function, `wanted` says what it should return.
    """
    if not isinstance(answer, EdgeScores | Circuit):
        hint = " A run has `.scores` and `.circuit`." if hasattr(answer, "scores") else ""
        raise SettingError(f"{whose} returned a {type(answer).__name__}; return {wanted}.{hint}")
    if answer.graph != graph:
        raise SettingError(
            f"{whose} answers on a graph of {answer.graph.describe()}, and problem.graph has "
            f"{graph.describe()}; return {wanted}."
        )


def _of_answer(
    method: Method, answer: Any, problem: Problem, settings: SelectionSettings
) -> MethodResult:
    """The result of a user's function. Raises `SettingError` for what is no answer."""
    wanted = "EdgeScores or a Circuit, on problem.graph"
    check_answer(answer, problem.graph, f"method {method.name}", wanted=wanted)
    if isinstance(answer, EdgeScores):
        return MethodResult(settings.circuit(answer), answer)
    if settings != SelectionSettings():
        raise SettingError(
            f"method {method.name} returned a circuit, so nothing is selected from scores. Leave "
            "edges, share, above, nodes, select and by out."
        )
    kept = answer.keep.double()
    return MethodResult(answer, EdgeScores(answer.graph, kept, method.name, "1 if kept"))
