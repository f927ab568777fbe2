"""What `edgewise sweep` does: parse the grid, run it, say what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from edgewise.cli import show
from edgewise.cli.options import ProblemOptions, Typed, method_options
from edgewise.cli.problems import Load, build, check_says_what, loading_once
from edgewise.cli.unfinished import Stopped
from edgewise.cli.values import parse_values
from edgewise.errors import SettingError, unknown_name
from edgewise.methods import method_of
from edgewise.reporting import report as write_report
from edgewise.sweeps import SETTING, Sweep, grid, plan, setting_names, sweep_grid
from edgewise.sweeps.folder import read_rows
from edgewise.tasks import Task, task_spec

_SHOWN = 60  # rows of a table for reading


@dataclass(frozen=True)
class Asked:
    """The grid: the options of problems, and the settings of each method."""

    over: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class How:
    """How a sweep is run; see `sweep_grid`."""

    workers: int | None
    apart: bool
    retry_failed: bool


def parse(typed: Typed, methods: Sequence[str]) -> Asked:
    """The grid of what was typed. Raises `EdgewiseError` before anything is loaded."""
    hints = get_type_hints(ProblemOptions)
    over = {
        name: parse_values(name.replace("_", "-"), value, hints[name])
        if isinstance(value, list)
        else value
        for name, value in typed.problem.items()
    }
    tasks, files = over.get("task", []), over.get("pairs", [])
    check_says_what(ProblemOptions(task=next(iter(tasks), None), pairs=next(iter(files), None)))
    for task in tasks:
        task_spec(task)
    names = parse_values("method", methods, str)
    names = [method_of(name).name for name in names]
    settings = _settings(typed.settings, names)
    for name in settings:
        if name not in setting_names(names):
            raise unknown_name(f"setting of {', '.join(names)}", name, setting_names(names))
    per_method = {name: _of_method(name, settings) for name in dict.fromkeys(names)}
    grid(over, per_method)
    return Asked(over, per_method)


def _settings(typed: Mapping[str, Sequence[str]], methods: Sequence[str]) -> dict[str, list[Any]]:
    options = {option.name: option for option in method_options()}
    return {
        name: parse_values(
            options[name].parameter.replace("_", "-"), texts, options[name].annotation
        )
        for name, texts in typed.items()
    }


def _of_method(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    own = setting_names([method])
    return {name: values for name, values in settings.items() if name in own}


def load_options(**options: Any) -> Task:
    """The task of a problem's options, as every process of a sweep loads it."""
    asked = ProblemOptions(**options)
    built = build(asked, load=_loading())
    return Task(
        name=str(built.problem.origin.get("task") or Path(asked.pairs or "").name),
        problem=built.problem,
        test=built.test or built.problem,
        published=built.published,
        truth=built.truth,
    )


@cache
def _loading() -> Load:
    """One per process, which keeps the last model."""
    return loading_once(at_most=1)


def folder_of(out: Path | None) -> Path:
    """Where the sweep is kept. Raises `SettingError` if that was not said."""
    if out is None:
        raise SettingError("say with --out FOLDER where to keep the points, or add --dry-run.")
    return out


def list_points(asked: Asked, out: Path | None, *, json: bool) -> None:
    """Print the points of a sweep, and how many there are, without running it."""
    with show.spinner("loading", quiet=json):
        planned = plan(grid(asked.over, asked.methods), load_options)
    there = {}
    if out is not None and (out / "sweep.json").exists():
        there = {row["key"]: row["status"] for row in read_rows(out)}
    rows = [{**one.row, "status": there.get(one.key, "to do")} for one in planned]
    counts = Counter(row["status"] for row in rows)
    if json:
        show.as_json({"n_points": len(rows), "counts": dict(counts), "points": rows})
        return
    _table("Points", ["status", *_varying(asked, rows)], rows)
    said = ", ".join(f"{n} {status}" for status, n in counts.items())
    show.OUT.print(f"{_points(len(rows))}: {said}.")


