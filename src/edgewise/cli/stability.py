"""`edgewise stability`: how stable a method's circuit is."""

from __future__ import annotations

import edgewise as ew
from edgewise.cli.console import Output
from edgewise.cli.options import Level, MethodName, Settings, option
from edgewise.cli.problems import ProblemRequest, held_out, task_for


def stability(
    *,
    problem: ProblemRequest,
    settings: Settings,
    method: MethodName = "acdc",
    over: str = option("prompts", "What varies: prompts, head-order, threshold, seed."),
    replicates: int = option(50, "How many circuits to find."),
    spread: float = option(2.0, "Thresholds: largest factor up or down."),
    core: float = option(0.8, "Inclusion from which an edge is core."),
    noise: float = option(0.2, "Inclusion up to which it is noise."),
    level: Level = 0.95,
    output: Output,
) -> None:
    """Say how often each edge comes back in other draws.

    Over prompts, order of heads, thresholds or seeds.

    edgewise stability --task tracr-xproportion --threshold 0.01 --over prompts,head-order
    """
    task, told = task_for(method, settings, problem, output)
    with output.progress("replicates", kept=output.journal) as on_progress:
        result = ew.stability(
            task.problem,
            method,
            n=replicates,
            over=[name.strip() for name in over.split(",") if name.strip()],
            spread=spread,
            core=core,
            noise=noise,
            level=level,
            test=held_out(task),
            on_progress=on_progress,
            **told,
        )
    output.deliver(result)
