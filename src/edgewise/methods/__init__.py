"""Problem -> circuit and scores. Methods see a problem and nothing else, never a task's answer."""

from edgewise.methods.acdc import acdc, acdc_thresholds
from edgewise.methods.catalogue import METHODS, Method, method_named
from edgewise.methods.forecast import Forecast, forecast
from edgewise.methods.journal import NO_JOURNAL, FileJournal, Journal, read_trace
from edgewise.methods.method_result import (
    Decision,
    Evidence,
    MethodResult,
    OnProgress,
    Progress,
    ignore_progress,
)
from edgewise.methods.orders import ORDERED, ordered_search, shuffled_visits
from edgewise.methods.search import threshold_interval
from edgewise.methods.sweeps import found_together, shares_work
from edgewise.methods.visits import visits

__all__ = [
    "METHODS",
    "NO_JOURNAL",
    "ORDERED",
    "Decision",
    "Evidence",
    "FileJournal",
    "Forecast",
    "Journal",
    "Method",
    "MethodResult",
    "OnProgress",
    "Progress",
    "acdc",
    "acdc_thresholds",
    "forecast",
    "found_together",
    "ignore_progress",
    "method_named",
    "ordered_search",
    "read_trace",
    "shares_work",
    "shuffled_visits",
    "threshold_interval",
    "visits",
]
