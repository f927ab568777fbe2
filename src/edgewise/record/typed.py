"""`discover` with a name and types for each method: `ew.eap(problem, share=0.05)`.

What a method does, its settings and their defaults are in its settings class and its file; here are
only the keywords, so that an editor knows them. A test holds them to the settings classes.
"""

from __future__ import annotations

from typing import Any, TypedDict, Unpack

from edgewise.discovery import OnProgress, ignore_progress
from edgewise.problem import Problem
from edgewise.record.discover import discover
from edgewise.record.run import Run
from edgewise.settings.attribution import Over, Points
from edgewise.settings.selection import By, Select


class Keywords(TypedDict, total=False):
    """Keywords of every method that selects a circuit from scores."""

    edges: int
    share: float
    above: float
    select: Select
    by: By
    on_progress: OnProgress


class EAPIGKeywords(Keywords, total=False):
    """Keywords of `eap_ig`."""

    steps: int
    over: Over
    points: Points


def eap(problem: Problem, **keywords: Unpack[Keywords]) -> Run:
    """Edge attribution patching; see `edgewise.discovery.eap`."""
    return _run(problem, "eap", keywords)


def eap_ig(problem: Problem, **keywords: Unpack[EAPIGKeywords]) -> Run:
    """Edge attribution patching with integrated gradients; see `edgewise.discovery.eap`."""
    return _run(problem, "eap-ig", keywords)


def clean_corrupted(problem: Problem, **keywords: Unpack[Keywords]) -> Run:
    """EAP by the gradients at the clean and the reference input; see `edgewise.discovery.eap`."""
    return _run(problem, "clean-corrupted", keywords)


def exact(problem: Problem, **keywords: Unpack[Keywords]) -> Run:
    """Every edge removed alone from the full model; see `edgewise.discovery.exact`."""
    return _run(problem, "exact", keywords)


def atp_star(problem: Problem, **keywords: Unpack[Keywords]) -> Run:
    """EAP with corrected queries and keys; see `edgewise.discovery.atp`."""
    return _run(problem, "atp-star", keywords)


def _run(problem: Problem, method: str, keywords: Any) -> Run:
    settings = dict(keywords)
    on_progress = settings.pop("on_progress", ignore_progress)
    return discover(problem, method, on_progress=on_progress, **settings)
