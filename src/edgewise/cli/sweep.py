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

_SHOWN = 60  # rows of a table for reading


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
        if name not in ew.sweeps.setting_names(names):
            raise unknown_name(
                f"setting of {', '.join(names)}", name, ew.sweeps.setting_names(names)
            )
    per_method = {
        name: {k: v for k, v in settings.items() if k in ew.sweeps.setting_names([name])}
        for name in dict.fromkeys(names)
    }
    seeds = over.get("seed", [])
    for name, given in per_method.items():
        if len(seeds) == 1 and "seed" in ew.sweeps.setting_names([name]):
            given.setdefault("seed", seeds)
    ew.sweeps.grid(over, per_method)
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
        planned = ew.sweeps.plan(ew.sweeps.grid(points.over, points.methods), load_options)
    there = {}
    if out is not None and ew.sweeps.folder.is_sweep(out):
        there = {row["key"]: row["status"] for row in ew.sweeps.folder.read_rows(out)}
    rows = [{**point.row, "status": there.get(point.key, "to do")} for point in planned]
    counts = Counter(row["status"] for row in rows)
    if json:
        console.as_json({"n_points": len(rows), "counts": dict(counts), "points": rows})
        return
    _table("Points", ["status", *_varying(points, rows)], rows)
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.OUT.print(f"{_count(len(rows))}: {summary}.")


def _run(points: _Points, out: Path, report: Path | None, *, json: bool, **how: Any) -> int:
    """Run a sweep, print what came of it, and return how many of its points failed."""

    def kept() -> str:
        n = len(ew.sweeps.folder.read_rows(out)) if ew.sweeps.folder.is_sweep(out) else 0
        return f"stopped. {_count(n)} are finished in {out}; the same command goes on."

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
    if report is not None:
        ew.report(replace(result, rows=tuple(rows)), report)
    if json:
        counts = {"n_points": len(rows), "n_failed": len(failed), "n_in_folder": len(result.rows)}
        console.as_json({**counts, "out": str(out), "files": written, "points": rows})
    else:
        _print(points, result, rows, written)
        console.wrote(report)
    return len(failed)


def _print(
    points: _Points, result: ew.Sweep, rows: Sequence[dict[str, Any]], written: Sequence[str]
) -> None:

    done = [row for row in rows if row["status"] == "done"]
    failed = [row for row in rows if row["status"] == "failed"]
    if done:
        _table("Circuits", _varying(points, done), done, _results(done))
        splits = sorted({row["evaluation_split"] for row in done})
        console.OUT.print(
            f"Judged on {' or '.join(splits)} prompts; n is how many. Published and truth: recall "
            "and precision of the edges kept."
        )
    for error, n in Counter(row["error"] for row in failed).items():
        console.OUT.print(f"{_count(n)} failed: {error}")
    others = len(result.rows) - len(rows)
    beside = f" The folder has {_count(others)} beside." if others else ""
    console.OUT.print(f"{_count(len(rows))}, {len(failed)} failed.{beside}")
    console.wrote(*written)
    if len(written) == 1:
        console.OUT.print("For Parquet: pip install 'edgewise[data]'.")


def _varying(points: _Points, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that say which point a row is: the task, the method, what has several values."""
    settings = dict.fromkeys(name for given in points.methods.values() for name in given)
    names = ["task", *points.over, "method", *(f"{ew.sweeps.SETTING}{name}" for name in settings)]
    always = ("task", "method")
    return [
        name
        for name in dict.fromkeys(names)
        if name in always or len({row.get(name) for row in rows}) > 1
    ]


def _results(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The columns that say what came of each row."""
    columns = {
        "kept": [str(row["n_edges"]) for row in rows],
        "value": [console.number(row["evaluation_metric"], 3) for row in rows],
        "faithful": [console.number(row["evaluation_faithfulness"], 3) for row in rows],
    }
    for known in ("published", "truth"):
        found = [(row.get(f"{known}_edge_tpr"), row.get(f"{known}_edge_precision")) for row in rows]
        if any(tpr is not None for tpr, _ in found):
            pairs = ["/".join(console.number(rate, 2) for rate in pair) for pair in found]
            columns[known] = pairs
    return columns | {"n": [str(row["evaluation_n"]) for row in rows]}


def _table(
    title: str,
    names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, Sequence[str]] | None = None,
) -> None:
    more = results or {}
    heads = [*(name.removeprefix(ew.sweeps.SETTING).replace("_", " ") for name in names), *more]
    cells = [
        [*(_cell(row.get(name)) for name in names), *(column[i] for column in more.values())]
        for i, row in enumerate(rows[:_SHOWN])
    ]
    console.table(title, heads, cells)
    if len(rows) > _SHOWN:
        console.OUT.print(f"… and {len(rows) - _SHOWN} more")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return console.number(value)
    return str(value)


def _count(n: int) -> str:
    return "1 point" if n == 1 else f"{n:,} points"
