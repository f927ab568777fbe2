"""One run described completely: making it, saving it, loading it."""

from edgewise.record.discover import acdc, acdc_sweep, discover
from edgewise.record.folder import check_output_folder
from edgewise.record.journal import decisions_kept, remove_unfinished, work_kept
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.record.typed import atp_star, clean_corrupted, eap, eap_ig, exact

__all__ = [
    "Cost",
    "ProblemSummary",
    "Run",
    "acdc",
    "acdc_sweep",
    "atp_star",
    "check_output_folder",
    "clean_corrupted",
    "decisions_kept",
    "discover",
    "eap",
    "eap_ig",
    "exact",
    "remove_unfinished",
    "work_kept",
]
