"""`edgewise sweep`: methods, settings and problems in all combinations, into one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import (
    Force,
    Json,
    MethodNames,
    ProblemOptions,
    ProblemValues,
    Report,
    SettingValues,
    method_options,
    option_name,
)
from edgewise.cli.problems import build, check_says_what
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_file, check_output_place
from edgewise.errors import SettingError, unknown_name
from edgewise.methods import method_of
from edgewise.tables import Column, Table, count

# Columns of a list of points, beside settings.
_VARIED = {
    *("status", "task", "method", "model", "metric", "ablation", "corruption", "template"),
    *("seed", "n", "data"),
}


def sweep(
    *,
    problems: ProblemValues,
    settings: SettingValues,
    method: MethodNames = None,
    out: Annotated[Path | None, typer.Option(help="Folder that keeps every point.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Default: by cores and free memory.")
    ] = None,
    report: Report = None,
    apart: Annotated[
        bool, typer.Option("--apart", help="Share no work: a kill loses a decision at most.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Compute points again that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load problems, list the points, find nothing.")
    ] = False,
    force: Force = False,
    json: Json = False,
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
    check_output_file(report, overwrite=force)
    check_output_place(out)
    points = _parse(problems, settings, method or ["acdc"])
    if dry_run:
        _list_points(points, out, json=json)
        return
    if out is None:
        raise SettingError("say with --out FOLDER where to keep the points, or add --dry-run.")
    how = {"workers": workers, "apart": apart, "retry_failed": retry_failed}
    if _run(points, out, report, json=json, **how):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Points:
    """The grid: the options of problems, and the settings of each method."""

    over: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]


def _parse(problems: ProblemValues, typed: SettingValues, methods: Sequence[str]) -> _Points:
    """The grid of what was typed. Raises `EdgewiseError` before anything is loaded."""
    hints, options = get_type_hints(ProblemOptions), method_options()
    over = {
        name: parse_values(name.replace("_", "-"), value, hints[name])
        if isinstance(value, list)
        else value
        for name, value in problems.items()
    }
    tasks, files = over.get("task", []), over.get("pairs", [])
    check_says_what(ProblemOptions(task=next(iter(tasks), None), pairs=next(iter(files), None)))
    for task in tasks:
        ew.tasks.task_spec(task)
    names = [method_of(name).name for name in parse_values("method", methods, str)]
    settings = {
        name: parse_values(option_name(name), texts, options[name]) for name, texts in typed.items()
    }
    for name in settings:
        if name not in ew.points.setting_names(names):
            raise unknown_name(
                f"setting of {', '.join(names)}", name, ew.points.setting_names(names)
            )
    per_method = {
        name: {k: v for k, v in settings.items() if k in ew.points.setting_names([name])}
        for name in dict.fromkeys(names)
    }
    seeds = over.get("seed", [])
    for name, given in per_method.items():
        if len(seeds) == 1 and "seed" in ew.points.setting_names([name]):
            given.setdefault("seed", seeds)
    ew.points.grid(over, per_method)
    return _Points(over, per_method)


def load_options(**options: Any) -> ew.Task:
    """The task of a problem's options, as every process of a sweep loads it."""
    typed = ProblemOptions(**options)
    task = build(typed, load=_load, drawing=True)
    name = str(task.problem.origin.get("task") or Path(typed.pairs or "").name)
    return replace(task, name=name)


@lru_cache(maxsize=1)
def _load(source: str, **how: Any) -> ew.Model:
    """Keeps the last model."""
    return ew.load_model(source, **how)


def _list_points(points: _Points, out: Path | None, *, json: bool) -> None:
    """Print the points of a sweep, and how many there are, without running it."""
    with console.spinner("loading", quiet=json):
        planned = ew.points.plan(ew.points.grid(points.over, points.methods), load_options)
    there = {}
    if out is not None and ew.sweep_folder.is_sweep(out):
        there = {row["key"]: row["status"] for row in ew.sweep_folder.read_rows(out)}
    rows = [{**point.row, "status": there.get(point.key, "to do")} for point in planned]
    counts = Counter(row["status"] for row in rows)
    if json:
        console.as_json({"n_points": len(rows), "counts": dict(counts), "points": rows})
        return
    varying = [name for name in rows[0] if len({row.get(name) for row in rows}) > 1]
    names = dict.fromkeys(["status", "task", "method", *varying])
    shown = [n for n in names if n in _VARIED or n.startswith(ew.sweep_folder.SETTING)]
    heads = tuple(Column(n.removeprefix(ew.sweep_folder.SETTING).replace("_", " ")) for n in shown)
    cells = tuple(tuple(row.get(name) for name in shown) for row in rows)
    console.show_table(Table("Points", heads, cells))
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.OUT.print(f"{count(len(rows), 'point')}: {summary}.")


def _run(points: _Points, out: Path, report: Path | None, *, json: bool, **how: Any) -> int:
    """Run a sweep, print what came of it, and return how many of its points failed."""

    def kept() -> str:
        n = len(ew.sweep_folder.read_rows(out)) if ew.sweep_folder.is_sweep(out) else 0
        return (
            f"stopped. {count(n, 'point')} finished in {out}; run the same command again to resume."
        )

    with (
        console.stoppable(kept),
        console.progress_bar("sweep", quiet=json, tells_time=True) as bar,
    ):
        result = ew.sweep_grid(
            points.methods, over=points.over, out=out, load=load_options, on_progress=bar, **how
        )
    rows = [row for row in result.rows if row["key"] in set(result.keys)]
    failed = [row for row in rows if row["status"] == "failed"]
    files = [str(out / name) for name in ("points.jsonl", "points.parquet")]
    written = files if find_spec("pyarrow") is not None else files[:1]
    own = replace(result, rows=tuple(rows))
    if report is not None:
        ew.report(own, report)
    if json:
        counts = {"n_points": len(rows), "n_failed": len(failed), "n_in_folder": len(result.rows)}
        console.as_json({**counts, "out": str(out), "files": written, "points": rows})
    else:
        console.show(own)
        others = len(result.rows) - len(rows)
        if others:
            console.OUT.print(f"The folder has {count(others, 'point')} beside.")
        console.wrote(*written, report)
        if len(written) == 1:
            console.OUT.print("For Parquet: pip install 'edgewise[data]'.")
    return len(failed)
