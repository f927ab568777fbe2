"""One run described completely: making it, saving it, loading it."""

from edgewise.record.discover import acdc, discover
from edgewise.record.folder import check_output_folder
from edgewise.record.run import Cost, ProblemSummary, Run

__all__ = ["Cost", "ProblemSummary", "Run", "acdc", "check_output_folder", "discover"]
