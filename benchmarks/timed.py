"""Where an engine's time goes, and how fast it computes beside what the card can."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import edgewise as ew
from edgewise.engine.active import MlpNode
from edgewise.engine.attention_nodes import AttentionStack
from edgewise.engine.losses import KLLosses
from edgewise.methods.method_result import Decision
from problems import Watch
from work import Evaluated, all_evaluated

_PEAKS = {"H200": {"float32": 67e12, "bfloat16": 989e12}}  # FLOP/s, dense

_PARTS: dict[str, tuple[type, tuple[str, ...]]] = {
    "attention": (AttentionStack, ("change", "commit")),
    "mlps": (MlpNode, ("change", "commit")),
    "unembedding": (KLLosses, ("exact", "estimate", "rebase")),
}


def work_done(
    problem: ew.Problem,
    trace: Sequence[Decision],
    count: Evaluated,
    forward_passes: int,
    seconds: float,
) -> dict[str, Any]:
    """What a run computed, how fast, and what part of the card's peaks that is (None: unknown)."""
    nodes, flops = all_evaluated(problem, trace, count, forward_passes)
    on_gpu = problem.model.device.type == "cuda"
    name = torch.cuda.get_device_name(problem.model.device) if on_gpu else ""
    peaks = next((peaks for card, peaks in _PEAKS.items() if card in name), None)
    speed = flops / seconds
    return {
        "node_evaluations": nodes,
        "flops": flops,
        "flops_per_second": speed,
        "part_of_peak": peaks and {kind: speed / peak for kind, peak in peaks.items()},
    }


def profile(problem: ew.Problem, settings: dict[str, Any]) -> dict[str, Any]:
    """The share of each part of the engine in a run's time; its first minute if it takes longer."""
    start, watch = time.perf_counter(), Watch(seconds=60)
    with seconds_by_part() as spent:
        watch.run(problem, **settings)
    seconds = time.perf_counter() - start
    shares = {part: one / seconds for part, one in spent.items()}
    shares["rest"] = 1 - sum(shares.values())
    return {"seconds": seconds, "finished": watch.finished, "shares": shares}


@contextmanager
def seconds_by_part() -> Iterator[dict[str, float]]:
    """Seconds that engines spend in each part from here on.

    The GPU is waited for before and after each part, so a run that is watched is slower.
    """
    spent, before = dict.fromkeys(_PARTS, 0.0), []
    for part, (owner, names) in _PARTS.items():
        for name in names:
            before.append((owner, name, getattr(owner, name)))
            setattr(owner, name, _clocked(getattr(owner, name), part, spent))
    try:
        yield spent
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def _clocked(method: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **settings: Any) -> Any:
        _wait()
        start = time.perf_counter()
        value = method(*arguments, **settings)
        _wait()
        spent[part] += time.perf_counter() - start
        return value

    return call


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
