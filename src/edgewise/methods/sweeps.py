"""One method with several values of one setting, where the values share most of the work.

- acdc, `threshold`: one search, in which what thresholds decide alike is done once.
- A method that selects from scores, and how it selects (`edges`, `share`, `above`, `nodes`,
  `select`, `by`): the scores are computed once.
- hisp, `units` and `unit_share`: the importance of units is computed once.

Other settings (lambda, seeds, steps, a sparsity that training aims at) share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from edgewise.methods.acdc import acdc_thresholds
from edgewise.methods.catalogue import Method
from edgewise.methods.hisp import hisp_findings
from edgewise.methods.journal import NO_JOURNAL
from edgewise.methods.method_result import MethodResult, OnProgress, ignore_progress
from edgewise.methods.selection import select
from edgewise.problem import Problem
from edgewise.settings import SelectionSettings

_SELECTING = {field.name for field in fields(SelectionSettings)}


def shares_work(method: Method, setting: str) -> bool:
    """Whether `found_together` knows how to find the circuits of several values of this setting."""
    if issubclass(method.settings, SelectionSettings):
        return setting in _SELECTING
    return (method.name, setting) in (
        ("acdc", "threshold"),
        ("hisp", "units"),
        ("hisp", "unit_share"),
    )


def found_together(
    problem: Problem,
    method: Method,
    every: Sequence[Any],
    on_progress: OnProgress = ignore_progress,
) -> list[MethodResult]:
    """What a method finds with settings that differ in one that `shares_work`; in their order.

    Each is what the method finds with these settings alone. Raises `SettingError`, `MetricError`.
    """
    if method.name == "acdc":
        return acdc_thresholds(problem, every[0], [s.threshold for s in every], on_progress)
    if method.name == "hisp":
        return hisp_findings(problem, every, on_progress)
    first = method.function(problem, every[0], on_progress, NO_JOURNAL)
    return [replace(first, circuit=select(first.scores, settings)) for settings in every]
