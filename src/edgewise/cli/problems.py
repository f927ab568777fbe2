"""Turn the problem options of a command into a problem, and remember how for the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.options import ProblemOptions, Settings
from edgewise.documents import check_output_file, check_output_files
from edgewise.errors import SettingError, quoted, shortened
from edgewise.methods import method_of

_GRAPH_OPTIONS = ("split_qkv", "split_heads", "split_embed", "switches", "ungroup_heads")
_SPLITS = ("test", "discovery")


def build(
    options: ProblemOptions, *, load: Callable[..., ew.Model] | None = None, drawing: bool = False
) -> ew.Task:
    """The task that the options describe; its known circuits only on their own graph.

    `load` is `load_model`, or a function like it that keeps what it loaded. `drawing` says that
    the command draws something by itself, so that a seed has a use. Raises `EdgewiseError`.
    """
    check_says_what(options)
    load = load or ew.load_model
    if options.task is not None:
        task = _task(options, load)
    else:
        task = _pairs_task(options, load, drawing=drawing)
    if options.by_position:
        task = replace(task, problem=_pooled(task.problem), test=_pooled(task.test))
    graph = _graph(options, task.problem)
    is_own_graph = graph == task.problem.graph
    problem = task.problem.with_(graph=graph, batch_size=options.batch_size)
    test = task.test.with_(graph=graph, batch_size=options.batch_size)
    return replace(
        task,
        problem=problem,
        test=problem if task.test is task.problem else test,
        published=task.published if is_own_graph else None,
        truth=task.truth if is_own_graph else None,
    )


def held_out(task: ew.Task) -> ew.Problem | None:
    """The problem of prompts that discovery has not seen, if there are any."""
    return None if task.test is task.problem else task.test


def check_split(split: str) -> None:
    """Raise `SettingError` for a word that is no split."""
    if split not in _SPLITS:
        raise SettingError(f"split is {quoted(split)}; it must be 'test' or 'discovery'.")


def seeded(method: str, settings: Settings, problem: ProblemOptions) -> Settings:
    """The settings, with the command's seed for a method that draws and was given none."""
    draws = problem.seed is not None and "seed" in get_type_hints(method_of(method).settings)
    return Settings({"seed": problem.seed} | settings) if draws else settings


def check_work(
    method: str,
    settings: Settings,
    problem: ProblemOptions,
    outputs: Sequence[Path | None],
    journal: Path | None,
    *,
    overwrite: bool,
) -> Settings:
    """Refuse settings and outputs before anything is loaded; the settings with their seed."""
    settings = seeded(method, settings, problem)
    method_of(method).resolve(settings)
    check_output_files(*outputs, overwrite=overwrite)
    check_output_file(journal)
    return settings


def _pooled(problem: ew.Problem) -> ew.Problem:
    """The problem with every answer position as a prompt of its own."""
    origin = {**problem.origin, "by_position": True}
    return problem.with_(pairs=problem.pairs.by_position(), origin=origin)


def check_says_what(options: ProblemOptions) -> None:
    """Raise `SettingError` unless the options name a task, or a file of prompts."""
    if (options.task is None) == (options.pairs is None):
        raise SettingError("say what to work on: either --task NAME or --pairs FILE.")


def from_run(
    run: ew.Run, *, allow_code: bool, load: Callable[..., ew.Model] | None = None
) -> ew.Task:
    """The problem of a run, made again from the request in its record.

    A task that is a Python file would be run: only with `allow_code`. Raises `EdgewiseError`.
    """
    from edgewise.work.identity import difference, of_problem

    request = run.request
    if "task" not in request and "pairs" not in request:
        raise SettingError(
            "the run does not say how its problem was made (its prompts came from Python). "
            "Add --task or --pairs to say it."
        )
    options = ew.documents.decoded(ProblemOptions, dict(request), "run.json: request")
    if ew.tasks.is_task_file(options.task) and not allow_code:
        raise SettingError(
            f"the run's record names a Python file as its task, {shortened(str(options.task))}: "
            "loading it would run it. If you trust that file, add --allow-code; or say the problem "
            "with --task or --pairs."
        )
    task = build(options, load=load, drawing=True)
    work = of_problem(task.problem)
    # Runs of old versions have no `work`, only their prompts, metric and ablation.
    kept = run.work or {
        **work,
        "prompts": run.problem.pairs_sha256,
        "metric": {**work["metric"], "name": run.problem.metric},
        "ablation": run.problem.ablation,
    }
    differs = difference({name: kept.get(name) for name in work}, work)
    if differs:
        raise SettingError(
            f"the problem made again from the run's record is another one: {differs}. "
            "Has its file or its model changed? Say the problem with --task or --pairs."
        )
    return task


