"""Types of the keywords of `ew.acdc`, `ew.eap`, …: what a type checker and an editor know of them.

Each repeats the fields of a settings class, where what they mean and their defaults are; a test
holds them together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Required, TypedDict

from edgewise.methods import OnProgress
from edgewise.settings.acdc import Engine, HeadOrder, Precision
from edgewise.settings.acdc_test import Control, Test, Undecided
from edgewise.settings.attribution import Over, Points
from edgewise.settings.hybrids import Attribution
from edgewise.settings.masks import Binarise, Reading
from edgewise.settings.selection import By, Select


class Common(TypedDict, total=False):
    """Keywords of every method, beside its settings; see `discover`."""

    on_progress: OnProgress
    journal: str | Path | None


class ACDCKeywords(Common, total=False):
    """Keywords of `acdc` and `acdc_bisect`."""

    threshold: Required[float]
    head_order: HeadOrder
    absolute: bool
    prune: bool
    engine: Engine
    precision: Precision
    verify: bool


class TestedACDCKeywords(Common, total=False):
    """Keywords of `acdc_test`."""

    threshold: float
    error_rate: float
    control: Control
    test: Test
    bound: float | None
    first: int
    undecided: Undecided
    head_order: HeadOrder
    seed: int


class OrderedACDCKeywords(ACDCKeywords, total=False):
    """Keywords of `acdc_ordered`."""

    attribution: Attribution


class ScreenedACDCKeywords(OrderedACDCKeywords, total=False):
    """Keywords of `acdc_screened`."""

    screen: float


class SelectionKeywords(Common, total=False):
    """Keywords of every method that selects a circuit from scores."""

    edges: int | None
    share: float | None
    above: float | None
    nodes: int | None
    select: Select
    by: By


class EAPIGKeywords(SelectionKeywords, total=False):
    """Keywords of `eap_ig`."""

    steps: int
    over: Over
    points: Points


class RandomKeywords(SelectionKeywords, total=False):
    """Keywords of `random_scores`."""

    seed: int


class HISPKeywords(Common, total=False):
    """Keywords of `hisp`."""

    units: int | None
    unit_share: float | None
    reading: Reading
    normalise: bool
    allow_zero_gradient: bool


class TrainingKeywords(Common, total=False):
    """Keywords of every method that trains masks."""

    steps: int
    learning_rate: float
    seed: int


class SPEdgesKeywords(TrainingKeywords, total=False):
    """Keywords of `sp_edges`."""

    regularisation: Required[float]
    binarise: Binarise


class SPKeywords(SPEdgesKeywords, total=False):
    """Keywords of `sp`."""

    dead_mlp_masks: bool


class EdgePruningKeywords(TrainingKeywords, total=False):
    """Keywords of `edge_pruning`."""

    sparsity: Required[float]
    warm_up: float
    multiplier_rate: float


class UGSKeywords(TrainingKeywords, total=False):
    """Keywords of `ugs`."""

    regularisation: Required[float]
    draws: int
    start: float
