"""An answer against the structural truth: three areas, 1 each for a perfect order.

Scores are an order of edges, highest first, ties together, and every place to cut it is a circuit.
Circuits are taken as they are; for the areas that need an order, an edge comes before another if
more of them keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError
from edgewise.evaluation import pessimistic_auc, recovery, score_recovery
from edgewise.methods.execution import check_answer
from edgewise.methods.settings import By

# The first is what methods are ranked by: it says how much of what stands high is true. The paper's
# area credits nothing between two circuits, so that an order which breaks ties by chance gains.
AREAS = ("average_precision", "pessimistic_auc", "roc_auc")
_WANTED = "EdgeScores, a Circuit, or a list of Circuits, all on problem.graph"


@dataclass(frozen=True)
class AnswerAreas:
    """Average precision and ROC AUC, which are scikit-learn's, and the paper's pessimistic area.

    `n_circuits` were answered; None for scores.
    """

    average_precision: float
    pessimistic_auc: float
    roc_auc: float
    n_circuits: int | None


def areas_of(answer: Any, truth: Circuit, *, by: By = "signed") -> AnswerAreas:
    """The areas of an answer. Raises `SettingError` for what is none; `by` is how scores rank."""
    items = answer if isinstance(answer, list | tuple) else [answer]
    if not items:
        raise SettingError(f"it returned an empty {type(answer).__name__}; return {_WANTED}.")
    for item in items:
        check_answer(item, truth.graph, "it", wanted=_WANTED)
    if isinstance(answer, EdgeScores):
        order = score_recovery(answer, truth, by=by)
        area = pessimistic_auc(_cuts(answer, truth, by))
        return AnswerAreas(order.average_precision, area, order.roc_auc, None)
    if not all(isinstance(item, Circuit) for item in items):
        raise SettingError(f"it returned a list with EdgeScores in it; return {_WANTED}.")
    kept = torch.stack([circuit.keep for circuit in items]).double().sum(dim=0)
    votes = EdgeScores(truth.graph, kept, "circuits", "circuits that keep the edge")
    order = score_recovery(votes, truth, by="signed")
    area = recovery(items, truth).edge_auc
    return AnswerAreas(order.average_precision, area, order.roc_auc, len(items))


def tied_areas(truth: Circuit) -> AnswerAreas:
    """What an order gets in which all edges tie: it knows nothing."""
    return AnswerAreas(truth.n_edges / truth.graph.n_edges, 0.0, 0.5, None)


def _cuts(scores: EdgeScores, truth: Circuit, by: By) -> list[tuple[float, float]]:
    """(FPR, TPR) at every place to cut the order; also those on a straight line of the curve."""
    from sklearn.metrics import roc_curve  # slow to import

    exists = truth.graph.exists
    values = scores.values[exists]
    ranks = (values.abs() if by == "absolute" else values).numpy()
    fpr, tpr, _ = roc_curve(truth.keep[exists].numpy(), ranks, drop_intermediate=False)
    return list(zip(fpr.tolist(), tpr.tolist(), strict=True))
