"""What a run of ACDC will take: how many tests by attribution, how long each by making some.

    1. EAP-IG scores every edge, for the price of some twenty forward passes. Taking the edges whose
       score reaches the threshold for those that stay, ACDC's order says which are tested.
    2. The beginning of the real run shows what a test takes. Later ones take longer, as more nodes
       have to be computed: on SmolLM2-135M a quarter more on the mean.

Expect it within a factor of two; it costs less than a tenth of a run that takes minutes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgewise.circuit import Circuit
from edgewise.engine import memory_bytes
from edgewise.errors import MetricError
from edgewise.methods.acdc import acdc
from edgewise.methods.eap import eap_ig
from edgewise.methods.session import Session
from edgewise.methods.settings import ACDCSettings, EAPIGSettings
from edgewise.methods.steps import is_read, receiver_steps
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress
from edgewise.tables import Chart, Table
from edgewise.tables import seconds as duration

_SAMPLE = 0.02  # of the tests expected
_LATER_TESTS = 1.25


@dataclass(frozen=True)
class Forecast:
    """Seconds, bytes (beyond what is in memory already) and edges that a run will probably take.

    `finished`: the sample was the whole run. `at_most`: the metric has no gradient to expect tests
    by, so every edge counts as tested.
    """

    seconds: float
    memory_bytes: int
    edge_tests: int
    edges_kept: int
    sampled_tests: int
    finished: bool
    at_most: bool

    @property
    def title(self) -> str:
        return "What the run will take"

    def sentences(self) -> tuple[str, ...]:
        """Time, memory and tests; and what they are known from."""
        how_known = f"That was the whole run, made for this: {self.sampled_tests} tests."
        if not self.finished:
            how_known = (
                f"From every edge's attribution, and the first {self.sampled_tests} tests of the "
                "run. Expect it within a factor of two."
            )
        return (
            f"{'At most' if self.at_most else 'About'} {duration(self.seconds)}, and at most "
            f"{self.memory_bytes / 1e6:,.0f} MB beside the model: {self.edge_tests:,} edge tests, "
            f"{self.edges_kept:,} edges kept.",
            how_known,
        )

    def tables(self) -> tuple[Table, ...]:
        """None: the sentences say it."""
        return ()

    def charts(self) -> tuple[Chart, ...]:
        """None."""
        return ()


class _Enough(Exception):
    """The sample is large enough."""


def forecast(
    problem: Problem,
    settings: ACDCSettings,
    *,
    seconds: float = 20.0,
    on_progress: OnProgress = ignore_progress,
) -> Forecast:
    """Predict a run from attribution and its first tests, for which it takes at most `seconds`.

    Raises `SettingError`, `MetricError`.
    """
    settings.check_ablation(problem.ablation.kind)
    expected = _expected(problem, settings)
    graph = problem.graph
    n_tests, circuit = expected or (graph.n_edges, Circuit.full(graph))
    sample = max(64, round(_SAMPLE * n_tests))
    start = time.perf_counter()
    sampled = 0

    def on_decision(step: Progress) -> None:
        nonlocal sampled
        if step.done == step.total:
            return
        sampled += 1
        message = f"{sampled} of some {n_tests:,} tests"
        on_progress(Progress(min(sampled, sample), sample, message))
        if sampled >= sample or time.perf_counter() - start > seconds:
            raise _Enough

    try:
        result = acdc(problem, settings, Session(on_decision))
    except _Enough:
        took = (time.perf_counter() - start) * _LATER_TESTS * max(n_tests, sampled) / sampled
        is_finished = False
    else:
        took = time.perf_counter() - start
        is_finished = True
        n_tests = result.edge_tests
        circuit = result.circuit
        sampled = result.edge_tests
    return Forecast(
        seconds=took,
        memory_bytes=memory_bytes(problem, _n_read(circuit)),
        edge_tests=n_tests,
        edges_kept=circuit.n_edges,
        sampled_tests=sampled,
        finished=is_finished,
        at_most=expected is None and not is_finished,
    )


def _expected(problem: Problem, settings: ACDCSettings) -> tuple[int, Circuit] | None:
    """How many tests ACDC will make, and the circuit it would find by attributed effects."""
    try:
        scores = eap_ig(problem, EAPIGSettings()).scores
    except MetricError:  # no gradient
        return None
    circuit = Circuit.full(problem.graph)
    n_tests = 0
    values = scores.values.abs() if settings.absolute else scores.values
    kept = Circuit(problem.graph, problem.graph.exists & (values >= settings.threshold))
    for step in receiver_steps(problem.graph, settings.head_order):
        is_tested = is_read(circuit, step)
        n_tests += is_tested * len(step.edges)
        circuit = circuit.without(*(e for e in step.edges if not is_tested or e not in kept))
    return n_tests, circuit


def _n_read(circuit: Circuit) -> int:
    """Receivers that something in the circuit reads, at any span."""
    steps = [s for s in receiver_steps(circuit.graph) if not s.is_switch and is_read(circuit, s)]
    nodes = ((step.receiver.node, step.receiver.slot) for step in steps)
    return len({(node.kind, node.layer, node.head, slot) for node, slot in nodes})
