"""Problem -> circuit and scores. Methods see a problem and nothing else, never a task's answer.

The catalogue is here, without torch; what runs and what methods are made of is in the files.
"""

from edgewise.methods.catalogue import METHODS, AnyMethod, Method, list_methods, method_of
from edgewise.progress import OnProgress, Progress, ignore_progress

__all__ = [
    "METHODS",
    "AnyMethod",
    "Method",
    "OnProgress",
    "Progress",
    "ignore_progress",
    "list_methods",
    "method_of",
]
