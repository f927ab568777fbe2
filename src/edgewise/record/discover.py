"""The one verb: discover a circuit, and keep the record of how."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from edgewise.discovery import OnProgress, ignore_progress, method_named
from edgewise.errors import SettingError
from edgewise.evaluation import faithfulness
from edgewise.problem import Problem
from edgewise.record.environment import environment, peak_memory_bytes
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.settings import ACDCSettings, Engine, HeadOrder


def discover(
    problem: Problem,
    method: str = "acdc",
    *,
    on_progress: OnProgress = ignore_progress,
    **settings: Any,
) -> Run:
    """Find the circuit of a problem with any method, by name; the method's settings are keywords.

    The run's `measurements["faithfulness"]` is on the problem's own prompts: judge a circuit on
    held-out ones with `edgewise.faithfulness`. Raises `UnknownName`, `SettingError`, `MetricError`.

    >>> import edgewise as ew
    >>> problem = ew.load_task("tracr-reverse").problem
    >>> discover(problem, method="acdc", threshold=0.01).circuit.n_edges
    15
    """
    if not isinstance(problem, Problem):
        hint = " Pass task.problem." if hasattr(problem, "problem") else ""
        raise SettingError(f"discover takes a Problem, not a {type(problem).__name__}.{hint}")
    chosen = method_named(method)
    resolved = chosen.resolve(settings)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    before, start = problem.forward_passes(), time.perf_counter()
    problem.baselines()  # a metric that fails on the empty circuit fails now, not after hours
    finding = chosen.function(problem, resolved, on_progress)
    seconds, passes = time.perf_counter() - start, problem.forward_passes() - before
    return Run(
        method=chosen.name,
        settings_given={name: getattr(resolved, name) for name in settings},
        settings=asdict(resolved),
        problem=ProblemSummary.of(problem),
        circuit=finding.circuit,
        scores=finding.scores,
        trace=finding.trace,
        cost=Cost(
            seconds=seconds,
            forward_passes=passes,
            backward_passes=0,
            edge_tests=finding.edge_tests,
            edges_skipped=finding.edges_skipped,
            peak_memory_bytes=peak_memory_bytes(problem.model.device),
            variants=finding.variants,
        ),
        environment=environment(problem.model),
        started=started,
        margin=finding.margin,
        measurements={"faithfulness": faithfulness(problem, finding.circuit).to_json()},
        request=request_of(problem),
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
    verify: bool = ACDCSettings.verify,
    on_progress: OnProgress = ignore_progress,
) -> Run:
    """Automatic Circuit DisCovery, exactly as in the paper; see `edgewise.discovery.acdc`.

    `threshold` is the paper's tau, in the unit of the problem's loss. `head_order` is the order of
    *sending* heads within a layer. `absolute` compares the size of a change instead of its rise.
    `prune` drops dangling nodes at the end. `engine="plain"` tests every edge from scratch, and
    `verify` does so beside the fast way; neither changes a decision.
    """
    return discover(
        problem,
        "acdc",
        on_progress=on_progress,
        threshold=threshold,
        head_order=head_order,
        absolute=absolute,
        prune=prune,
        engine=engine,
        verify=verify,
    )
