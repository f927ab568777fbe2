"""`edgewise stability`: how stable a method's circuit is."""

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
    Report,
    Settings,
)
from edgewise.cli.problems import build, check_work, held_out


def stability(
    *,
    problem: ProblemOptions,
    settings: Settings,
    method: MethodName = "acdc",
    over: Annotated[
        str, typer.Option(help="What varies: prompts, head-order, threshold, seed.")
    ] = "prompts",
    replicates: Annotated[int, typer.Option(help="How many circuits to find.")] = 50,
    spread: Annotated[float, typer.Option(help="Thresholds: largest factor up or down.")] = 2.0,
    core: Annotated[float, typer.Option(help="Inclusion from which an edge is core.")] = 0.8,
    noise: Annotated[float, typer.Option(help="Inclusion up to which it is noise.")] = 0.2,
    level: Level = 0.95,
    out: File = None,
    report: Report = None,
    journal: Kept = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say how often each edge comes back in other draws.

    Over prompts, order of heads, thresholds or seeds.

    edgewise stability --task tracr-xproportion --threshold 0.01 --over prompts,head-order
    """
    settings = check_work(method, settings, problem, (out, report), journal, overwrite=force)
    with console.spinner("loading", quiet=json):
        task = build(problem, drawing=True)
    with console.progress_bar("replicates", quiet=json) as on_progress:
        result = ew.stability(
            task.problem,
            method,
            n=replicates,
            over=[name.strip() for name in over.split(",") if name.strip()],
            seed=problem.seed or 0,
            spread=spread,
            core=core,
            noise=noise,
            level=level,
            test=held_out(task),
            journal=journal,
            on_progress=on_progress,
            **{f"method_{name}": value for name, value in settings.items()},
        )
    console.deliver(result, out=out, report=report, json=json)
