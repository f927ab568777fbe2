"""`edgewise discover`: find a circuit and keep the run; stopped, the same command goes on."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import MethodName, Settings, option
from edgewise.cli.problems import ProblemRequest, resolved
from edgewise.errors import OutputError, SettingError
from edgewise.methods import METHODS, method_of


def discover(
    *,
    problem: ProblemRequest,
    settings: Settings,
    method: MethodName = "acdc",
    out: Path | None = option(None, "Folder to write the run into."),
    estimate: bool = option(False, "Say what the run will take, and stop (acdc).", "--estimate"),
    output: Annotated[Output, "report", "force", "json"],
) -> None:
    """Find a circuit, and with --out keep the run in a folder.

    After an interruption, run the same command again to resume.

    edgewise discover --task tracr-reverse --threshold 0.01 --out runs/reverse
    """
    settings = resolved(method, settings, problem)
    if estimate:
        _estimate(problem, method, settings, output)
        return
    journal = None
    if out is not None:
        ew.run.check_output_folder(out, overwrite=output.force)
        journal = _journal_of(out, output)
    output.check()
    with output.progress("loading"):
        task = problem.load()
        accuracy = task.problem.accuracy()
    if not output.json:
        console.say(console.accuracy_line(accuracy))
    with output.progress(method, kept=journal) as on_progress:
        run = ew.discover(
            task.problem, method, on_progress=on_progress, journal=journal, **settings
        )
        run = run.with_(measurements=ew.evaluation.against_known(run, task.published, task.truth))
        if groups := ew.tasks.node_groups(task.problem, run.circuit):
            run = run.with_(measurements={"groups": groups})
        if out is not None and journal is not None:
            _save(run, out, journal, overwrite=output.force)
    from edgewise.reporting.text import RunResult

    document = _as_json(run) | output.files(out=out)
    output.deliver(RunResult(run), out, document=document, page_of=[run])


def _as_json(run: ew.Run) -> dict[str, Any]:
    """A run as JSON, which has no infinity: an end of the thresholds that is not there is null."""
    ends = run.threshold_interval
    return {
        "method": run.method,
        "settings": dict(run.settings),
        "n_edges": run.circuit.n_edges,
        "n_edges_total": run.circuit.graph.n_edges,
        "edges": [edge.name for edge in run.circuit.edges],
        "margin": run.margin,
        "notes": list(run.notes),
        "threshold_interval": ends and [x if math.isfinite(x) else None for x in ends],
        "rungs": run.rungs,
        "measurements": dict(run.measurements),
        "cost": asdict(run.cost),
    }


def _estimate(problem: ProblemRequest, method: str, settings: Settings, output: Output) -> None:
    from edgewise.methods.forecast import forecast

    row = method_of(method)
    if not row.has_forecast:
        names = " and ".join(known.name for known in METHODS.values() if known.has_forecast)
        raise SettingError(f"--estimate knows {names}; {row.name} costs {row.cost}.")
    with output.progress("loading"):
        task = problem.load()
    with output.progress("estimating") as on_progress:
        estimate = forecast(task.problem, row.resolve(settings), on_progress=on_progress)
    output.deliver(estimate, document=asdict(estimate))


# --- the folder beside --out that keeps a run's decisions until the run is written


def _journal_of(out: Path, output: Output) -> Path:
    """The folder, and what it keeps of a run that was stopped. Raises `OutputError`."""
    from edgewise.work.store import work_kept

    named = out if out.name else out.absolute()  # such as `--out .`
    journal = named.with_name(f"{named.name}.unfinished")
    if (kept := work_kept(journal)) and not output.json:
        console.say(f"going on after {kept}, kept in {journal}")
    return journal


def _save(run: ew.Run, out: Path, journal: Path, *, overwrite: bool) -> None:
    """Write the run, and only then remove its journal. Raises `OutputError`."""
    from edgewise.work.store import remove_unfinished

    try:
        run.save(out, overwrite=overwrite)
    except OutputError as reason:
        if journal.exists():
            reason.add_note(
                f"Nothing is lost: what was found is kept in {journal}. Run the same command again "
                "to write it."
            )
        raise
    remove_unfinished(journal)
