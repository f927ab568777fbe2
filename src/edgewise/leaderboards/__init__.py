"""The benchmark of truth: methods on compiled programs, against what their weights can use."""

from edgewise.leaderboards.board import Leaderboard, leaderboard
from edgewise.leaderboards.cell import AREAS, Cell
from edgewise.leaderboards.entrants import BASELINES, NAMES, THRESHOLDS, TRAINED, USUAL
from edgewise.leaderboards.problems import (
    ABLATIONS,
    ABOUT_ABLATIONS,
    QUICK_ABLATIONS,
    QUICK_PROGRAMS,
)
from edgewise.leaderboards.standings import Estimate, Standing
from edgewise.methods.own import GROUP

__all__ = [
    "ABLATIONS",
    "ABOUT_ABLATIONS",
    "AREAS",
    "BASELINES",
    "GROUP",
    "NAMES",
    "QUICK_ABLATIONS",
    "QUICK_PROGRAMS",
    "THRESHOLDS",
    "TRAINED",
    "USUAL",
    "Cell",
    "Estimate",
    "Leaderboard",
    "Standing",
    "leaderboard",
]
