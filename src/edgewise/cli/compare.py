"""`edgewise compare`: what circuits share, and what only one of them sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import (
    AllowCode,
    Force,
    Json,
    MethodName,
    ProblemOptions,
    Report,
    Settings,
)
from edgewise.cli.problems import build, check_says_what, from_run, seeded
from edgewise.documents import check_output_file, check_output_place
from edgewise.errors import SettingError, quoted, unknown_name
from edgewise.methods import method_of


def compare(
    *,
    problem: ProblemOptions,
    settings: Settings,
    circuits: Annotated[
        list[Path] | None, typer.Argument(help="Run folders and circuit files to compare.")
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="What varies: corruption, template, data, metric, ablation, seed, model; values "
            "after =: metric=kl,nll."
        ),
    ] = None,
    method: MethodName = "",
    names: Annotated[str | None, typer.Option(help="Names of given circuits; commas.")] = None,
    cross: Annotated[
        bool, typer.Option("--cross", help="Evaluate every circuit on every problem.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs of --over.")] = None,
    report: Report = None,
    yes: Annotated[bool, typer.Option("--yes", help="Find more than 24 circuits.")] = False,
    force: Force = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Compare circuits: edges, groups, scores, effects.

    Those of finished runs and circuit files, or those that a method finds in several settings:

    edgewise compare runs/a runs/b circuit.json --report page.html

    edgewise compare --task ioi --over corruption --threshold 0.05 --out runs/ioi
    """
    check_output_file(report, overwrite=force)
    check_output_place(out)
    folders: dict[str, str | None] = {}
    if over:
        _refuse_circuits(circuits, names)
        comparison, folders = _find_and_compare(
            problem, over, method or "acdc", settings, out, cross=cross, many=yes, quiet=json
        )
    else:
        _refuse_discovery(settings, method=method or None, out=out, yes=yes)
        comparison = _compare_given(
            circuits or [], names, problem, cross=cross, allow_code=allow_code, quiet=json
        )
    if report is not None:
        ew.report(comparison, report)
    if json:
        files = {"runs": folders, "report": None if report is None else str(report)}
        console.as_json(comparison.to_json() | files)
    else:
        console.show(comparison)
        console.wrote(out, report)


def _refuse_circuits(circuits: Sequence[Path] | None, names: str | None) -> None:
    """With --over there is nothing to give. Raises `SettingError`."""
    if circuits:
        raise SettingError(
            f"--over finds circuits; {circuits[0]} is one that is there. Compare those given "
            "without --over, or leave them out."
        )
    if names is not None:
        raise SettingError("--over names circuits by what varies; --names is for those given.")


def _refuse_discovery(settings: Mapping[str, Any], **options: Any) -> None:
    """Without --over nothing is found. Raises `SettingError`."""
    unused = [f"--{name}" for name, value in options.items() if value not in (None, False)]
    unused += [f"the setting {name.replace('_', '-')}" for name in settings]
    if unused:
        raise SettingError(f"{unused[0]} is for finding circuits: say with --over what varies.")


# --- circuits that are given


def _compare_given(
    paths: Sequence[Path],
    names: str | None,
    options: ProblemOptions,
    *,
    cross: bool,
    allow_code: bool,
    quiet: bool,
) -> ew.Comparison:
    """Compare run folders and circuit files. Raises `EdgewiseError` before any model is loaded."""
    if len(paths) < 2:
        raise SettingError(
            "name at least two run folders or circuit files, or say with --over what varies."
        )
    loaded = [ew.Run.load(path) if path.is_dir() else ew.Circuit.load(path) for path in paths]
    items = dict(zip(_labels(paths, names), loaded, strict=True))
    runs = [item for item in loaded if isinstance(item, ew.Run)]
    graph = ew.circuit.common_graph(
        [x.circuit.graph if isinstance(x, ew.Run) else x.graph for x in loaded]
    )
    problems: dict[str, ew.Problem] | None = None
    if options.task is not None or options.pairs is not None or cross:
        with console.spinner("loading", quiet=quiet):
            problems = _problems(items, options, allow_code=allow_code)
    tasks = {run.request.get("task") for run in runs}
    task = options.task or (tasks.pop() if len(tasks) == 1 else None)
    models = {run.problem.model for run in runs}
    models |= {problem.model.name for problem in (problems or {}).values()}
    groups = groups_of(task, models, graph)
    with console.progress_bar("evaluating", quiet=quiet) as bar:
        return ew.compare(items, problems=problems, cross=cross, groups=groups, on_progress=bar)


