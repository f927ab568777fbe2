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
from typing import TYPE_CHECKING, Any

from edgewise.methods.catalogue import METHODS as _METHODS

_HOME = {
    "ACDCSettings": "edgewise.methods.settings",
    "AnswerRows": "edgewise.metrics",
    "Certified": "edgewise.evaluation",
    "Circuit": "edgewise.circuit",
    "Comparison": "edgewise.evaluation",
    "Curve": "edgewise.evaluation",
    "Edge": "edgewise.graph",
    "EdgeScores": "edgewise.circuit",
    "EdgewiseError": "edgewise.errors",
    "Evaluation": "edgewise.evaluation",
    "Faithfulness": "edgewise.evaluation",
    "Graph": "edgewise.graph",
    "HypothesisTests": "edgewise.evaluation",
    "Leaderboard": "edgewise.leaderboards",
    "Metric": "edgewise.metrics",
    "Model": "edgewise.model",
    "ModelConfig": "edgewise.model",
    "Node": "edgewise.graph",
    "Port": "edgewise.graph",
    "Problem": "edgewise.problem",
    "PromptPairs": "edgewise.data",
    "Recovery": "edgewise.evaluation",
    "Ablation": "edgewise.patching",
    "Run": "edgewise.record",
    "Stability": "edgewise.evaluation",
    "Sweep": "edgewise.sweeps",
    "Task": "edgewise.tasks",
    "acdc_sweep": "edgewise.record",
    "certify": "edgewise.evaluation",
    "compare": "edgewise.evaluation",
    "curve": "edgewise.evaluation",
    "discover": "edgewise.record",
    "discover_each": "edgewise.record",
    "evaluate": "edgewise.evaluation",
    "faithfulness": "edgewise.evaluation",
    "hypothesis_tests": "edgewise.evaluation",
    "leaderboard": "edgewise.leaderboards",
    "load_model": "edgewise.model",
    "load_task": "edgewise.tasks",
    "load_variants": "edgewise.tasks",
    "pessimistic_auc": "edgewise.evaluation",
    "process": "edgewise.model",
    "recovery": "edgewise.evaluation",
    "report": "edgewise.reporting",
    "reset_network": "edgewise.model",
    "run_circuit": "edgewise.problem",
    "score_recovery": "edgewise.evaluation",
    "stability": "edgewise.evaluation",
    "structural_truth": "edgewise.tasks",
    "sweep": "edgewise.record",
    "sweep_grid": "edgewise.sweeps",
}
# A function for each method.
_HOME |= {method.function_name: "edgewise.functions" for method in _METHODS.values()}

# Layers that can be reached as attributes: `edgewise.tasks.published_circuit("tracr-reverse")`.
_LAYERS = {
    "circuit",
    "data",
    "methods",
    "errors",
    "evaluation",
    "graph",
    "metrics",
    "model",
    "patching",
    "tasks",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgewise")
    if name in _LAYERS:
        return import_module(f"edgewise.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'edgewise' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from edgewise.circuit import Circuit, EdgeScores
    from edgewise.data import PromptPairs
    from edgewise.errors import EdgewiseError
    from edgewise.evaluation import (
        Certified,
        Comparison,
        Curve,
        Evaluation,
        Faithfulness,
        HypothesisTests,
        Recovery,
        Stability,
        certify,
        compare,
        curve,
        evaluate,
        faithfulness,
        hypothesis_tests,
        pessimistic_auc,
        recovery,
        score_recovery,
        stability,
    )
    from edgewise.functions import *
    from edgewise.graph import Edge, Graph, Node, Port
    from edgewise.leaderboards import Leaderboard, leaderboard
    from edgewise.methods.settings import ACDCSettings
    from edgewise.metrics import AnswerRows, Metric
    from edgewise.model import Model, ModelConfig, load_model, process, reset_network
    from edgewise.patching import Ablation
    from edgewise.problem import Problem, run_circuit
    from edgewise.record import (
        Run,
        acdc_sweep,
        discover,
        discover_each,
        sweep,
    )
    from edgewise.reporting import report
    from edgewise.sweeps import Sweep, sweep_grid
    from edgewise.tasks import Task, load_task, load_variants, structural_truth

    __version__: str
