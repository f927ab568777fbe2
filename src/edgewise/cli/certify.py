"""`edgewise certify`: which decisions withstand the deletion of prompts."""

from __future__ import annotations

from typing import Annotated

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import (
    File,
    Force,
    Json,
    Kept,
    Level,
    MethodName,
    ProblemOptions,
    Settings,
)
from edgewise.cli.problems import build, check_work


def certify(
    *,
    problem: ProblemOptions,
    settings: Settings,
    method: MethodName = "acdc",
    subsamples: Annotated[int, typer.Option(help="How many subsamples vote.")] = 200,
    size: Annotated[int | None, typer.Option(help="Prompts in one. Default: half of all.")] = None,
    level: Level = 0.95,
    out: File = None,
    journal: Kept = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say which edges stand when prompts are deleted.

    Subsamples of the prompts vote: some decisions no deletion of a few prompts can turn.

    edgewise certify --task tracr-reverse --threshold 0.01 --size 3
    """
    settings = check_work(method, settings, problem, (out,), journal, overwrite=force)
    with console.spinner("loading", quiet=json):
        task = build(problem, drawing=True)
    with console.progress_bar("subsamples", quiet=json) as on_progress:
        result = ew.certify(
            task.problem,
            method,
            n=subsamples,
            size=size,
            level=level,
            seed=problem.seed or 0,
            journal=journal,
            on_progress=on_progress,
            **{f"method_{name}": value for name, value in settings.items()},
        )
    console.deliver(result, out=out, json=json)
