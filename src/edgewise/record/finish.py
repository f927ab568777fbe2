"""From what a method found to a run: the record around it."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from edgewise.evaluation import faithfulness
from edgewise.identity import Identity
from edgewise.methods.method_result import MethodResult
from edgewise.problem import Problem
from edgewise.record.environment import environment, peak_memory_bytes
from edgewise.record.run import Cost, ProblemSummary, Run


class Clock:
    """The time of day, and seconds and passes since then, until it is stopped."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._passes = problem, problem.passes()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.perf_counter()
        self._stopped: tuple[float, int, int] | None = None

    def stop(self) -> tuple[float, int, int]:
        """What it shows, from the first call on."""
        if self._stopped is None:
            seconds = time.perf_counter() - self._start
            forward, backward = self._problem.passes()
            self._stopped = seconds, forward - self._passes[0], backward - self._passes[1]
        return self._stopped


def finished_run(
    problem: Problem,
    work: Identity,
    given: dict[str, Any],
    settings: Any,
    finding: MethodResult,
    clock: Clock,
    *,
    taken_over: int = 0,
) -> Run:
    """The run of a finding, with its circuit's faithfulness. Stops the clock.

    `work` is its method's `identity`. Raises `ModelChanged` if the model changed meanwhile.
    """
    seconds, forward, backward = clock.stop()
    accuracy = problem.accuracy()
    measurements = {"faithfulness": faithfulness(problem, finding.circuit).to_json()}
    notes = finding.notes
    if accuracy is not None:
        measurements["accuracy"] = accuracy.to_json()
        notes += (f"On these prompts {accuracy}",) if accuracy.low else ()
    return Run(
        method=work["method"],
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
        started=clock.started,
        margin=finding.margin,
        worst_error=finding.worst_error,
        measurements=measurements,
        request=request_of(problem),
        notes=(*problem.pairs.notes, *notes, *_constant(problem, finding)),
        work=work,
    )


def _constant(problem: Problem, finding: MethodResult) -> tuple[str, ...]:
    """A note if no edge had an effect on the metric."""
    if finding.scores.values.any() or not finding.scores.graph.n_edges:
        return ()
    return (
        f"No edge changed {problem.metric.name!r}: every score is exactly 0. The metric may be "
        "constant on these prompts, so this circuit says nothing about the model.",
    )


def request_of(problem: Problem) -> dict[str, Any]:
    """What the command line needs to make the problem again; empty if it cannot."""
    if not problem.origin or problem.ablation.prompts or problem.target:
        return {}
    graph = problem.graph
    shared = problem.model.config.group > 1
    return {
        **problem.origin,
        **({"ungroup_heads": graph.kv_heads is None} if shared else {}),
        "metric": problem.metric.name,
        "ablation": problem.ablation.kind,
        "split_qkv": graph.split_qkv,
        "split_heads": graph.split_heads,
        "split_embed": graph.split_embed,
        "switches": graph.switches,
        "spans": None if graph.spans is None else ",".join(graph.spans),
        "batch_size": problem.batch_size,
        "dtype": str(problem.model.dtype).removeprefix("torch."),
    }
