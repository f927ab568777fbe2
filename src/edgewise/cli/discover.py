"""`edgewise discover`: find a circuit, keep the run, and resume one that was stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import Force, Json, MethodName, ProblemOptions, Report, Settings
from edgewise.cli.problems import build, seeded
from edgewise.documents import check_output_file
from edgewise.errors import OutputError, SettingError
from edgewise.methods import METHODS, method_of

if TYPE_CHECKING:
    from edgewise.methods import OnProgress, Progress


def discover(
    *,
    problem: ProblemOptions,
    settings: Settings,
    method: MethodName = "acdc",
    out: Annotated[Path | None, typer.Option(help="Folder to write the run into.")] = None,
    report: Report = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run into --out that was stopped.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run will take, and stop (acdc).")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find a circuit, and with --out keep the run in a folder.

    edgewise discover --task tracr-reverse --threshold 0.01 --out runs/reverse
    """
    settings = seeded(method, settings, problem)
    resolved = method_of(method).resolve(settings)  # refuse before anything is loaded
    if estimate:
        _estimate(problem, method, resolved, json=json)
        return
    if out is not None:
        ew.run.check_output_folder(out, overwrite=force)
    journal = _journal_beside(out, resume=resume, quiet=json)
    check_output_file(report, overwrite=force)
    with console.spinner("loading", quiet=json):
        task = build(problem)
        accuracy = task.problem.accuracy()
    if not json:
        console.say(console.accuracy_line(accuracy))
    with _stoppable(journal) as watched:
        with console.progress_bar(method, quiet=json) as bar:
            run = ew.discover(
                task.problem, method, on_progress=watched(bar), journal=journal, **settings
            )
        run = run.with_(measurements=ew.evaluation.against_known(run, task.published, task.truth))
        groups = ew.tasks.node_groups(task.problem, run.circuit)
        run = run if groups is None else run.with_(measurements={"groups": groups})
        if out is not None and journal is not None:
            _save(run, out, journal, overwrite=force)
    if report is not None:
        ew.report([run], report)
    if json:
        console.as_json(_document(run) | console.files(out=out, report=report))
    else:
        from edgewise.reporting.text import RunResult

        console.show(RunResult(run))
        console.wrote(out, report)


def _document(run: ew.Run) -> dict[str, Any]:
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


def _estimate(problem: ProblemOptions, method: str, settings: Any, *, json: bool) -> None:
    from edgewise.methods.forecast import forecast

    row = method_of(method)
    if not row.has_forecast:
        names = " and ".join(other.name for other in METHODS.values() if other.has_forecast)
        raise SettingError(f"--estimate knows {names}; {row.name} costs {row.cost}.")
    with console.spinner("loading", quiet=json):
        task = build(problem)
    with console.progress_bar("estimating", quiet=json) as on_progress:
        estimate = forecast(task.problem, settings, on_progress=on_progress)
    if json:
        console.as_json(asdict(estimate))
    else:
        console.show(estimate)


# --- the folder beside --out that keeps a run's decisions until the run is written


def _journal_beside(out: Path | None, *, resume: bool, quiet: bool) -> Path | None:
    """Where the decisions of a run into `out` are kept; None without `out`.

    Raises `SettingError` if there is nothing to resume, `OutputError` if there is but no --resume.
    """
    from edgewise.work.store import work_kept

    if out is None:
        if resume:
            raise SettingError(
                "--resume needs --out, the folder that the run was to be written to."
            )
        return None
    named = out if out.name else out.absolute()  # such as `--out .`
    folder = named.with_name(f"{named.name}.unfinished")
    kept = work_kept(folder)
    if resume and kept is None:
        raise SettingError(f"--resume found no unfinished run: there is no folder {folder}.")
    if kept and not resume:
        raise OutputError(
            f"{folder} holds {kept} of a run that did not finish. "
            "Add --resume to go on from there, or remove it to start anew."
        )
    if kept and not quiet:
        console.say(f"going on after {kept}, kept in {folder}")
    return folder


@contextmanager
def _stoppable(journal: Path | None) -> Iterator[Callable[[OnProgress], OnProgress]]:
    """Say after Ctrl-C how far the progress passed on here has come, and what is kept."""
    from edgewise.work.store import work_kept

    last: list[Progress] = []

    def watched(on_progress: OnProgress) -> OnProgress:
        def remember(step: Progress) -> None:
            last[:] = [step]
            on_progress(step)

        return remember

    def what_is_kept() -> str | None:
        work = None if journal is None else work_kept(journal)
        if not work:
            return None
        what = "edges" if work.endswith(("decision", "decisions")) else "steps"
        where = f" after {last[0].done:,} of {last[0].total:,} {what}" if last else ""
        return (
            f"stopped{where}, with {work} kept in {journal}. "
            "Run the same command with --resume to go on."
        )

    with console.stoppable(what_is_kept):
        yield watched


def _save(run: ew.Run, out: Path, journal: Path, *, overwrite: bool) -> None:
    """Write the run, and only then remove its journal. Raises `OutputError`."""
    from edgewise.work.store import remove_unfinished, work_kept

    try:
        run.save(out, overwrite=overwrite)
    except OutputError as reason:
        kept = work_kept(journal)
        if not kept:
            raise
        raise OutputError(
            f"{str(reason).rstrip('.')}. Nothing is lost: {kept} stay in {journal}. "
            "Run the same command with --resume to write it."
        ) from reason
    remove_unfinished(journal)
