"""Logits -> one number per prompt, with unit and direction."""

from edgewise.metrics.metric import (
    METRICS,
    AnswerRows,
    Metric,
    check_finite,
    check_repeatable,
    metric_named,
)

__all__ = ["METRICS", "AnswerRows", "Metric", "check_finite", "check_repeatable", "metric_named"]
