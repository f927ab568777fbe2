"""Edgewise finds the circuit a transformer uses for a behaviour.

    import edgewise as ew

    model = ew.load_model("tracr-reverse")
    task = ew.load_task("tracr-reverse", model)
    run = ew.discover(task.problem, method="acdc", threshold=0.01)
    ew.report([run], "report.html")

Names are loaded when first used, so that `import edgewise` and `edgewise --help` do not wait for
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edgewise.methods.catalogue import METHODS as _METHODS

# Public names by the room they live in; `__init__.pyi` has them for type checkers.
_NAMES = {
    "circuit": "Circuit EdgeScores",
    "data": "PromptPairs",
    "errors": "EdgewiseError",
    "evaluation": (
        "Certified Comparison Curve Evaluation Faithfulness HypothesisTests Recovery "
        "Stability certify compare curve evaluate faithfulness hypothesis_tests "
        "pessimistic_auc recovery score_recovery stability"
    ),
    "graph": "Edge Graph Node Port",
    "methods": "list_methods",
    "metrics": "AnswerRows Metric",
    "model": "Model ModelConfig list_models load_model process reset_network",
    "patching": "Ablation",
    "problem": "Problem run_circuit",
    "recipes": "Leaderboard leaderboard",
    "reporting": "report",
    "run": "Run discover",
    "sweep_result": "Sweep",
    "sweeps": "discover_each sweep sweep_grid",
    "tasks": "Task list_tasks load_task load_variants structural_truth",
}
_HOME = {name: room for room, names in _NAMES.items() for name in names.split()}
_HOME |= {method.function_name: "functions" for method in _METHODS.values()}
_HOME["ACDCSettings"] = "methods.settings"

# Rooms that can be reached as attributes: `edgewise.tasks.published_circuit("tracr-reverse")`.
_ROOMS = {*_NAMES, "documents", "points", "sweep_folder"} - {"problem"}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgewise")
    if name in _ROOMS:
        return import_module(f"edgewise.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'edgewise' has no attribute {name!r}")
    value = getattr(import_module(f"edgewise.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
