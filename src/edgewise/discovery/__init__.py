"""Problem -> circuit and scores. Methods see a problem and nothing else, never a task's answer."""

from edgewise.discovery.acdc import acdc, acdc_thresholds
from edgewise.discovery.finding import (
    Decision,
    Evidence,
    Finding,
    OnProgress,
    Progress,
    ignore_progress,
)
from edgewise.discovery.forecast import Forecast, forecast
from edgewise.discovery.journal import NO_JOURNAL, FileJournal, Journal, read_trace
from edgewise.discovery.methods import METHODS, Method, method_named
from edgewise.discovery.orders import ORDERED, ordered_search, shuffled_visits
from edgewise.discovery.search import threshold_interval
from edgewise.discovery.sweeps import found_together, shares_work
from edgewise.discovery.visits import visits

__all__ = [
    "METHODS",
    "NO_JOURNAL",
    "ORDERED",
    "Decision",
    "Evidence",
    "FileJournal",
    "Finding",
    "Forecast",
    "Journal",
    "Method",
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
