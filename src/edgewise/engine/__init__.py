"""The incremental evaluator: the plain evaluator's answers with far less work."""

from edgewise.engine.batch import estimated
from edgewise.engine.memory import memory_bytes
from edgewise.engine.paths import Estimate, Path
from edgewise.engine.removals import Removals
from edgewise.engine.speculation import EdgeTest, Rule, decide

__all__ = [
    "EdgeTest",
    "Estimate",
    "Path",
    "Removals",
    "Rule",
    "decide",
    "estimated",
    "memory_bytes",
]
