"""The paper reproduced, and methods against the truth of compiled programs."""

from edgewise.recipes.experiments import ExperimentRecord, Measured
from edgewise.recipes.paper import Experiment, PaperProblem, Subject
from edgewise.recipes.reproduced import Reproduced
from edgewise.recipes.reproduction import reproduce

__all__ = [
    "Experiment",
    "ExperimentRecord",
    "Measured",
    "PaperProblem",
    "Reproduced",
    "Subject",
    "reproduce",
]
