"""All that is recorded of a problem, and the comparison of two such answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import adapter

from problems import PROBLEMS

ANSWERS = Path(__file__).parent / "answers"
# Of files that the code of commit 5477a5e wrote: never made again, and read by all later code.
FOLDERS = Path(__file__).parent / "folders.json"
TRAINED = {"sp", "sp-edges", "edge-pruning", "ugs"}


def answers(name: str) -> dict[str, Any]:
    """What today's code answers on a problem."""
    spec = PROBLEMS[name]
    problem = adapter.build_problem(spec)
    result: dict[str, Any] = {"edges": adapter.edge_names(problem)}
    result["values"] = adapter.values(problem)
    finds: list[Any] = []
    runs = [adapter.discover(problem, method, settings) for method, settings in spec["find"]]
    for (method, settings), run in zip(spec["find"], runs, strict=True):
        finds.append({"method": method, "settings": settings, **adapter.found(run)})
    thresholds = [s["threshold"] for m, s in spec["find"] if m == "acdc" and len(s) == 1]
    result["find"] = finds
    result["thresholds"] = adapter.several(problem, thresholds)
    if "judge" in spec:
        result["judge"] = adapter.judge(problem, runs[len(thresholds) - 1], spec)
    return json.loads(json.dumps(adapter.plain(result)))


def recorded(name: str) -> dict[str, Any]:
    """The answers on a problem as they were recorded."""
    return json.loads((ANSWERS / f"{name}.json").read_text())


def differences(expected: Any, got: Any, where: str = "", tolerance: float = 1e-12) -> list[str]:
    """Where two answers differ: numbers by more than the tolerance, anything else at all.

    The tolerance is absolute, and relative for numbers above 1. What methods with a training find
    may differ by 1e-6.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        if expected.get("method") in TRAINED:
            tolerance = 1e-6
        missing = [f"{where}/{key} is there once" for key in sorted(expected.keys() ^ got.keys())]
        both = [key for key in expected if key in got]
        return missing + [
            text
            for key in both
            for text in differences(expected[key], got[key], f"{where}/{key}", tolerance)
        ]
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return [f"{where}: {len(expected)} were recorded, {len(got)} found"]
        return [
            text
            for i, (one, other) in enumerate(zip(expected, got, strict=True))
            for text in differences(one, other, f"{where}/{i}", tolerance)
        ]
    numbers = type(expected) is float and type(got) in (float, int)
    if numbers and abs(expected - got) <= tolerance * max(1.0, abs(expected)):
        return []
    return [] if expected == got else [f"{where}: {expected!r} was recorded, {got!r} found"]


def folders() -> dict[str, Any]:
    """What the library reads of the files that the first edition saved."""
    paths = sorted((Path(__file__).parent / "folders").iterdir())
    return json.loads(json.dumps(adapter.plain({p.name: adapter.open_folder(p) for p in paths})))
