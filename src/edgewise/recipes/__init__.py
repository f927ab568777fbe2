"""The paper reproduced, and methods against the truth of compiled programs."""

from edgewise.recipes.leaderboard import (
    QUICK_ABLATIONS,
    QUICK_PROGRAMS,
    Leaderboard,
    leaderboard,
)
from edgewise.recipes.leaderboard_rows import LeaderboardRow, ProgramMean
from edgewise.recipes.paper import Experiment, PaperProblem, Subject
from edgewise.recipes.reproduced import ExperimentRecord, Measured, Reproduced
from edgewise.recipes.reproduction import reproduce
from edgewise.recipes.trials import AREAS, BASELINES, NAMES, THRESHOLDS, TRAINED, USUAL, Trial

__all__ = [
    "AREAS",
    "BASELINES",
    "NAMES",
    "QUICK_ABLATIONS",
    "QUICK_PROGRAMS",
    "THRESHOLDS",
    "TRAINED",
    "USUAL",
    "Experiment",
    "ExperimentRecord",
    "Leaderboard",
    "LeaderboardRow",
    "Measured",
    "PaperProblem",
    "ProgramMean",
    "Reproduced",
    "Subject",
    "Trial",
    "leaderboard",
    "reproduce",
]
