"""Count the files of the package that a call enters, and how often it goes from one to another.

    python scripts/calls.py        # of ACDC on tracr-reverse, and of a file of prompts to its page

Of all calls into code under src/edgewise: the files, and how many of these calls go to another file
than the call before.
"""

from __future__ import annotations

import json
import sys
import tempfile
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


def prompts_to_page() -> Calls:
    """The calls from a file of prompts to the page of ACDC's run, the model loaded before."""
    import edgewise as ew

    pairs = ew.load_task("ioi", "small-lm", n=6).problem.pairs
    columns = [t.tolist() for t in (pairs.clean, pairs.corrupted, pairs.answers, pairs.wrong)]
    names = ("clean", "corrupted", "answers", "wrong")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    model = ew.load_model("small-lm")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

        def discover() -> Any:
            problem = ew.Problem(model, ew.PromptPairs.from_file(file, tokenizer=model), "kl")
            run = ew.discover(problem, "acdc", threshold=0.05)
            ew.report([run], file.with_suffix(".html"))
            return run

        return count(discover)


if __name__ == "__main__":
    for title, calls in (
        ("ACDC on tracr-reverse", acdc_on_reverse()),
        ("a file of prompts to its page", prompts_to_page()),
    ):
        words = f"{calls.files} files, {calls.changes:,} changes, {calls.edge_tests} edge tests"
        print(f"{title}: {words}")
