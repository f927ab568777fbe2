"""Problem -> circuit and scores. Methods see a problem and nothing else, never a task's answer."""

from edgewise.discovery.acdc import acdc, visits
from edgewise.discovery.finding import Decision, Finding, OnProgress, Progress, ignore_progress
from edgewise.discovery.methods import METHODS, Method, method_named

__all__ = [
    "METHODS",
    "Decision",
    "Finding",
    "Method",
    "OnProgress",
    "Progress",
    "acdc",
    "ignore_progress",
    "method_named",
    "visits",
]
