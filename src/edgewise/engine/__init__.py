"""The incremental evaluator: the plain evaluator's answers with far less work."""

from edgewise.engine.ladder import EdgeTest, Threshold
from edgewise.engine.memory import memory_bytes
from edgewise.engine.removals import Removals
from edgewise.engine.sequence import PlainEngine, SequentialEngine, SpeculativeEngine
from edgewise.engine.speculation import Loss, ReceiverStep, Rung, SpeculativeBatch, Turn

__all__ = [
    "EdgeTest",
    "Loss",
    "PlainEngine",
    "ReceiverStep",
    "Removals",
    "Rung",
    "SequentialEngine",
    "SpeculativeBatch",
    "SpeculativeEngine",
    "Threshold",
    "Turn",
    "memory_bytes",
]
