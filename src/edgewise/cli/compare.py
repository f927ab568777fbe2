"""`edgewise compare`: what circuits share, and what only one of them sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

import edgewise as ew
from edgewise.cli.console import Output
from edgewise.cli.options import AllowCode, MethodName, Settings, option
from edgewise.cli.problems import ProblemRequest, of_run, resolved
from edgewise.cli.values import parse_values
from edgewise.documents import check_output_place
from edgewise.errors import SettingError, unknown_name


def compare(
    *,
    problem: ProblemRequest,
    settings: Settings,
    circuits: Annotated[
        list[Path] | None, typer.Argument(help="Run folders and circuit files to compare.")
    ] = None,
    over: list[str] | None = option(
        None,
        "What varies: corruption, template, data, metric, ablation, seed, model; values after =: "
        "metric=kl,nll.",
    ),
    method: MethodName = "",
    names: str | None = option(None, "Names of given circuits; commas."),
    cross: bool = option(False, "Evaluate every circuit on every problem.", "--cross"),
    out: Path | None = option(None, "Folder for the runs of --over."),
    yes: bool = option(False, "Find more than 24 circuits.", "--yes"),
    allow_code: AllowCode = False,
    output: Annotated[Output, "report", "force", "json"],
) -> None:
    """Compare circuits: edges, groups, scores, effects.

    Those of finished runs and circuit files, or those that a method finds in several settings:

    edgewise compare runs/a runs/b circuit.json --report page.html

    edgewise compare --task ioi --over corruption --threshold 0.05 --out runs/ioi
    """
    output.check()
    check_output_place(out)
    there = {"--names": names, **{str(path): path for path in circuits or ()}}
    to_find = {"--method": method, "--out": out, "--yes": yes, **settings}
    _refuse_unused(there if over else to_find, finds=bool(over))
    problems: dict[str, ew.Problem] | None = None
    folders: dict[str, Path] = {}
    items: Mapping[str, ew.Run | ew.Circuit]
    if over:
        axes, most = parse_over(over), None if yes else ew.tasks.variants.MOST
        settings = resolved(method or "acdc", settings, problem)
        with output.progress("loading"):
            tasks = _variants(problem, axes, most)
        problems = {name: task.test for name, task in tasks.items()}
        items, folders = _found(tasks, method or "acdc", settings, out, output)
    else:
        items = _loaded(circuits or [], names)
        if problem.is_said or cross:
            with output.progress("loading"):
                problems = _problems(items, problem, allow_code=allow_code)
    groups = _groups(items, problems or {}, problem.task)
    with output.progress("evaluating") as on_progress:
        comparison = ew.compare(
            items, problems=problems, cross=cross, groups=groups, on_progress=on_progress
        )
    runs = {name: str(folders[name]) if folders else None for name in items if over}
    files = {"runs": runs, "report": output.files()["report"]}
    output.deliver(comparison, out, document=comparison.to_json() | files)


def _refuse_unused(options: Mapping[str, Any], *, finds: bool) -> None:
    """Raise `SettingError` for an option of the other of the two ways to compare."""
    for name, value in options.items():
        if value:
            use = "comparing circuits that are there: leave it out, or --over"
            use = use if finds else "finding circuits: say with --over what varies"
            raise SettingError(f"{name} is for {use}.")


def _groups(
    items: Mapping[str, Any], problems: Mapping[str, ew.Problem], task: str | None
) -> dict[str, Sequence[str]]:
    """The published groups of the task that the circuits are of."""
    graph = ew.circuit.common_graph([ew.circuit.circuit_of(item).graph for item in items.values()])
    runs = [item for item in items.values() if isinstance(item, ew.Run)]
    tasks = {task} if task else {run.request.get("task") for run in runs}
    models = {run.problem.model for run in runs}
    models |= {problem.model.name for problem in problems.values()}
    return groups_of(tasks.pop() if len(tasks) == 1 else None, models, graph)


def groups_of(
    task: str | None, models: Collection[str], graph: ew.Graph
) -> dict[str, Sequence[str]]:
    """The published groups of a task; none unless every model is the one they were found in."""
    published = [ew.tasks.groups_on(task or "", model, graph) or {} for model in models]
    return published[0]["groups"] if published and all(published) else {}


# --- circuits that are given


def _loaded(paths: Sequence[Path], names: str | None) -> dict[str, ew.Run | ew.Circuit]:
    """Runs and circuits by the names typed, else by the last part of each path, or all of it."""
    if len(paths) < 2:
        raise SettingError(
            "name at least two run folders or circuit files, or say with --over what varies."
        )
    loaded = [ew.Run.load(path) if path.is_dir() else ew.Circuit.load(path) for path in paths]
    labels = [path.name for path in paths]
    if names is not None:
        labels = [name.strip() for name in names.split(",")]
    elif not all(labels) or len(set(labels)) < len(labels):
        labels = [str(path) for path in paths]
    if len(labels) != len(paths) or len(set(labels)) < len(labels):
        raise SettingError(
            f"{len(paths)} circuits need as many different names, which {', '.join(labels)} are "
            "not; give them with --names."
        )
    return dict(zip(labels, loaded, strict=True))


def _problems(
    items: Mapping[str, ew.Run | ew.Circuit], request: ProblemRequest, *, allow_code: bool
) -> dict[str, ew.Problem]:
    """The held-out problem of each: the one that the options name, or those of the runs."""
    if request.is_said:
        return dict.fromkeys(items, request.load().test)
    load, problems = cache(ew.load_model), {}
    for name, item in items.items():
        if isinstance(item, ew.Circuit):
            raise SettingError(
                f"{name} is a circuit file, which does not say what problem it is of. Leave "
                "--cross out, or say a problem for all with --task or --pairs."
            )
        problems[name] = of_run(item, allow_code=allow_code, load=load).test
    return problems


# --- circuits to find


def parse_over(words: Sequence[str]) -> dict[str, list[Any] | None]:
    """`corruption,metric=kl,nll` as axes with their values; None where none are given.

    Raises `UnknownName`, `SettingError`.
    """
    axes = ew.tasks.variants.AXES
    over: dict[str, list[str] | None] = {}
    values: list[str] | None = None
    for word in (part.strip() for text in words for part in text.split(",")):
        axis, equals, value = (part.strip() for part in word.partition("="))
        if axis not in axes and not equals and values is not None:
            values.append(axis)
            continue
        if axis not in axes:
            raise unknown_name("setting to compare over", axis, axes)
        if axis in over:
            raise SettingError(f"--over names {axis} twice; give its values at once.")
        over[axis] = values = [value] if equals else None
    return {
        axis: typed and parse_values(f"over {axis}", typed, int if axis == "seed" else str)
        for axis, typed in over.items()
    }


def _variants(
    request: ProblemRequest, over: Mapping[str, list[Any] | None], most: int | None
) -> dict[str, ew.Task]:
    """Every setting, loaded and checked; models are loaded once."""
    request.check()
    load, variants = cache(ew.load_model), ew.tasks.variants
    return variants.load_combinations(
        lambda **choice: replace(request, **choice).load(load),
        over,
        spec=None if request.task is None else ew.tasks.task_spec(request.task),
        fixed=[axis for axis in variants.AXES if getattr(request, axis) is not None],
        most=most,
        advice="name fewer values, or add --yes",
    )


def _found(
    tasks: Mapping[str, ew.Task], method: str, settings: Settings, out: Path | None, output: Output
) -> tuple[dict[str, ew.Run], dict[str, Path]]:
    """A circuit for each setting, and the folder of its run."""
    from edgewise.sweeps import run_folders

    problems = {name: task.problem for name, task in tasks.items()}
    ew.circuit.common_graph([problem.graph for problem in problems.values()])  # or it is refused
    folders = {} if out is None else run_folders(problems, out)
    with output.progress(method, kept=out) as on_progress:
        runs = ew.discover_each(problems, method, out=out, on_progress=on_progress, **settings)
    return runs, folders
