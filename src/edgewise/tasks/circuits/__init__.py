"""Circuits of language models in the literature, each built by its rules. No model is needed."""

from edgewise.tasks.circuits.docstring import DOCSTRING_GROUPS, docstring
from edgewise.tasks.circuits.greater_than import GREATER_THAN_GROUPS, greater_than
from edgewise.tasks.circuits.ioi import IOI_GROUPS, ioi

__all__ = [
    "DOCSTRING_GROUPS",
    "GREATER_THAN_GROUPS",
    "IOI_GROUPS",
    "docstring",
    "greater_than",
    "ioi",
]
