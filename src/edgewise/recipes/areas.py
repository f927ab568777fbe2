"""An answer against the structural truth: three areas, 1 each for a perfect order.

Scores are an order of edges, highest first, ties together, and every place to cut it is a circuit.
Circuits are taken as they are; for the areas that need an order, an edge comes before another if
more of them keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError
from edgewise.evaluation import pessimistic_auc, recovery, score_recovery
from edgewise.graph import Graph
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
    if isinstance(answer, EdgeScores):
        _check_graph(answer.graph, truth)
        order = score_recovery(answer, truth, by=by)
        area = pessimistic_auc(_cuts(answer, truth, by))
        return AnswerAreas(order.average_precision, area, order.roc_auc, None)
    circuits = _circuits(answer)
    for circuit in circuits:
        _check_graph(circuit.graph, truth)
    kept = torch.stack([circuit.keep for circuit in circuits]).double().sum(dim=0)
    votes = EdgeScores(truth.graph, kept, "circuits", "circuits that keep the edge")
    order = score_recovery(votes, truth, by="signed")
    area = recovery(circuits, truth).edge_auc
    return AnswerAreas(order.average_precision, area, order.roc_auc, len(circuits))


def tied_areas(truth: Circuit) -> AnswerAreas:
    """What an order gets in which all edges tie: it knows nothing."""
    return AnswerAreas(truth.n_edges / truth.graph.n_edges, 0.0, 0.5, None)


def _circuits(answer: Any) -> Sequence[Circuit]:
    if isinstance(answer, Circuit):
        return [answer]
    kind = type(answer).__name__
    if not isinstance(answer, list | tuple):
        raise SettingError(f"it returned a {kind}; return {_WANTED}.{_hint(answer)}")
    if not answer:
        raise SettingError(f"it returned an empty {kind}; return {_WANTED}.")
    for item in answer:
        if not isinstance(item, Circuit):
            inner = type(item).__name__
            raise SettingError(
                f"it returned a {kind} with a {inner} in it; return {_WANTED}.{_hint(item)}"
            )
    return answer


def _hint(answer: Any) -> str:
    return " A run has `.scores` and `.circuit`." if hasattr(answer, "scores") else ""


def _check_graph(graph: Graph, truth: Circuit) -> None:
    if graph != truth.graph:
        raise SettingError(
            f"its answer is on a graph of {graph.describe()}, and problem.graph has "
            f"{truth.graph.describe()}; return {_WANTED}."
        )


def _cuts(scores: EdgeScores, truth: Circuit, by: By) -> list[tuple[float, float]]:
    """(FPR, TPR) at every place to cut the order; also those on a straight line of the curve."""
    from sklearn.metrics import roc_curve  # slow to import

    exists = truth.graph.exists
    values = scores.values[exists]
    ranks = (values.abs() if by == "absolute" else values).numpy()
    fpr, tpr, _ = roc_curve(truth.keep[exists].numpy(), ranks, drop_intermediate=False)
    return list(zip(fpr.tolist(), tpr.tolist(), strict=True))
