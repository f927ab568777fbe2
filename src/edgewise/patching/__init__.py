"""What removed edges carry, and running a circuit."""

from edgewise.patching.accuracy import Accuracy, accuracy_of, judged
from edgewise.patching.evaluator import Batch, Evaluator, answer_rows
from edgewise.patching.readers import CircuitReader, RecordingReader, ReferenceValues
from edgewise.patching.reference import (
    REFERENCE_KINDS,
    REFERENCE_SUMMARIES,
    Reference,
    ReferenceKind,
    reference_named,
)

__all__ = [
    "REFERENCE_KINDS",
    "REFERENCE_SUMMARIES",
    "Accuracy",
    "Batch",
    "CircuitReader",
    "Evaluator",
    "RecordingReader",
    "Reference",
    "ReferenceKind",
    "ReferenceValues",
    "accuracy_of",
    "answer_rows",
    "judged",
    "reference_named",
]
