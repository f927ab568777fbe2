"""One run described completely: making it, saving it, loading it."""

from edgewise.record.discover import discover
from edgewise.record.folder import check_output_folder
from edgewise.record.journal import decisions_kept, remove_unfinished, work_kept
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.record.several import discover_each
from edgewise.record.sweep import acdc_sweep, runs_together, several, sweep

__all__ = [
    "Cost",
    "ProblemSummary",
    "Run",
    "acdc_sweep",
    "check_output_folder",
    "decisions_kept",
    "discover",
    "discover_each",
    "remove_unfinished",
    "runs_together",
    "several",
    "sweep",
    "work_kept",
]
