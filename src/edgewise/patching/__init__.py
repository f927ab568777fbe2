"""What removed edges carry, and running a circuit."""

from edgewise.patching.evaluator import Batch, Evaluator
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
    "Batch",
    "Evaluator",
    "Reference",
    "ReferenceKind",
    "reference_named",
]
