"""What a point is by its content: prompts, weights, graph, metric, method, settings; never names.

A point is looked up by this in a sweep's folder, so that one that is there is known again, and one
whose file of prompts or whose model has changed is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

import torch

from edgewise.circuit import Circuit
from edgewise.model import Model
from edgewise.problem import Problem
from edgewise.sweeps.grid import Point
from edgewise.tasks import Task

_VERSION = 1  # of what goes into a key

_known: WeakKeyDictionary[Model, str] = WeakKeyDictionary()


def model_sha256(model: Model) -> str:
    """A hash of the configuration and of every weight's name, dtype, shape and bytes."""
    if model not in _known:
        digest = hashlib.sha256(json.dumps(model.config.to_json(), sort_keys=True).encode())
        for name, tensor in sorted(model.weights.items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        _known[model] = digest.hexdigest()
    return _known[model]


def content_of(task: Task) -> dict[str, Any]:
    """All of a task that decides what a method finds on it, and how it is judged.

    The batch size and the device only decide how fast.
    """
    return {
        "task": task.name,
        "model": model_sha256(task.problem.model),
        "discovery": _problem(task.problem),
        "evaluation": None if task.test is task.problem else _problem(task.test),
        "published": _id(task.published),
        "truth": _id(task.truth),
    }


def key_of(content: Mapping[str, Any], point: Point) -> str:
    """16 hex digits of a hash over all that a point is."""
    whole = {
        "version": _VERSION,
        "problem": content,
        "method": point.method,
        "settings": asdict(point.settings),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _problem(problem: Problem) -> dict[str, Any]:
    metric = problem.metric
    return {
        "pairs": problem.pairs.sha256,
        "metric": [metric.name, metric.unit, metric.higher_is_better],
        "reference": problem.reference.to_json(),
        "graph": problem.graph.to_json(),
    }


def _id(circuit: Circuit | None) -> str | None:
    return None if circuit is None else circuit.id
