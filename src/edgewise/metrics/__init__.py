"""Logits -> one number per prompt, with unit and direction."""

from edgewise.metrics.catalog import METRICS, metric_named
from edgewise.metrics.metric import AnswerRows, Metric, check_finite, check_repeatable

__all__ = ["METRICS", "AnswerRows", "Metric", "check_finite", "check_repeatable", "metric_named"]
