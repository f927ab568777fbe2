"""Runs -> one self-contained HTML file: circuit drawings, traces, tables, settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgewise.errors import SettingError
from edgewise.record import Run
from edgewise.reporting.page import page
from edgewise.storage import write_text

__all__ = ["report"]


def report(runs: Sequence[Run] | Run, path: str | Path) -> Path:
    """One HTML file that shows the runs, a section each; it needs no network and no other file.

    Several runs also get a table that compares them. The same runs give the same bytes. Raises
    `SettingError` when there are no runs, `OutputError` when the file cannot be written.
    """
    chosen = [runs] if isinstance(runs, Run) else list(runs)
    if not chosen:
        raise SettingError("there are no runs to report on; pass at least one.")
    return write_text(page(chosen), Path(path))
