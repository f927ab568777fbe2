"""The one door from results to what draws them, which opens when something is to be drawn.

Results stand below the rooms that draw, and import none of them; they come here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewise.run import Run
    from edgewise.tables import Result


def show(result: Run | Result) -> None:
    """Print what a result says in the terminal: its tables, then its sentences."""
    from edgewise.reporting import terminal
    from edgewise.reporting.text import RunResult
    from edgewise.run import Run

    terminal.show(RunResult(result) if isinstance(result, Run) else result)


def report(result: Run | Result, path: str | Path) -> Path:
    """Write one HTML page about a result; `edgewise.report` writes one of several runs."""
    from edgewise.reporting.pages import report as write_report

    return write_report(result, path)
