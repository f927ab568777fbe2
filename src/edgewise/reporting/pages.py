"""Runs, comparisons, leaderboards -> one self-contained HTML file: drawings, tables, charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgewise.documents import write_text
from edgewise.errors import SettingError
from edgewise.evaluation import Comparison
from edgewise.reporting.comparison import comparison_page
from edgewise.reporting.groups import Given, checked
from edgewise.reporting.page import page
from edgewise.reporting.result_page import result_page
from edgewise.run import Run
from edgewise.tables import Result

_Other = Comparison | Result


def report(
    runs: Sequence[Run] | Run | _Other,
    path: str | Path,
    *,
    groups: Given | None = None,
) -> Path:
    """One HTML file that shows runs, a section each, or what else was found about circuits.

    That is a comparison, a stability analysis, hypothesis tests, a sweep, a leaderboard, or any
    other result with sentences, tables and charts.

    It needs no network and no other file. Several runs also get a table that compares them; what
    their circuits share is on the page of `edgewise.compare(runs)`. The same runs give the same
    bytes. `groups` names groups of nodes to colour, `{"name mover": ["a9.h9", …]}`; by default
    those kept with a run, or published for its task and model. Raises `SettingError` when there are
    no runs, `UnknownName` for a node that none has, `OutputError` when the file cannot be written.
    """
    if isinstance(runs, _Other) and not isinstance(runs, Run):
        if groups is not None:
            raise SettingError("groups are for runs; a comparison has those of compare(groups=…).")
        return write_text(_other_page(runs), Path(path))
    chosen = list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    for run in chosen:
        if not isinstance(run, Run):
            raise SettingError(
                f"report takes runs, or a comparison, a sweep and the like, not a "
                f"{type(run).__name__}, and then the file to write: report(runs, path)."
            )
    if not chosen:
        raise SettingError("there are no runs to report on; pass at least one.")
    given = None if groups is None else checked(groups, chosen)
    return write_text(page(chosen, given), Path(path))


def _other_page(found: _Other) -> str:
    match found:
        case Comparison():
            return comparison_page(found)
        case _:
            return result_page(found)
