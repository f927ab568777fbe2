"""How well scores rank a known circuit's edges before all others: ROC AUC and average precision.

Both are scikit-learn's. Unlike the paper's area they look at the whole order of edges, not at the
circuits of a sweep, and credit what lies between two points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from edgewise.circuit import EdgeScores, Found
from edgewise.errors import SettingError
from edgewise.evaluation.curves import HasScores, scores_of
from edgewise.evaluation.recovery import check_published
from edgewise.settings.checks import check_choice
from edgewise.settings.selection import By


@dataclass(frozen=True)
class ScoreRecovery:
    """Scores against a known circuit, over every edge of the graph.

    `roc_auc` is the chance that an edge of the circuit scores higher than one outside it, ties
    counting half: 1 is a perfect order, 1/2 none. `average_precision` is the mean precision at
    each of the circuit's edges, of which `n_true / (n_true + n_false)` comes by chance.
    `fpr` and `tpr` are the ROC curve's corners, from (0, 0) to (1, 1).
    """

    method: str
    by: By
    n_true: int
    n_false: int
    roc_auc: float
    average_precision: float
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Every number, for records and plots."""
        return {**vars(self), "fpr": list(self.fpr), "tpr": list(self.tpr)}


def score_recovery(
    scores: EdgeScores | HasScores, published: Found | None, *, by: By = "absolute"
) -> ScoreRecovery:
    """ROC AUC and average precision of edge scores, or of a run's, against a known circuit.

    `by`: rank by absolute score, or by signed score. Raises `SettingError` when the graphs differ,
    or the circuit has no edges or all, `UnknownName`.

    >>> import edgewise as ew
    >>> task = ew.load_task("tracr-reverse")
    >>> score_recovery(ew.exact(task.problem), task.published).roc_auc
    1.0
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # slow to import

    check_choice("ranking", by, get_args(By))
    published, ranked = check_published(published), scores_of(scores)
    if ranked.graph != published.graph:
        raise SettingError(
            "the scores and the published circuit are on different graphs:\n"
            f"  {ranked.graph.describe()}\n  {published.graph.describe()}\n"
            "Build the problem with graph=published.graph to compare them."
        )
    exists = published.graph.exists
    n_true, n_false = published.n_edges, published.graph.n_edges - published.n_edges
    if not (n_true and n_false):
        raise SettingError(
            f"the published circuit has {n_true} of {n_true + n_false} edges; an order of edges "
            "can only be judged if some belong to it and some do not."
        )
    truth = published.keep[exists].numpy()
    values = ranked.values[exists]
    ranks = (values.abs() if by == "absolute" else values).numpy()
    fpr, tpr, _ = roc_curve(truth, ranks)
    return ScoreRecovery(
        method=ranked.method,
        by=by,
        n_true=n_true,
        n_false=n_false,
        roc_auc=float(roc_auc_score(truth, ranks)),
        average_precision=float(average_precision_score(truth, ranks)),
        fpr=tuple(fpr.tolist()),
        tpr=tuple(tpr.tolist()),
    )
