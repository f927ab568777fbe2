"""`edgewise certify`: which decisions withstand the deletion of prompts."""

from __future__ import annotations

from typing import Annotated

import edgewise as ew
from edgewise.cli.console import Output
from edgewise.cli.options import Level, MethodName, Settings, option
from edgewise.cli.problems import ProblemRequest, task_for


def certify(
    *,
    problem: ProblemRequest,
    settings: Settings,
    method: MethodName = "acdc",
    subsamples: int = option(200, "How many subsamples vote."),
    size: int | None = option(None, "Prompts in one. Default: half of all."),
    level: Level = 0.95,
    output: Annotated[Output, "out", "journal", "force", "json"],
) -> None:
    """Say which edges stand when prompts are deleted.

    Subsamples of the prompts vote: some decisions no deletion of a few prompts can turn.

    edgewise certify --task tracr-reverse --threshold 0.01 --size 3
    """
    task, told = task_for(method, settings, problem, output)
    with output.progress("subsamples", kept=output.journal) as on_progress:
        result = ew.certify(
            task.problem,
            method,
            n=subsamples,
            size=size,
            level=level,
            on_progress=on_progress,
            **told,
        )
    output.deliver(result)
