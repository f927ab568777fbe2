"""Jobs in several processes: each computes, this one alone writes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from edgewise.errors import OutputError
from edgewise.sweeps.compute import Computer, Job, Load, failure
from edgewise.sweeps.folder import Outcome
from edgewise.sweeps.timing import n_cores


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None


def computed_in_processes(
    jobs: Sequence[Job], load: Load, unfinished: Path, n: int
) -> Iterator[tuple[Job, list[Outcome]]]:
    """Every job with its outcomes, in the order they are finished, from `n` processes.

    The points of a process that dies (out of memory, most often) have failed, and one process less
    goes on. Raises `OutputError`. Processes end with the iterator, and with this process.
    """
    waiting, workers = deque(jobs), list[_Worker]()
    threads = max(1, min(torch.get_num_threads(), n_cores() // n))
    try:
        for _ in range(min(n, len(jobs))):
            workers.append(_started(load, unfinished, threads))
        while waiting or any(worker.job for worker in workers):
            if not workers:  # all have died
                workers.append(_started(load, unfinished, threads))
            for worker in workers:
                if worker.job is None and waiting:
                    _give(worker, waiting.popleft())
            busy = {worker.connection: worker for worker in workers if worker.job is not None}
            for connection in wait(list(busy)):
                worker = next(w for c, w in busy.items() if c is connection)
                job = worker.job
                assert job is not None
                outcomes = _reply(worker)
                worker.job = None
                if outcomes is None:
                    workers.remove(worker)
                    outcomes = _died(job, worker.process)
                yield job, outcomes
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.connection.close()


def _started(load: Load, unfinished: Path, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, load, unfinished, threads), daemon=True, name="edgewise-sweep"
    )
    process.start()
    theirs.close()  # or its end would not be seen
    return _Worker(process, ours)


def _give(worker: _Worker, job: Job) -> None:
    worker.job = job
    with suppress(BrokenPipeError, ConnectionResetError):  # it has died, as the reply will tell
        worker.connection.send(job)


def _reply(worker: _Worker) -> list[Outcome] | None:
    """What a worker sends: outcomes; None if it has died. Raises what stopped its sweep."""
    try:
        reply = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return None
    if isinstance(reply, BaseException):
        raise reply
    return list(reply)


def _died(job: Job, process: BaseProcess) -> list[Outcome]:
    process.join()
    code = process.exitcode or 0
    how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
    why = (
        f"the process that computed it ended {how}. If memory ran out, ask again for failed points "
        "with fewer workers, or with a batch size."
    )
    return [failure(point, "WorkerDied", why) for point in job.points]


def _work(connection: Connection, load: Load, unfinished: Path, threads: int) -> None:
    """What a process does: receive a job, send its outcomes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    computer = Computer(load, unfinished)
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        if not _has_parent():
            return
        try:
            reply: list[Outcome] | OutputError = computer.outcomes(job)
        except OutputError as reason:
            reply = OutputError(str(reason))
        connection.send(reply)


def _has_parent() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def _end_with_parent() -> None:
    """End at once if the process that asked is gone: nobody would keep what is found."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
