"""The commands. Each parses, calls the library and prints; heavy imports happen inside."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from edgewise.cli.options import (
    Force,
    Json,
    ProblemOptions,
    choices_of,
    with_problem,
    with_settings,
)
from edgewise.errors import SettingError


@with_problem
@with_settings
def discover(
    problem: ProblemOptions,
    settings: dict[str, Any],
    method: Annotated[str, typer.Option(help="How to find it; see `edgewise methods`.")] = "acdc",
    out: Annotated[Path | None, typer.Option(help="Folder to write the run into.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write a report into.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run into --out that was stopped.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run will take, and do no more (acdc).")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find a circuit.

    With --out, decisions are kept in OUT.unfinished while it works, so that it can be stopped.

    edgewise discover --task tracr-reverse --threshold 0.01 --out runs/reverse
    """
    from edgewise.cli import results, show
    from edgewise.cli.problems import build
    from edgewise.cli.unfinished import journal_beside, keeping, save
    from edgewise.evaluation import against_known
    from edgewise.methods import method_of
    from edgewise.record import check_output_folder
    from edgewise.record import discover as run_discovery
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_file
    from edgewise.tasks import node_groups

    resolved = method_of(method).resolve(settings)  # refuse before anything is loaded
    if estimate:
        _estimate(problem, method, resolved, json=json)
        return
    if out is not None:
        check_output_folder(out, overwrite=force)
    journal = journal_beside(out, resume=resume, quiet=json)
    check_output_file(report, overwrite=force)
    with show.spinner("loading", quiet=json):
        built = build(problem)
        accuracy = built.problem.accuracy()
    if not json:
        show.say(show.accuracy_line(accuracy))
    with keeping(journal) as watched:
        with show.progress_bar(method, quiet=json) as bar:
            run = run_discovery(
                built.problem, method, on_progress=watched(bar), journal=journal, **settings
            )
        run = run.with_(measurements=against_known(run, built.published, built.truth))
        groups = node_groups(built.problem, run.circuit)
        run = run if groups is None else run.with_(measurements={"groups": groups})
        if out is not None and journal is not None:
            save(run, out, journal, overwrite=force)
    if report is not None:
        write_report([run], report)
    if json:
        show.as_json(results.run_json(run, out, report))
    else:
        results.print_run(run, out, report)


def _estimate(problem: ProblemOptions, method: str, settings: Any, *, json: bool) -> None:
    from edgewise.cli import results, show
    from edgewise.cli.problems import build
    from edgewise.methods import METHODS, method_of
    from edgewise.methods.forecast import forecast

    known = method_of(method)
    if not known.has_forecast:
        able = " and ".join(row.name for row in METHODS.values() if row.has_forecast)
        raise SettingError(f"--estimate knows {able}; {known.name} costs {known.cost}.")
    with show.spinner("loading", quiet=json):
        built = build(problem)
    with show.progress_bar("estimating", quiet=json) as on_progress:
        found = forecast(built.problem, settings, on_progress=on_progress)
    if json:
        show.as_json(results.forecast_json(found))
    else:
        results.print_forecast(found)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    groups: Annotated[
        Path | None,
        typer.Option(help="JSON file of groups of nodes to label: a name, a list of nodes each."),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write one self-contained HTML page about one or more runs.

    edgewise report runs/reverse runs/xproportion --out report.html
    """
    from edgewise.cli import show
    from edgewise.record import Run
    from edgewise.reporting import report as write_report
    from edgewise.storage import check_output_file, read_json

    check_output_file(out, overwrite=force)
    given = None if groups is None else read_json(groups, "groups")
    with show.spinner("drawing", quiet=json):
        path = write_report([Run.load(folder) for folder in runs], out, groups=given)
    if json:
        show.as_json({"report": str(path), "runs": [str(folder) for folder in runs]})
    else:
        show.wrote(path)


def methods(json: Json = False) -> None:
    """List the discovery methods and their settings."""
    from edgewise.cli import show
    from edgewise.methods import METHODS

    rows = []
    for method in METHODS.values():
        hints = get_type_hints(method.settings)
        settings = [
            {"name": f.name, "help": f.metadata["help"], "choices": choices_of(hints[f.name])}
            for f in fields(method.settings)
        ]
        about = ("name", "summary", "paper", "needs", "returns", "cost", "when")
        rows.append({k: getattr(method, k) for k in about} | {"settings": settings})
    if json:
        show.as_json(rows)
        return
    for row in rows:
        show.OUT.print(show.bold(row["name"]), row["summary"], sep="  ")
        for key in ("paper", "needs", "returns", "cost", "when"):
            show.OUT.print(f"  {key:8} {row[key]}")
        for setting in row["settings"]:
            show.OUT.print(f"  --{setting['name'].replace('_', '-'):12} {setting['help']}")
