"""ACDC with several thresholds: what neighbours decide alike is tested once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from edgewise.engine import Threshold
from edgewise.methods.acdc import acdc_in_steps
from edgewise.methods.method_result import Decision, MethodResult
from edgewise.methods.settings import ACDCSettings
from edgewise.methods.steps import receiver_steps
from edgewise.methods.trace import test_of
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress


def acdc_thresholds(
    problem: Problem,
    choices: Sequence[ACDCSettings],
    on_progress: OnProgress = ignore_progress,
) -> list[MethodResult]:
    """What ACDC finds with each of several thresholds, the only setting that differs.

    From the lowest, each begins with the decisions of the one below, as far as both decide alike.
    The results' `variants` are those of all thresholds together.
    """
    steps = list(receiver_steps(problem.graph, choices[0].head_order))
    by_threshold = {settings.threshold: settings for settings in choices}
    n_edges, results = problem.graph.n_edges, dict[float, MethodResult]()
    neighbour: tuple[Decision, ...] = ()
    for threshold, settings in sorted(by_threshold.items()):
        done, rule = n_edges * len(results), Threshold(threshold, settings.absolute)

        def on_step(step: Progress, done: int = done, threshold: float = threshold) -> None:
            message = f"threshold {threshold:.3g}, {step.message}"
            on_progress(Progress(done + step.done, n_edges * len(by_threshold), message))

        def agrees(decision: Decision, rule: Threshold = rule) -> bool:
            return rule.agrees(test_of(decision), kept=decision.kept)

        known = tuple(takewhile(agrees, neighbour))
        result = acdc_in_steps(problem, settings, steps, on_progress=on_step, known=known)
        results[threshold], neighbour = result, result.trace
    variants = sum(result.variants for result in results.values())
    return [replace(results[settings.threshold], variants=variants) for settings in choices]
