"""How long a sweep will take, from the points it has finished; how many processes fit."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgewise.sweeps.compute import Job

_SHARE_OF_MEMORY = 0.8  # of what is free, for all processes together


class Pace:
    """Seconds per point of the jobs finished so far, by their kind."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._points: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, job: Job, seconds: float) -> None:
        """A job took this long."""
        self._seconds[job.kind] += seconds
        self._points[job.kind] += len(job.points)

    def seconds_left(self, jobs: Iterable[Job], processes: int = 1) -> float | None:
        """What these jobs will take; None before the first has finished.

        A kind of job that none has finished of is taken to be like the others together.
        """
        if not self._points:
            return None
        overall = sum(self._seconds.values()) / sum(self._points.values())
        total = 0.0
        for job in jobs:
            n = self._points.get(job.kind, 0)
            total += len(job.points) * (self._seconds[job.kind] / n if n else overall)
        return total / processes

    def in_words(self, jobs: Iterable[Job], processes: int = 1) -> str:
        """`about 3 min left; `, or nothing while that is not known."""
        seconds = self.seconds_left(jobs, processes)
        return "" if seconds is None else f"about {duration(seconds)} left; "


def duration(seconds: float) -> str:
    """A time for reading.

    >>> duration(8), duration(170), duration(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def n_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory_bytes() -> int | None:
    """What can still be had, of the machine and of the container; None where that is not told."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(free, default=None)


def processes_that_fit(peak_bytes: int, n_jobs: int) -> int:
    """How many processes, each as large as this, fit beside what runs; one per core and job."""
    most = max(1, min(n_cores(), n_jobs))
    free = free_memory_bytes()
    if free is None:
        return most
    return max(1, min(most, int(_SHARE_OF_MEMORY * free / max(peak_bytes, 1))))
