"""What removed edges carry, and running a circuit."""

from edgewise.patching.ablation import (
    ABLATION_KINDS,
    Ablation,
    AblationKind,
    ablation_named,
)
from edgewise.patching.accuracy import Accuracy, accuracy_of, plain_accuracy
from edgewise.patching.evaluator import Batch, Evaluator, answer_rows
from edgewise.patching.readers import AblatedValues, CircuitReader, RecordingReader

__all__ = [
    "ABLATION_KINDS",
    "AblatedValues",
    "Ablation",
    "AblationKind",
    "Accuracy",
    "Batch",
    "CircuitReader",
    "Evaluator",
    "RecordingReader",
    "ablation_named",
    "accuracy_of",
    "answer_rows",
    "plain_accuracy",
]
