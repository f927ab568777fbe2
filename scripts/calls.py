"""Count the files of the package that a call enters, and how often it goes from one to another.

    python scripts/calls.py        # of one discovery by ACDC on tracr-reverse

Of all calls into code under src/edgewise: the files, and how many of these calls go to another file
than the call before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

PACKAGE = str(Path(__file__).resolve().parents[1] / "src" / "edgewise")


class Calls(NamedTuple):
    """Distinct files entered, changes of file, and the edge tests of the run that was made."""

    files: int
    changes: int
    edge_tests: int


def count(function: Callable[[], Any]) -> Calls:
    """Call a function that returns a run, and count."""
    files: set[str] = set()
    changes, latest = 0, ""

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        nonlocal changes, latest
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE):
            files.add(file)
            changes += file != latest
            latest = file

    sys.setprofile(on_event)
    try:
        run = function()
    finally:
        sys.setprofile(None)
    return Calls(len(files), changes, run.cost.edge_tests)


def acdc_on_reverse() -> Calls:
    """The calls of ACDC on tracr-reverse, its model and prompts made before."""
    import edgewise as ew

    problem = ew.load_task("tracr-reverse").problem
    return count(lambda: ew.discover(problem, "acdc", threshold=0.01))


if __name__ == "__main__":
    calls = acdc_on_reverse()
    print(f"{calls.files} files, {calls.changes:,} changes, {calls.edge_tests} edge tests")
