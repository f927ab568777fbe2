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
from edgewise.methods.acdc import searched
from edgewise.methods.eap import eap_ig
from edgewise.methods.method_result import Decision
from edgewise.methods.settings import ACDCSettings, EAPIGSettings
from edgewise.methods.visits import is_read, visits
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
    search = searched(problem, settings, [settings.threshold])  # settings that cannot be fail now
    expected = _expected(problem, settings)
    graph = problem.graph
    n_tests, circuit = expected or (graph.n_edges, Circuit.full(graph))
    sample, start = max(64, round(_SAMPLE * n_tests)), time.perf_counter()

    def on_decision(_: Decision) -> None:
        n = len(search.trace)
        on_progress(Progress(min(n, sample), sample, f"{n} of some {n_tests:,} tests"))
        if n >= sample or time.perf_counter() - start > seconds:
            raise _Enough

    finished = False
    try:
        search.run(on_decision)
        finished = True
    except _Enough:
        pass
    took, sampled = time.perf_counter() - start, len(search.trace)
    if finished:
        n_tests, circuit = sampled, search.finding(settings.threshold, prune=False).circuit
    else:
        took *= _LATER_TESTS * max(n_tests, sampled) / sampled
    return Forecast(
        seconds=took,
        memory_bytes=memory_bytes(problem, _n_read(circuit)),
        edge_tests=n_tests,
        edges_kept=circuit.n_edges,
        sampled_tests=sampled,
        finished=finished,
        at_most=expected is None and not finished,
    )


def _expected(problem: Problem, settings: ACDCSettings) -> tuple[int, Circuit] | None:
    """How many tests ACDC will make, and the circuit it would find by attributed effects."""
    try:
        scores = eap_ig(problem, EAPIGSettings()).scores
    except MetricError:  # no gradient
        return None
    graph, values = problem.graph, scores.values
    stays = graph.exists & ((values.abs() if settings.absolute else values) >= settings.threshold)
    keep, n_tests = graph.exists.clone(), 0
    for receiver, candidates in visits(graph, settings.head_order):
        read = is_read(graph, keep, receiver, candidates[0].is_switch)
        n_tests += len(candidates) * read
        for edge in candidates:
            at = graph.index(edge)
            keep[at] = read and stays[at]
    return n_tests, Circuit(graph, keep)


def _n_read(circuit: Circuit) -> int:
    """Receivers that something in the circuit reads, at any span."""
    graph = circuit.graph
    read = [p for p in graph.receivers if is_read(graph, circuit.keep, p, is_switch=False)]
    return len({(p.node.kind, p.node.layer, p.node.head, p.slot) for p in read})
