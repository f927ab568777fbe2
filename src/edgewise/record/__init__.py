"""One run described completely: making it, saving it, loading it."""

from edgewise.record.discover import discover
from edgewise.record.folder import check_output_folder
from edgewise.record.journal import decisions_kept, remove_unfinished, work_kept
from edgewise.record.run import Cost, ProblemSummary, Run
from edgewise.record.several import discover_each
from edgewise.record.sweep import acdc_sweep, runs_together, several, sweep
from edgewise.record.typed import (
    acdc,
    acdc_bisect,
    acdc_ordered,
    acdc_screened,
    acdc_test,
    atp_star,
    clean_corrupted,
    eap,
    eap_ig,
    edge_pruning,
    exact,
    hisp,
    information_flow,
    magnitude,
    random_scores,
    relp,
    sp,
    sp_edges,
    ugs,
)

__all__ = [
    "Cost",
    "ProblemSummary",
    "Run",
    "acdc",
    "acdc_bisect",
    "acdc_ordered",
    "acdc_screened",
    "acdc_sweep",
    "acdc_test",
    "atp_star",
    "check_output_folder",
    "clean_corrupted",
    "decisions_kept",
    "discover",
    "discover_each",
    "eap",
    "eap_ig",
    "edge_pruning",
    "exact",
    "hisp",
    "information_flow",
    "magnitude",
    "random_scores",
    "relp",
    "remove_unfinished",
    "runs_together",
    "several",
    "sp",
    "sp_edges",
    "sweep",
    "ugs",
    "work_kept",
]