def _problems(
    items: Mapping[str, ew.Run | ew.Circuit], options: ProblemOptions, *, allow_code: bool
) -> dict[str, ew.Problem]:
    """The held-out problem of each: the one that the options name, or those of the runs."""
    if options.task is not None or options.pairs is not None:
        return dict.fromkeys(items, build(options).test)
    load, problems = cache(ew.load_model), {}
    for name, item in items.items():
        if isinstance(item, ew.Circuit):
            raise SettingError(
                f"{name} is a circuit file, which does not say what problem it is of. Leave "
                "--cross out, or say a problem for all with --task or --pairs."
            )
        problems[name] = from_run(item, allow_code=allow_code, load=load).test
    return problems


def _labels(paths: Sequence[Path], names: str | None) -> list[str]:
    """The names typed, else the last part of each path; where that is not enough, all of it."""
    if names is not None:
        labels = [name.strip() for name in names.split(",")]
        if len(labels) != len(paths):
            raise SettingError(f"--names has {len(labels)} names for {len(paths)} circuits.")
    else:
        labels = [path.name or str(path) for path in paths]
        if len(set(labels)) < len(labels):
            labels = [str(path) for path in paths]
    for label in labels:
        if labels.count(label) > 1:
            raise SettingError(
                f"{quoted(label)} comes twice; give every circuit a name with --names."
            )
    return labels


def groups_of(
    task: str | None, models: Collection[str], graph: ew.Graph
) -> dict[str, tuple[str, ...]]:
    """The published groups of a task; none unless every model is the one they were found in."""
    known = [ew.tasks.groups_on(task or "", model, graph) for model in models]
    if not known or known[0] is None or None in known:
        return {}
    return {name: tuple(nodes) for name, nodes in known[0]["groups"].items()}


# --- circuits to find


def _find_and_compare(
    options: ProblemOptions,
    words: Sequence[str],
    method: str,
    settings: Settings,
    out: Path | None,
    *,
    cross: bool,
    many: bool,
    quiet: bool,
) -> tuple[ew.Comparison, dict[str, str | None]]:
    """Find a circuit in each setting, and compare them; also the folder of each run.

    Everything that can be refused is refused before the first run starts.
    """
    from edgewise.sweeps import run_folders

    settings = seeded(method, settings, options)
    method_of(method).resolve(settings)
    over = parse_over(words)
    with console.spinner("loading", quiet=quiet):
        tasks = _variants(options, over, many=many)
    problems = {name: task.problem for name, task in tasks.items()}
    graph = ew.circuit.common_graph([problem.graph for problem in problems.values()])
    models = {problem.model.name for problem in problems.values()}
    folders = {} if out is None else run_folders(problems, out)

    def kept() -> str | None:
        if out is None:
            return None
        return f"stopped. What was found is in {out}; run the same command again to resume."

    with console.stoppable(kept), console.progress_bar(method, quiet=quiet) as bar:
        runs = ew.discover_each(problems, method, out=out, on_progress=bar, **settings)
    with console.progress_bar("evaluating", quiet=quiet) as bar:
        comparison = ew.compare(
            runs,
            problems={name: task.test for name, task in tasks.items()},
            cross=cross,
            groups=groups_of(options.task, models, graph),
            on_progress=bar,
        )
    return comparison, {name: str(folders[name]) if folders else None for name in runs}


def parse_over(words: Sequence[str]) -> dict[str, list[Any] | None]:
    """`corruption,metric=kl,nll` as axes with their values; None where none are given.

    Raises `UnknownName`, `SettingError`.
    """
    axes = ew.tasks.variants.AXES
    over: dict[str, list[Any] | None] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        axis, equals, value = (part.strip() for part in word.partition("="))
        last = next(reversed(over), None)
        values = None if last is None else over[last]
        if axis in over and (equals or axis in axes):
            raise SettingError(f"--over names {axis} twice; give its values at once.")
        if axis in axes:
            over[axis] = [_value(axis, value)] if equals else None
        elif equals or last is None or values is None:  # no value can stand here
            raise unknown_name("setting to compare over", axis, axes)
        else:
            values.append(_value(last, word))
    return over


def _value(axis: str, text: str) -> Any:
    if not text:
        raise SettingError(f"--over {axis}= has a value that is empty.")
    if axis != "seed":
        return text
    try:
        return int(text)
    except ValueError:
        raise SettingError(f"--over seed: {quoted(text)} is not a whole number.") from None


def _variants(
    options: ProblemOptions, over: Mapping[str, list[Any] | None], *, many: bool
) -> dict[str, ew.Task]:
    """Every setting, loaded and checked; models are loaded once."""
    check_says_what(options)
    axes, load = ew.tasks.variants.AXES, cache(ew.load_model)
    return ew.tasks.variants.load_combinations(
        lambda **choice: build(replace(options, **choice), load=load),
        over,
        spec=None if options.task is None else ew.tasks.task_spec(options.task),
        fixed=[axis for axis in axes if getattr(options, axis) is not None],
        most=None if many else ew.tasks.variants.MOST,
        advice="name fewer values, or add --yes",
    )
