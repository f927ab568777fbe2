"""What `edgewise compare` does: take circuits that are given, or find some in several settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewise.circuit import Circuit, common_graph
from edgewise.cli import show
from edgewise.cli.options import ProblemOptions
from edgewise.cli.problems import Built, build, check_says_what, from_run, loading_once
from edgewise.cli.unfinished import Stopped
from edgewise.errors import SettingError, quoted, unknown_name
from edgewise.evaluation import Comparison, compare
from edgewise.graph import Graph
from edgewise.methods import method_of
from edgewise.problem import Problem
from edgewise.record import Run, discover_each
from edgewise.record.several import run_folders
from edgewise.tasks import groups_on, task_spec
from edgewise.tasks.variants import AXES, MOST, axis_values, check_axes, check_values, combinations


def refuse_given_circuits(found: Sequence[Path] | None, names: str | None) -> None:
    """With --over there is nothing to give. Raises `SettingError`."""
    if found:
        raise SettingError(
            f"--over finds circuits; {found[0]} is one that is there. Compare those given without "
            "--over, or leave them out."
        )
    if names is not None:
        raise SettingError("--over names circuits by what varies; --names is for those given.")


def refuse_finding(settings: Mapping[str, Any], **options: Any) -> None:
    """Without --over nothing is found. Raises `SettingError`."""
    given = [f"--{name}" for name, value in options.items() if value not in (None, False)]
    given += [f"the setting {name.replace('_', '-')}" for name in settings]
    if given:
        raise SettingError(f"{given[0]} is for finding circuits: say with --over what varies.")


# --- circuits that are given


def compare_given(
    found: Sequence[Path],
    names: str | None,
    options: ProblemOptions,
    *,
    cross: bool,
    allow_code: bool,
    quiet: bool,
) -> Comparison:
    """Compare run folders and circuit files. Raises `EdgewiseError` before any model is loaded."""
    if len(found) < 2:
        raise SettingError(
            "name at least two run folders or circuit files, or say with --over what varies."
        )
    loaded = [Run.load(path) if path.is_dir() else Circuit.load(path) for path in found]
    labels = _names(found, names)
    items = dict(zip(labels, loaded, strict=True))
    graph = common_graph([x.circuit.graph if isinstance(x, Run) else x.graph for x in loaded])
    named = options.task is not None or options.pairs is not None
    problems: dict[str, Problem] | None = None
    if named or cross:
        with show.spinner("loading", quiet=quiet):
            problems = _problems(items, options, named=named, allow_code=allow_code)
    tasks = {item.request.get("task") for item in loaded if isinstance(item, Run)}
    task = options.task or (tasks.pop() if len(tasks) == 1 else None)
    models = {item.problem.model for item in loaded if isinstance(item, Run)}
    models |= {problem.model.name for problem in (problems or {}).values()}
    with show.progress_bar("evaluating", quiet=quiet) as on_progress:
        return compare(
            items,
            problems=problems,
            cross=cross,
            groups=groups_of(task, models, graph),
            on_progress=on_progress,
        )


def _problems(
    items: Mapping[str, Run | Circuit],
    options: ProblemOptions,
    *,
    named: bool,
    allow_code: bool,
) -> dict[str, Problem]:
    """The held-out problem of each: the one that the options name, or those of the runs."""
    if named:
        return dict.fromkeys(items, _held_out(build(options)))
    load, problems = loading_once(), {}
    for name, item in items.items():
        if isinstance(item, Circuit):
            raise SettingError(
                f"{name} is a circuit file, which does not say what problem it is of. Leave "
                "--cross out, or say a problem for all with --task or --pairs."
            )
        problems[name] = _held_out(from_run(item, allow_code=allow_code, load=load))
    return problems


def _names(paths: Sequence[Path], names: str | None) -> list[str]:
    """Those asked for, else the last part of each path; where that is not enough, all of it."""
    if names is not None:
        asked = [name.strip() for name in names.split(",")]
        if len(asked) != len(paths):
            raise SettingError(f"--names has {len(asked)} names for {len(paths)} circuits.")
        labels = asked
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
    task: str | None, models: Collection[str], graph: Graph
) -> dict[str, tuple[str, ...]]:
    """The published groups of a task; none unless every model is the one they were found in."""
    known = [groups_on(task or "", model, graph) for model in models]
    if not known or known[0] is None or None in known:
        return {}
    return {name: tuple(nodes) for name, nodes in known[0]["groups"].items()}


def _held_out(built: Built) -> Problem:
    return built.problem if built.test is None else built.test


# --- circuits to find


@dataclass(frozen=True)
class Asked:
    """What `edgewise compare --over` was asked."""

    problem: ProblemOptions
    over: Sequence[str]
    method: str
    settings: Mapping[str, Any]
    out: Path | None
    cross: bool
    yes: bool


def find_and_compare(asked: Asked, *, quiet: bool) -> tuple[Comparison, dict[str, str | None]]:
    """Find a circuit in each setting, and compare them; also the folder of each run.

    Everything that can be refused is refused before the first run starts.
    """
    method_of(asked.method).resolve(dict(asked.settings))
    over = parse_over(asked.over)
    options = asked.problem
    check_says_what(options)
    fixed = [axis for axis in AXES if getattr(options, axis) is not None]
    check_axes(over, fixed=fixed)
    spec = None if options.task is None else task_spec(options.task)
    if spec is not None:
        check_values(over, spec)
    with show.spinner("loading", quiet=quiet):
        built = _variants(asked, over)
    graph = common_graph([each.problem.graph for each in built.values()])
    problems = {name: each.problem for name, each in built.items()}
    models = {problem.model.name for problem in problems.values()}
    folders = {} if asked.out is None else run_folders(problems, asked.out)
    with _stopping(asked.out), show.progress_bar(asked.method, quiet=quiet) as bar:
        runs = discover_each(
            problems, asked.method, out=asked.out, on_progress=bar, **asked.settings
        )
    with show.progress_bar("evaluating", quiet=quiet) as bar:
        comparison = compare(
            runs,
            problems={name: _held_out(each) for name, each in built.items()},
            cross=asked.cross,
            groups=groups_of(options.task, models, graph),
            on_progress=bar,
        )
    return comparison, {name: str(folders[name]) if folders else None for name in runs}


def parse_over(words: Sequence[str]) -> dict[str, list[Any] | None]:
    """`corruption,metric=kl,nll` as axes with their values; None where none are given.

    Raises `UnknownName`, `SettingError`.
    """
    over: dict[str, list[Any] | None] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        axis, equals, value = (part.strip() for part in word.partition("="))
        if axis in AXES and not equals:
            if axis in over:
                raise SettingError(f"--over names {axis} twice.")
            over[axis] = None
        elif equals:
            if axis not in AXES:
                raise unknown_name("setting to compare over", axis, AXES)
            if axis in over:
                raise SettingError(f"--over names {axis} twice; give its values at once.")
            over[axis] = [_value(axis, value)]
        else:
            last = next(reversed(over), None)
            values = None if last is None else over[last]
            if last is None or values is None:  # no value can stand here
                raise unknown_name("setting to compare over", word, AXES)
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


def _variants(asked: Asked, over: Mapping[str, list[Any] | None]) -> dict[str, Built]:
    """Every setting, loaded and checked; models are loaded once."""
    options, load = asked.problem, loading_once()
    spec = None if options.task is None else task_spec(options.task)
    models = over.get("model")
    first = build(replace(options, model=models[0]) if models else options, load=load).problem
    values = {axis: axis_values(axis, given, spec, first) for axis, given in over.items()}
    most = None if asked.yes else MOST
    choices = combinations(values, most=most, how="name fewer values, or add --yes")
    return {name: build(replace(options, **choice), load=load) for name, choice in choices.items()}


@contextmanager
def _stopping(out: Path | None) -> Iterator[None]:
    """Turn Ctrl-C into a sentence on what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if out is None:
            raise
        raise Stopped(f"stopped. What was found is in {out}; the same command goes on.") from None
