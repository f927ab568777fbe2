"""Sweeps: methods, settings and problems in all combinations, kept on disk point by point."""

from edgewise.sweeps.columns import COLUMNS, SETTING, VOLATILE
from edgewise.sweeps.compute import Load, plan
from edgewise.sweeps.grid import grid, setting_names
from edgewise.sweeps.sweep import Sweep, named_task, sweep_grid

__all__ = [
    "COLUMNS",
    "SETTING",
    "VOLATILE",
    "Load",
    "Sweep",
    "grid",
    "named_task",
    "plan",
    "setting_names",
    "sweep_grid",
]
