"""The metrics that come with Edgewise, by name."""

from __future__ import annotations

from edgewise.errors import unknown_name
from edgewise.metrics import metric as m
from edgewise.metrics.metric import Metric, RowFunction

_BOTH = ("answers", "wrong")


def _make(
    name: str, unit: str, higher: bool, function: RowFunction, needs: tuple[str, ...] = ()
) -> Metric:
    summary = (function.__doc__ or "").strip().splitlines()[0]
    return Metric(name, unit, higher, function, summary, needs)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _make("kl", "nats", False, m.kl),
        _make("logit-diff", "logits", True, m.logit_diff, _BOTH),
        _make("logit-margin", "logits", True, m.logit_margin, _BOTH),
        _make("prob-diff", "probability", True, m.prob_diff, _BOTH),
        _make("nll", "nats", False, m.nll, ("answers",)),
        _make("match-nll", "nats", False, m.match_nll, ("answers",)),
        _make("accuracy", "fraction", True, m.accuracy, ("answers",)),
        _make("fraction-correct", "fraction", True, m.fraction_correct, _BOTH),
        _make("l2", "squared output", False, m.l2),
    )
}


def metric_named(metric: str | Metric | RowFunction) -> Metric:
    """The metric of a name, or the metric itself.

    A plain function `(logits [row vocab], AnswerRows) -> [row]` is taken as a loss: lower is
    better. Say otherwise by passing a `Metric`. Raises `UnknownName`.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        return Metric(name, "own unit", False, metric, "A function of the user's own.")
    known = metric.replace("_", "-").lower()
    if known not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    return METRICS[known]
