"""One run described completely: making it, saving it, loading it."""

from edgewise.record.discover import acdc, acdc_sweep, discover
from edgewise.record.folder import check_output_folder
from edgewise.record.journal import remove_unfinished
from edgewise.record.run import Cost, ProblemSummary, Run

__all__ = [
    "Cost",
    "ProblemSummary",
    "Run",
    "acdc",
    "acdc_sweep",
    "check_output_folder",
    "discover",
    "remove_unfinished",
]
