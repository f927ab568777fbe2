"""What is varied from replicate to replicate: prompts, the order of heads, the size, the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from edgewise.engine import ReceiverStep
from edgewise.errors import SettingError, unknown_name
from edgewise.evaluation.resampling import Finder, check_enough
from edgewise.graph import Graph
from edgewise.methods import METHODS
from edgewise.methods.steps import shuffled_steps

Over = Literal["prompts", "head-order", "threshold", "seed"]

# What decides the size of a circuit, for "threshold": the first that a method was given.
_WHOLE_SIZES = ("edges", "nodes", "activations")
_SHARES = ("share", "activation_share")
_SIZES = ("threshold", "regularisation", "above", *_WHOLE_SIZES, *_SHARES, "sparsity")


@dataclass(frozen=True)
class Variation:
    """What one replicate is found with: settings, rows of prompts and order, None as they are."""

    settings: Any
    rows: list[int] | None
    steps: list[ReceiverStep] | None
    in_words: dict[str, Any]


def checked_over(over: str | Sequence[str], finder: Finder) -> tuple[Over, ...]:
    """What to vary, in one order. Raises `UnknownName`, `SettingError` if the method has it not."""
    method, settings = finder.method, finder.settings
    chosen = (over,) if isinstance(over, str) else tuple(over)
    for name in chosen:
        if name not in get_args(Over):
            raise unknown_name("variation", name, get_args(Over))
    if not chosen:
        raise SettingError(f"nothing to vary; choose of {', '.join(get_args(Over))}.")
    if "head-order" in chosen and not method.takes_order:
        ordered = [row.name for row in METHODS.values() if row.takes_order]
        raise SettingError(
            f"{method.name} has no order of heads to vary; {' and '.join(ordered)} do."
        )
    if "prompts" in chosen:
        check_enough(finder.problem, "resampling prompts")
    names = {field.name for field in fields(settings)}
    if "seed" in chosen and "seed" not in names:
        raise SettingError(f"{method.name} draws nothing, so it has no seed to vary.")
    if "threshold" in chosen:
        size = size_setting(settings)
        if size is None or not getattr(settings, size):
            raise SettingError(
                f"{method.name} has no threshold or size above 0 to vary around; give one."
            )
    return tuple(name for name in get_args(Over) if name in chosen)


def size_setting(settings: Any) -> str | None:
    """The setting that says how large a circuit becomes; None for methods without one."""
    return next((name for name in _SIZES if getattr(settings, name, None) is not None), None)


def varied(
    finder: Finder, over: Sequence[Over], *, spread: float, seed: int, index: int
) -> Variation:
    """What is drawn for replicate `index`.

    Each thing that is varied has random numbers of its own, so that varying another as well changes
    nothing about it; replicate 7 of 10 is replicate 7 of 100.
    """
    problem, settings, drawn = finder.problem, finder.settings, dict[str, Any]()
    rows, steps = None, None
    if "prompts" in over:
        n = len(problem.pairs)
        rows = _random(seed, index, "prompts").integers(n, size=n).tolist()
        drawn["distinct_prompts"] = len(set(rows))
    if "threshold" in over:
        name = size_setting(settings)
        assert name is not None  # checked_over saw one
        factor = spread ** _random(seed, index, "threshold").uniform(-1, 1)
        drawn[name] = _scaled(name, getattr(settings, name), factor, problem.graph)
        settings = replace(settings, **{name: drawn[name]})
    if "seed" in over:
        drawn["seed"] = int(_random(seed, index, "seed").integers(2**31))
        settings = replace(settings, seed=drawn["seed"])
    if "head-order" in over:
        drawn["head_order_seed"] = int(_random(seed, index, "head-order").integers(2**31))
        generator = torch.Generator().manual_seed(drawn["head_order_seed"])
        steps = shuffled_steps(problem.graph, generator)
    return Variation(settings, rows, steps, drawn)


def _scaled(name: str, value: float, factor: float, graph: Graph) -> float:
    if name in _WHOLE_SIZES:
        most = {
            "edges": graph.n_edges,
            "nodes": sum(node.layer is not None for node in graph.nodes),
            "activations": sum(port.node.layer is not None for port in graph.receivers),
        }
        return min(most[name], max(1, round(value * factor)))
    if name == "sparsity":  # what is kept is scaled
        return max(0.0, 1 - (1 - value) * factor)
    if name in _SHARES:
        return min(1.0, value * factor)
    return value * factor


def _random(seed: int, index: int, what: Over) -> np.random.Generator:
    return np.random.default_rng([seed, index, get_args(Over).index(what)])
