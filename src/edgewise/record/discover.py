"""The one verb: discover a circuit, and keep the record of how."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewise.discovery import (
    NO_JOURNAL,
    Finding,
    OnProgress,
    acdc_thresholds,
    ignore_progress,
    method_named,
)
from edgewise.errors import SettingError
from edgewise.evaluation import faithfulness
from edgewise.problem import Problem
from edgewise.record.environment import environment, peak_memory_bytes
from edgewise.record.journal import unfinished
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.settings import ACDCSettings, Engine, HeadOrder, Precision


def discover(
    problem: Problem,
    method: str = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    journal: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Find the circuit of a problem with any method, by name; the method's settings are keywords.

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
    """
    _check_is_problem(problem, "discover")
    chosen = method_named(method)
    resolved = chosen.resolve(settings)
    started, clock = _now(), _Clock(problem)
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    taken_over = 0
    if journal is None:
        finding = chosen.function(problem, resolved, on_progress, NO_JOURNAL)
    else:
        with unfinished(journal, problem, chosen.name, asdict(resolved)) as kept:
            taken_over = kept.n_decisions
            finding = chosen.function(problem, resolved, on_progress, kept)
    given = {name: getattr(resolved, name) for name in settings}
    return _run(
        problem, chosen.name, given, resolved, finding, started, clock, taken_over=taken_over
    )


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
    _check_is_problem(problem, "acdc_sweep")
    method = method_named("acdc")
    every = [method.resolve({**settings, "threshold": threshold}) for threshold in thresholds]
    if not every:
        raise SettingError("acdc_sweep needs at least one threshold.")
    started, clock = _now(), _Clock(problem)
    problem.baselines()
    findings = acdc_thresholds(problem, every[0], [s.threshold for s in every], on_progress)
    clock.stop()
    return [
        _run(problem, "acdc", {**settings, "threshold": s.threshold}, s, finding, started, clock)
        for s, finding in zip(every, findings, strict=True)
    ]


def _check_is_problem(problem: object, caller: str) -> None:
    if not isinstance(problem, Problem):
        hint = " Pass task.problem." if hasattr(problem, "problem") else ""
        raise SettingError(f"{caller} takes a Problem, not a {type(problem).__name__}.{hint}")


class _Clock:
    """Seconds, forward and backward passes since it was made, until it is stopped."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._passes = problem, problem.passes()
        self._start = time.perf_counter()
        self._stopped: tuple[float, int, int] | None = None

    def stop(self) -> tuple[float, int, int]:
        """What it shows, from the first call on."""
        if self._stopped is None:
            seconds = time.perf_counter() - self._start
            forward, backward = self._problem.passes()
            self._stopped = seconds, forward - self._passes[0], backward - self._passes[1]
        return self._stopped


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _run(
    problem: Problem,
    method: str,
    given: dict[str, Any],
    settings: Any,
    finding: Finding,
    started: str,
    clock: _Clock,
    *,
    taken_over: int = 0,
) -> Run:
    seconds, forward, backward = clock.stop()
    return Run(
        method=method,
        settings_given=given,
        settings=asdict(settings),
        problem=ProblemSummary.of(problem),
        circuit=finding.circuit,
        scores=finding.scores,
        trace=finding.trace,
        cost=Cost(
            seconds=seconds,
            forward_passes=forward,
            backward_passes=backward,
            edge_tests=finding.edge_tests,
            edges_skipped=finding.edges_skipped,
            peak_memory_bytes=peak_memory_bytes(problem.model.device),
            variants=finding.variants,
            taken_over=taken_over,
        ),
        environment=environment(problem.model),
        started=started,
        margin=finding.margin,
        worst_error=finding.worst_error,
        measurements={"faithfulness": faithfulness(problem, finding.circuit).to_json()},
        request=request_of(problem),
        notes=finding.notes,
    )


def request_of(problem: Problem) -> dict[str, Any]:
    """What the command line needs to make the problem again; empty if it cannot."""
    if not problem.origin or problem.reference.prompts is not None:
        return {}
    graph = problem.graph
    return {
        **problem.origin,
        "metric": problem.metric.name,
        "reference": problem.reference.kind,
        "split_qkv": graph.split_qkv,
        "split_heads": graph.split_heads,
        "split_embed": graph.split_embed,
        "switches": graph.switches,
        "batch_size": problem.batch_size,
        "dtype": str(problem.model.dtype).removeprefix("torch."),
    }


def acdc(
    problem: Problem,
    *,
    threshold: float,
    head_order: HeadOrder = ACDCSettings.head_order,
    absolute: bool = ACDCSettings.absolute,
    prune: bool = ACDCSettings.prune,
    engine: Engine = ACDCSettings.engine,
    precision: Precision = ACDCSettings.precision,
    verify: bool = ACDCSettings.verify,
    on_progress: OnProgress = ignore_progress,
    journal: str | Path | None = None,
) -> Run:
    """Automatic Circuit DisCovery, exactly as in the paper; see `edgewise.discovery.acdc`.

    `threshold` is the paper's tau, in the unit of the problem's loss. `head_order` is the order of
    *sending* heads within a layer. `absolute` compares the size of a change instead of its rise.
    `prune` drops dangling nodes at the end. `engine="plain"` tests every edge from scratch, and
    `verify` does so beside the fast way; neither changes a decision. `precision="reduced"`
    estimates deltas by bfloat16 products and takes close decisions in full (kl and logit-diff).
    `journal` is a folder from which a run that was stopped goes on; see `discover`.
    """
    return discover(
        problem,
        "acdc",
        on_progress=on_progress,
        journal=journal,
        threshold=threshold,
        head_order=head_order,
        absolute=absolute,
        prune=prune,
        engine=engine,
        precision=precision,
        verify=verify,
    )
