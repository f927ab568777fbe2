"""Sweeps: methods, settings and problems in all combinations, kept on disk point by point."""

from edgewise.sweeps.points import Load, content_of, grid, plan, setting_names
from edgewise.sweeps.runs import discover_each
from edgewise.sweeps.sweep import Sweep, named_task, sweep_grid
from edgewise.sweeps.table import COLUMNS, SETTING, VOLATILE

__all__ = [
    "COLUMNS",
    "SETTING",
    "VOLATILE",
    "Load",
    "Sweep",
    "content_of",
    "discover_each",
    "grid",
    "named_task",
    "plan",
    "setting_names",
    "sweep_grid",
]
