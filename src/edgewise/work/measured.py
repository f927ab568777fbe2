"""Measurements as a record keeps them: what pages and commands look at, and its types.

Records hold more than these fields; what nobody reads is not typed.
"""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

import msgspec

from edgewise.documents import Count, Finite


class _Spread(TypedDict):
    mean: Finite
    std: Finite
    minimum: Finite
    median: Finite
    maximum: Finite
    worst: Count


class _Faithfulness(TypedDict):
    metric: str
    unit: str
    higher_is_better: bool
    circuit: Finite
    full: Finite
    empty: Finite
    normalized: Finite | None
    n_edges: Count
    n_edges_total: Count
    per_prompt: list[Finite]
    spread: _Spread


class _Confusion(TypedDict):
    true_positives: Count
    false_positives: Count
    n_true: Count
    n_false: Count
    tpr: Finite
    fpr: Finite
    precision: Finite


class _RecoveryPoint(TypedDict):
    n_edges: Count
    edges: _Confusion
    nodes: _Confusion


class _Recovery(TypedDict):
    edge_auc: Finite
    node_auc: Finite
    points: Annotated[list[_RecoveryPoint], msgspec.Meta(min_length=1)]


class _KnockOut(TypedDict):
    nodes: list[str]
    how: str
    name: str
    circuit: Finite
    model: Finite
    incompleteness: Finite


class _Completeness(TypedDict):
    complement: _Faithfulness
    knock_outs: list[_KnockOut]


class _Minimality(TypedDict):
    n_edges: Count
    needed: Count
    idle: Count
    harmful: Count
    effects: dict[str, Finite]


class _Band(TypedDict):
    kind: str
    seed: int
    n: Count
    mean: Finite
    interval: tuple[Finite, Finite] | None
    quantiles: dict[str, Finite]


class _CurvePoint(TypedDict):
    n_edges: Count
    value: Finite


class _Curve(TypedDict):
    source: str
    selection: str
    metric: str
    unit: str
    full: Finite
    empty: Finite
    cpr: NotRequired[Finite | None]
    cmd: NotRequired[Finite | None]
    points: list[_CurvePoint]


class _Evaluation(TypedDict):
    split: str
    source: str
    n_prompts: Count
    ablation: str
    seed: int
    sentences: list[str]
    faithfulness: _Faithfulness
    completeness: _Completeness | None
    minimality: _Minimality | None
    random: list[_Band]
    curve: NotRequired[_Curve | None]


class _Head(TypedDict):
    head: str
    attention: NotRequired[Finite | None]
    effect: NotRequired[Finite | None]


class _Groups(TypedDict):
    groups: dict[str, list[str]]
    source: NotRequired[str]
    heads: NotRequired[list[_Head]]


class Measurements(TypedDict, total=False):
    """The measurements that have a meaning; others may stand beside them."""

    faithfulness: _Faithfulness
    recovery: _Recovery
    recovery_of_truth: _Recovery
    evaluation: _Evaluation
    groups: _Groups
