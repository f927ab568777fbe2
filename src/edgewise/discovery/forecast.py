"""What a run of ACDC will take, from running a part of it: a few prompts, and a few seconds of all.

    1. A pilot on a few of the prompts shows which nodes will stay, so how much work there is.
    2. The beginning of the real run shows how much longer each step takes with all prompts.

The pilot's circuit is not the real one, so this is a forecast: expect it within a factor of two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgewise.discovery.acdc import searched
from edgewise.discovery.finding import Decision, OnProgress, Progress, ignore_progress
from edgewise.discovery.search import Search
from edgewise.engine import memory_bytes
from edgewise.errors import ProblemError
from edgewise.problem import Problem
from edgewise.settings import ACDCSettings

_PILOT_SHARE = 0.05  # of the prompts


@dataclass(frozen=True)
class Forecast:
    """Seconds, bytes (beyond what is in memory already) and edges that a run will probably take.

    `finished` is False if the pilot ran out of time; then seconds are an upper guess.
    """

    seconds: float
    memory_bytes: int
    edge_tests: int
    edges_kept: int
    pilot_prompts: int
    finished: bool


class _Enough(Exception):
    """Time is up."""


@dataclass
class _Clocked:
    """A search, and how many seconds had passed after each share of the edges."""

    search: Search
    times: list[tuple[int, float]]
    finished: bool

    @property
    def n_kept(self) -> int:
        """Edges that were tested and stayed."""
        return sum(decision.kept for decision in self.search.trace)

    def seconds_until(self, done: int) -> float:
        """Seconds until that many edges were decided."""
        return next((s for d, s in self.times if d >= done), self.times[-1][1])


def forecast(
    problem: Problem,
    settings: ACDCSettings,
    *,
    seconds: float = 20.0,
    on_progress: OnProgress = ignore_progress,
) -> Forecast:
    """Predict a run by working for at most `seconds` on a pilot, and a third of that on the run.

    Raises `SettingError`, `MetricError`.
    """
    small, n_pilot = _pilot(problem)
    pilot = _clocked(small, settings, seconds, on_progress)
    real = _clocked(problem, settings, seconds / 3, on_progress)
    return Forecast(
        seconds=_scaled(pilot, real, problem.graph.n_edges),
        memory_bytes=memory_bytes(problem, pilot.search.n_live_ports),
        edge_tests=int(_whole(len(pilot.search.trace), pilot, problem.graph.n_edges)),
        edges_kept=int(_whole(pilot.n_kept, pilot, problem.graph.n_edges)),
        pilot_prompts=n_pilot,
        finished=pilot.finished or real.finished,
    )


def _pilot(problem: Problem) -> tuple[Problem, int]:
    """The problem on its first prompts: as few as make a problem at all."""
    n = max(1, math.floor(_PILOT_SHARE * len(problem.pairs)))
    while n < len(problem.pairs):
        try:
            return problem.with_(pairs=problem.pairs.subset(0, n), batch_size=None), n
        except ProblemError:  # such as: these corrupted prompts equal their clean ones
            n *= 2
    return problem, len(problem.pairs)


def _clocked(
    problem: Problem, settings: ACDCSettings, seconds: float, on_progress: OnProgress
) -> _Clocked:
    search = searched(problem, settings, [settings.threshold])
    start, times = time.perf_counter(), [(0, 0.0)]
    report = _reporter(search, problem, on_progress)

    def on_decision(decision: Decision) -> None:
        times.append((search.done, time.perf_counter() - start))
        report()
        if times[-1][1] > seconds:
            raise _Enough

    try:
        search.run(on_decision)
    except _Enough:
        return _Clocked(search, times, finished=False)
    times.append((problem.graph.n_edges, time.perf_counter() - start))
    return _Clocked(search, times, finished=True)


def _reporter(search: Search, problem: Problem, on_progress: OnProgress) -> Callable[[], None]:
    n, title = problem.graph.n_edges, f"pilot of {len(problem.pairs)} prompts"
    return lambda: on_progress(Progress(search.done, n, title))


def _scaled(pilot: _Clocked, real: _Clocked, n_edges: int) -> float:
    """The pilot's whole time, times how much slower the real run is over what both have done."""
    if real.finished:
        return real.times[-1][1]
    both = min(real.times[-1][0], pilot.times[-1][0])
    slower = real.seconds_until(both) / max(pilot.seconds_until(both), 1e-6)
    return _whole(pilot.times[-1][1], pilot, n_edges) * max(slower, 1.0)


def _whole(part: float, pilot: _Clocked, n_edges: int) -> float:
    """What a pilot that ran out of time would have come to, had it gone on as it began."""
    if pilot.finished:
        return part
    return part * n_edges / max(pilot.times[-1][0], 1)