def circuit_and_task(
    path: Path, options: ProblemOptions, *, allow_code: bool
) -> tuple[ew.Run | ew.Circuit, ew.Task]:
    """The run in a folder, or the circuit in a file, and the task to evaluate it on.

    The task is the one that the options name; without them, the run's own made again.
    """
    if not path.is_dir():
        circuit, task = ew.Circuit.load(path), build(options, drawing=True)
        return circuit.for_model(task.problem.model), task
    run = ew.Run.load(path)
    if options.task is not None or options.pairs is not None:
        return run, build(options, drawing=True)
    return run, from_run(run, allow_code=allow_code)


def _task(options: ProblemOptions, load: Callable[..., ew.Model]) -> ew.Task:
    assert options.task is not None
    for name in ("columns", "skip_faulty", "corrupt"):
        if getattr(options, name):
            flag = name.replace("_", "-")
            raise SettingError(f"--{flag} is for --pairs; a task knows its prompts.")
    source = options.model or ew.tasks.default_model(ew.tasks.task_spec(options.task))
    task = ew.load_task(
        options.task,
        _model(options, source, load),
        n=options.n,
        seed=options.seed or 0,
        data=options.data,
        template=options.template,
        corruption=options.corruption,
        bos=options.bos,
        chat=options.chat,
        metric=options.metric,
        ablation=options.ablation,
    )
    origin = {**task.problem.origin, **_how_loaded(options)}
    same = task.test is task.problem
    problem = task.problem.with_(origin=origin)
    return replace(task, problem=problem, test=problem if same else task.test)


def _pairs_task(
    options: ProblemOptions, load: Callable[..., ew.Model], *, drawing: bool
) -> ew.Task:
    assert options.pairs is not None
    if options.model is None:
        raise SettingError("--pairs needs --model, the model to run the prompts on.")
    unused = () if options.corrupt or drawing else ("seed",)
    for name in ("n", *unused, "data", "template", "corruption"):
        if getattr(options, name) is not None:
            raise SettingError(f"--{name} is for tasks; --pairs takes the prompts of its file.")
    columns = (
        ew.data.columns.parse_columns(options.columns) if options.columns is not None else None
    )
    model = _model(options, options.model, load)
    pairs = ew.PromptPairs.from_file(
        options.pairs,
        tokenizer=model.tokenizer,
        columns=columns,
        bos=options.bos,
        chat=options.chat,
        faulty="skip" if options.skip_faulty else "refuse",
    )
    if pairs.left_out:
        console.say(pairs.left_out_sentence)
    origin: dict[str, Any] = {"pairs": str(Path(options.pairs).resolve()), "bos": options.bos}
    if options.chat:
        origin["chat"] = True
    if options.columns is not None:
        origin["columns"] = options.columns
    if options.skip_faulty:
        origin["skip_faulty"] = True
    if options.corrupt is not None:
        seed = options.seed or 0
        pairs = ew.data.corruption.corrupt(
            pairs,
            options.corrupt,
            n_tokens=model.config.d_vocab,
            tokenizer=model.tokenizer,
            seed=seed,
        )
        origin |= {"corrupt": options.corrupt, "seed": seed}
    problem = ew.Problem(
        model,
        pairs,
        options.metric or "kl",
        options.ablation or "corrupted",
        origin=origin | _how_loaded(options),
    )
    return ew.Task(name=options.pairs, problem=problem, test=problem)


def _how_loaded(options: ProblemOptions) -> dict[str, Any]:
    """What a record needs to load the model again, wherever it is read."""
    how: dict[str, Any] = {"processing": options.processing}
    if options.model is not None:
        is_local = options.model not in ew.model.BUNDLED and Path(options.model).exists()
        how["model"] = str(Path(options.model).resolve()) if is_local else options.model
    return how


def _model(options: ProblemOptions, source: str, load: Callable[..., ew.Model]) -> ew.Model:
    how = {"dtype": options.dtype, "device": options.device, "processing": options.processing}
    return load(source, **how)


def _graph(options: ProblemOptions, problem: ew.Problem) -> ew.Graph:
    """The task's graph, with the granularity options that were given."""
    graph = problem.graph
    usual = {n: getattr(graph, n) for n in _GRAPH_OPTIONS if n != "ungroup_heads"}
    usual["ungroup_heads"] = graph.switches  # they belong to single heads
    options_set = {name: getattr(options, name) for name in _GRAPH_OPTIONS}
    chosen = usual | {name: value for name, value in options_set.items() if value is not None}
    return ew.Graph.of(problem.model, **chosen, spans=_spans(options.spans, problem))


def _spans(words: str | None, problem: ew.Problem) -> Sequence[str] | ew.PromptPairs | None:
    """The spans that --spans asks for; the task's own without it."""
    if words is None:
        return problem.graph.spans
    if words == "none":
        return None
    return problem.pairs if words == "all" else [name.strip() for name in words.split(",")]
