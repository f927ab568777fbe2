"""`edgewise sweep`: methods, settings and problems in all combinations, into one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import edgewise as ew
from edgewise.arguments import check_choice
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import MethodNames, Settings, Typed, method_options, option, option_name
from edgewise.cli.problems import ProblemRequest
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_place
from edgewise.errors import SettingError
from edgewise.methods import method_of
from edgewise.tables import Table, count


def sweep(
    *,
    problems: Annotated[Typed, ProblemRequest],
    settings: Annotated[Typed, Settings],
    method: MethodNames = None,
    out: Path | None = option(None, "Folder that keeps every point."),
    workers: int | None = option(None, "Processes. Default: by cores and free memory."),
    apart: bool = option(False, "Share no work: a kill loses a decision at most.", "--apart"),
    retry_failed: bool = option(
        False, "Compute points again that failed before.", "--retry-failed"
    ),
    dry_run: bool = option(False, "Load problems, list the points, find nothing.", "--dry-run"),
    output: Annotated[Output, "report", "force", "json"],
) -> None:
    """Find circuits in all combinations of what is given.

    Options of problems and methods take several values: repeated, with commas, or as a range
    FIRST:LAST:HOW-MANY with log or lin behind. A setting goes to the methods that have it.
    Circuits are evaluated on held-out prompts.

    After an interruption, run the same command again to resume. Another command with the same
    --out adds its points. Exit code 1 if points failed.

    edgewise sweep --task ioi --threshold 0.01:1:9log --out sweeps/a

    edgewise sweep --task ioi --method eap,eap-ig --edges 10,50 --out sweeps/b
    """
    output.check()
    check_output_place(out)
    over = _problems(problems)
    methods = _methods(parse_values("method", method or ["acdc"], str), settings, over)
    points = ew.points.grid(over, methods)
    if dry_run:
        _list_points(points, out, output)
        return
    if out is None:
        raise SettingError("say with --out FOLDER where to keep the points, or add --dry-run.")
    with output.progress("sweep", kept=out) as on_progress:
        result = ew.sweep_grid(
            methods,
            over=over,
            out=out,
            load=load_options,
            workers=workers,
            apart=apart,
            retry_failed=retry_failed,
            on_progress=on_progress,
        )
    own = replace(result, rows=tuple(row for row in result.rows if row["key"] in result.keys))
    _deliver(own, len(result.rows), output)
    if own.failed:
        raise typer.Exit(1)


def _deliver(own: ew.Sweep, n_in_folder: int, output: Output) -> None:
    """Print the points of this command, and how many the folder holds."""
    files = [str(own.folder / "points.jsonl")]
    files += [str(own.folder / "points.parquet")] if find_spec("pyarrow") is not None else []
    document = {
        "n_points": len(own.rows),
        "n_failed": len(own.failed),
        "n_in_folder": n_in_folder,
        "out": str(own.folder),
        "files": files,
        "points": own.rows,
    }
    output.deliver(own, *files, document=document)
    if not output.json and n_in_folder > len(own.rows):
        console.OUT.print(f"The folder has {count(n_in_folder - len(own.rows), 'point')} beside.")


def _problems(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The options of problems with their values. Raises `EdgewiseError` before anything loads."""
    hints = get_type_hints(ProblemRequest)
    over = {
        name: parse_values(name.replace("_", "-"), value, hints[name])
        if isinstance(value, list)
        else value
        for name, value in typed.items()
    }
    first = {name: value[0] if isinstance(value, list) else value for name, value in over.items()}
    ProblemRequest(**first).check(draws=True)
    for task in over.get("task", ()):
        ew.tasks.task_spec(task)
    return over


def _methods(
    names: list[str], typed: Mapping[str, list[str]], over: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Each method with the settings that it has, and the command's seed if it draws."""
    kinds, names = method_options(), [method_of(name).name for name in names]
    values = {
        name: parse_values(option_name(name), texts, kinds[name]) for name, texts in typed.items()
    }
    for name in values:
        check_choice(f"setting of {', '.join(names)}", name, ew.points.setting_names(names))
    seeds = over.get("seed", ())
    if len(seeds) == 1:
        values = {"seed": seeds} | values
    return {
        method: {k: v for k, v in values.items() if k in ew.points.setting_names([method])}
        for method in names
    }


def load_options(**options: Any) -> ew.Task:
    """The task of a problem's options, as every process of a sweep loads it."""
    request = ProblemRequest(**options)
    task = request.load(_load, draws=True)
    name = str(task.problem.origin.get("task") or Path(request.pairs or "").name)
    return replace(task, name=name)


@lru_cache(maxsize=1)
def _load(source: str, **how: Any) -> ew.Model:
    """Keeps the last model."""
    return ew.load_model(source, **how)


def _list_points(points: Any, out: Path | None, output: Output) -> None:
    """Print the points of a sweep, and how many there are, without running it."""
    with output.progress("loading"):
        planned = ew.points.plan(points, load_options)
    there = {}
    if out is not None and ew.sweep_folder.is_sweep(out):
        there = {row["key"]: row["status"] for row in ew.sweep_folder.read_rows(out)}
    rows = [{"status": there.get(p.key, "to do"), **p.row} for p in planned]
    counts = Counter(row["status"] for row in rows)
    if output.json:
        console.as_json({"n_points": len(rows), "counts": dict(counts), "points": rows})
        return
    setting = ew.sweep_folder.SETTING
    varying = [name for name in rows[0] if len({row.get(name) for row in rows}) > 1]
    shown = {
        name: name.removeprefix(setting).replace("_", " ")
        for name in ("status", "task", "method", *varying)
        if name in ("status", "method") or hasattr(ProblemRequest, name) or setting in name
    }
    cells = [{shown[name]: row.get(name) for name in shown} for row in rows]
    console.show_table(Table.of("Points", cells))
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.OUT.print(f"{count(len(rows), 'point')}: {summary}.")
