"""Who computes where this process does not: several, while this one alone writes.

An executor takes jobs and gives each with its result, in the order in which they are finished. What
goes wrong in a job is in its result; `OutputError` alone (a full disk) stops all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch

from edgewise.errors import OutputError

J = TypeVar("J")
R = TypeVar("R")

_SHARE_OF_MEMORY = 0.8  # of what is free, for all processes together


def grouped(items: Iterable[J], key: Callable[[J], Hashable]) -> list[tuple[J, ...]]:
    """Items of equal key together, in the order of the first of each."""
    groups: dict[Hashable, list[J]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [tuple(group) for group in groups.values()]


def in_processes(
    jobs: Sequence[J],
    make: Callable[[], Callable[[J], R]],
    *,
    n: int,
    died: Callable[[J, str], R],
) -> Generator[tuple[J, R], None, None]:
    """Every job with its result, from `n` processes, each of which calls `make` once.

    The job of a process that dies (out of memory, most often) has the result that `died` makes of
    it and how that was, and one process less goes on. Jobs, results and `make` go from process to
    process. Raises `OutputError`. Processes end with the iterator, and with this process.
    """
    waiting, at_work = deque(jobs), dict[Connection, J]()
    processes: dict[Connection, BaseProcess] = {}
    n_threads = max(1, min(torch.get_num_threads(), n_cores() // n))
    try:
        processes |= [_started(make, n_threads) for _ in range(min(n, len(jobs)))]
        while waiting or at_work:
            if not processes:  # all have died
                processes |= [_started(make, n_threads)]
            for connection in processes:
                if waiting and connection not in at_work:
                    at_work[connection] = waiting.popleft()
                    with suppress(BrokenPipeError, ConnectionResetError):  # as the reply will tell
                        connection.send(at_work[connection])
            answered = wait(list(at_work))
            for connection in [c for c in at_work if c in answered]:
                job = at_work.pop(connection)
                try:
                    reply = connection.recv()
                except (EOFError, ConnectionResetError):
                    reply = died(job, _end_of(processes.pop(connection)))
                if isinstance(reply, OutputError):
                    raise reply
                yield job, reply
    finally:
        for process in processes.values():
            process.terminate()
        for connection, process in processes.items():
            process.join()
            connection.close()


def _started(
    make: Callable[[], Callable[[Any], Any]], n_threads: int
) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, make, n_threads), daemon=True, name="edgewise"
    )
    process.start()
    theirs.close()  # or its end would not be seen
    return ours, process


def _end_of(process: BaseProcess) -> str:
    """How a process ended, in words."""
    process.join()
    code = process.exitcode or 0
    return (
        f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
    )


def _work(connection: Connection, make: Callable[[], Callable[[Any], Any]], n_threads: int) -> None:
    """What a process does: receive a job, send its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(n_threads)
    compute = make()
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        parent = multiprocessing.parent_process()
        if parent is None or not parent.is_alive():
            return
        try:
            reply = compute(job)
        except OutputError as reason:
            reply = OutputError(str(reason))
        connection.send(reply)


def _end_with_parent() -> None:
    """End at once if the process that gave the jobs is gone: nobody would keep the results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


# --- how many processes


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
