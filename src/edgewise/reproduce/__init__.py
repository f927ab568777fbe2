"""Every table and figure of the ACDC paper that the models at hand allow, with one call.

Conmy et al. 2023 (arXiv 2304.14997). `reproduce` works through a grid of cells (task, method,
metric, ablation), keeps each in a folder as it is done, and writes a page and the data behind it.
"""

from edgewise.reproduce.grid import SCALES, Cell, Scale, Subject, cells, subjects
from edgewise.reproduce.results import Group, Results
from edgewise.reproduce.runner import Reproduced, reproduce

__all__ = [
    "SCALES",
    "Cell",
    "Group",
    "Reproduced",
    "Results",
    "Scale",
    "Subject",
    "cells",
    "reproduce",
    "subjects",
]