def run(asked: Asked, out: Path, how: How, *, json: bool, report: Path | None = None) -> int:
    """Run a sweep, print what came of it, and return how many of its points failed.

    `report` is an HTML page to write about it.
    """
    with _stopping(out), show.progress_bar("sweep", quiet=json, tells_time=True) as bar:
        sweep = sweep_grid(
            asked.methods,
            over=asked.over,
            out=out,
            load=load_options,
            workers=how.workers,
            apart=how.apart,
            retry_failed=how.retry_failed,
            on_progress=bar,
        )
    rows = [row for row in sweep.rows if row["key"] in set(sweep.keys)]
    failed = [row for row in rows if row["status"] == "failed"]
    files = [str(out / name) for name in ("points.jsonl", "points.parquet")]
    written = files if find_spec("pyarrow") is not None else files[:1]
    if report is not None:
        write_report(replace(sweep, rows=tuple(rows)), report)
    if json:
        counts = {"n_points": len(rows), "n_failed": len(failed), "n_in_folder": len(sweep.rows)}
        show.as_json({**counts, "out": str(out), "files": written, "points": rows})
    else:
        _print(asked, sweep, rows, written)
        show.wrote(report)
    return len(failed)


def _print(
    asked: Asked, sweep: Sweep, rows: Sequence[dict[str, Any]], written: Sequence[str]
) -> None:
    done = [row for row in rows if row["status"] == "done"]
    failed = [row for row in rows if row["status"] == "failed"]
    if done:
        _table("Circuits", _varying(asked, done), done, _results(done))
        splits = sorted({row["evaluation_split"] for row in done})
        show.OUT.print(
            f"Judged on {' or '.join(splits)} prompts; n is how many. Published and truth: recall "
            "and precision of the edges kept."
        )
    for error, n in Counter(row["error"] for row in failed).items():
        show.OUT.print(f"{_points(n)} failed: {error}")
    others = len(sweep.rows) - len(rows)
    beside = f" The folder has {_points(others)} beside." if others else ""
    show.OUT.print(f"{_points(len(rows))}, {len(failed)} failed.{beside}")
    show.wrote(*written)
    if len(written) == 1:
        show.OUT.print("For Parquet: pip install 'edgewise[data]'.")


def _varying(asked: Asked, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that say which point a row is: the task, the method, what has several values."""
    settings = dict.fromkeys(name for given in asked.methods.values() for name in given)
    names = ["task", *asked.over, "method", *(f"{SETTING}{name}" for name in settings)]
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
        "value": [show.number(row["evaluation_metric"], 3) for row in rows],
        "faithful": [show.number(row["evaluation_faithfulness"], 3) for row in rows],
    }
    for known in ("published", "truth"):
        found = [(row.get(f"{known}_edge_tpr"), row.get(f"{known}_edge_precision")) for row in rows]
        if any(tpr is not None for tpr, _ in found):
            pairs = ["/".join(show.number(rate, 2) for rate in pair) for pair in found]
            columns[known] = pairs
    return columns | {"n": [str(row["evaluation_n"]) for row in rows]}


def _table(
    title: str,
    names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, Sequence[str]] | None = None,
) -> None:
    more = results or {}
    heads = [*(name.removeprefix(SETTING).replace("_", " ") for name in names), *more]
    cells = [
        [*(_cell(row.get(name)) for name in names), *(column[i] for column in more.values())]
        for i, row in enumerate(rows[:_SHOWN])
    ]
    show.table(title, heads, cells)
    if len(rows) > _SHOWN:
        show.OUT.print(f"… and {len(rows) - _SHOWN} more")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return show.number(value)
    return str(value)


def _points(n: int) -> str:
    return "1 point" if n == 1 else f"{n:,} points"


@contextmanager
def _stopping(out: Path) -> Iterator[None]:
    """Turn Ctrl-C into a sentence on what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        n = len(read_rows(out)) if (out / "sweep.json").exists() else 0
        raise Stopped(
            f"stopped. {_points(n)} are finished in {out}; the same command goes on."
        ) from None
