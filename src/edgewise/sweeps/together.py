"""Several values of one setting: a run for each, and work that they share done once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from edgewise.errors import SettingError
from edgewise.methods import AnyMethod, Method, OnProgress, Progress, ignore_progress, method_of
from edgewise.methods.execution import run_together
from edgewise.problem import Problem, check_is_problem
from edgewise.run import Clock, Run, discover, finished_run
from edgewise.work.identity import of_problem


def sweep(
    problem: Problem,
    method: AnyMethod = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> list[Run]:
    """A run for each value of one setting: the one keyword that is given several values.

    Any method and any setting; the runs come in the order of the values, and each is what
    `discover` gives with its value. What can be shared is done once: ACDC's search over thresholds,
    the scores from which several circuits are selected (`edges`, `share`, `above`, `nodes`,
    `select`, `by`), HISP's gradients (`activations`, `activation_share`). Work is then counted for
    all of them together: each run's `cost` says what the whole sweep took. Training shares nothing,
    so a run for another `regularisation` or `seed` has a cost of its own. Raises as `discover`
    does; all values are checked before anything runs.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> [run.circuit.n_edges for run in sweep(problem, "eap-ig", edges=[5, 10, 20])]
    [5, 10, 20]
    """
    check_is_problem(problem, "sweep")
    chosen = method_of(method)
    name, values = _swept(settings)
    each = [{**settings, name: value} for value in values]
    every = [chosen.resolve(given) for given in each]
    if not chosen.shares_work(name):
        return [
            discover(problem, chosen, on_progress=_about(on_progress, name, s), **given)
            for s, given in zip(every, each, strict=True)
        ]
    return runs_together(problem, chosen, every, list(settings), on_progress)


def acdc_sweep(
    problem: Problem,
    thresholds: Sequence[float],
    *,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> list[Run]:
    """ACDC with several thresholds, in the order given; what they decide alike is done once.

    Each run is what `acdc` gives with its threshold. Work is counted for all of them together: a
    run's `cost` says what the whole sweep took. Raises as `discover` does.
    """
    check_is_problem(problem, "acdc_sweep")
    values = list(thresholds)
    if not values:
        raise SettingError("acdc_sweep needs at least one threshold.")
    return sweep(problem, "acdc", on_progress=on_progress, threshold=values, **settings)


def runs_together(
    problem: Problem,
    method: Method,
    every: Sequence[Any],
    given: Sequence[str],
    on_progress: OnProgress = ignore_progress,
) -> list[Run]:
    """A run for each of these settings, which differ only in what `shares_work`; work done once.

    `given` names the settings that were given. Raises as `discover` does.
    """
    clock = Clock(problem)
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    about = of_problem(problem)
    findings = run_together(method, problem, every, on_progress=on_progress)
    clock.stop()
    return [
        finished_run(
            problem,
            {**about, **method.with_settings(s)},
            {name: getattr(s, name) for name in given},
            s,
            finding,
            clock,
        )
        for s, finding in zip(every, findings, strict=True)
    ]


def _swept(settings: dict[str, Any]) -> tuple[str, list[Any]]:
    """The setting that has several values, and those. Raises `SettingError`."""
    every = {name: several(value) for name, value in settings.items()}
    swept = {name: values for name, values in every.items() if values is not None}
    if len(swept) != 1:
        found = " and ".join(swept) or "none"
        raise SettingError(
            f"a sweep needs one setting with several values, found {found}. Give a list to one: "
            "sweep(problem, 'sp', regularisation=[0.01, 0.1, 1])."
        )
    name, values = next(iter(swept.items()))
    if not values:
        raise SettingError(f"{name} is empty; a sweep needs at least one value.")
    return name, values


def several(value: Any) -> list[Any] | None:
    """The values of a list, range or array, as plain numbers; None for what is one value."""
    # A tensor or array of no dimension is one number, though it has the method of an iterable.
    if not isinstance(value, Iterable) or isinstance(value, str) or getattr(value, "ndim", 1) == 0:
        return None
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _about(on_progress: OnProgress, name: str, settings: Any) -> OnProgress:
    """Progress that says which value it is about."""

    def tell(step: Progress) -> None:
        on_progress(replace(step, message=f"{name} {getattr(settings, name)}: {step.message}"))

    return tell
