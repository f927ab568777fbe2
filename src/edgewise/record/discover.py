"""The one verb: discover a circuit, and keep the record of how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewise.methods import AnyMethod, OnProgress, ignore_progress, method_of
from edgewise.methods.execution import run_method
from edgewise.problem import Problem, check_is_problem
from edgewise.record.finish import Clock, finished_run
from edgewise.record.journal import unfinished
from edgewise.record.run import Run


def discover(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    journal: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Find the circuit of a problem with any method; the method's settings are keywords.

    A method is one of `edgewise methods` by its name, or your own: a function (problem) -> scores
    or circuit, or "module:function" (see `edgewise.methods.method_of`).

    `journal` is a folder that keeps what has been decided: if the run is stopped, the same call
    goes on from there and makes the same decisions. Remove it when the run is saved.

    The run's `measurements["faithfulness"]` is on the problem's own prompts: judge a circuit on
    held-out ones with `edgewise.faithfulness`. Raises `UnknownName`, `SettingError`, `MetricError`;
    for a journal that cannot be written or is about other work `OutputError`, for a broken one
    `FormatError`.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> discover(problem, method="acdc", threshold=0.01).circuit.n_edges
    15
    >>> discover(problem, lambda problem: ew.exact(problem).scores, edges=15).circuit.n_edges
    15
    """
    check_is_problem(problem, "discover")
    chosen = method_of(method)
    resolved = chosen.resolve(settings)
    clock = Clock(problem)
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    work = chosen.identity(problem, resolved)
    taken_over = 0
    if journal is None:
        finding = run_method(chosen, problem, resolved, on_progress=on_progress)
    else:
        with unfinished(journal, work) as kept:
            taken_over = kept.n_decisions
            finding = run_method(chosen, problem, resolved, on_progress=on_progress, journal=kept)
    given = {name: getattr(resolved, name) for name in settings}
    return finished_run(problem, work, given, resolved, finding, clock, taken_over=taken_over)
