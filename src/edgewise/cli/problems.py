"""Turn the problem options of a command into a problem, and remember how for the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewise.circuit import Circuit
from edgewise.cli import show
from edgewise.cli.options import ProblemOptions
from edgewise.codec import decoded
from edgewise.data import PromptPairs
from edgewise.data.columns import parse_columns
from edgewise.data.corruption import corrupt
from edgewise.errors import SettingError, shortened
from edgewise.graph import Graph
from edgewise.identity import difference, of_problem
from edgewise.model import BUNDLED, Model, load_model
from edgewise.problem import Problem
from edgewise.record import Run
from edgewise.tasks import Task, default_model, load_task, task_spec
from edgewise.tasks.custom import is_task_file

_GRAPH_OPTIONS = ("split_qkv", "split_heads", "split_embed", "switches", "ungroup_heads")


@dataclass(frozen=True, eq=False)
class Built:
    """A problem, the held-out one if there is one, and what is known of its circuit."""

    problem: Problem
    test: Problem | None
    published: Circuit | None
    truth: Circuit | None


Load = Callable[[ProblemOptions, str], Model]


def build(options: ProblemOptions, *, load: Load | None = None) -> Built:
    """The problem that the options describe. Raises `EdgewiseError`.

    `load` loads models; `loading_once()` gives one that several problems share.
    """
    check_says_what(options)
    load = load or _model
    task = _task(options, load) if options.task is not None else _pairs_task(options, load)
    if options.by_position:
        task = replace(task, problem=_pooled(task.problem), test=_pooled(task.test))
    graph = _graph(options, task.problem)
    changes = {"graph": graph, "batch_size": options.batch_size}
    same = graph == task.problem.graph
    return Built(
        problem=task.problem.with_(**changes),
        test=None if task.test is task.problem else task.test.with_(**changes),
        published=task.published if same else None,
        truth=task.truth if same else None,
    )


def _pooled(problem: Problem) -> Problem:
    """The problem with every answer position as a prompt of its own."""
    origin = {**problem.origin, "by_position": True}
    return problem.with_(pairs=problem.pairs.by_position(), origin=origin)


def check_says_what(options: ProblemOptions) -> None:
    """Raise `SettingError` unless the options name a task, or a file of prompts."""
    if (options.task is None) == (options.pairs is None):
        raise SettingError("say what to work on: either --task NAME or --pairs FILE.")


def loading_once(*, at_most: int | None = None) -> Load:
    """Load each model once, however many problems ask for it; keep `at_most` so many."""
    loaded: dict[tuple[str | None, ...], Model] = {}

    def load(options: ProblemOptions, source: str) -> Model:
        key = (source, options.dtype, options.device, options.processing)
        if key not in loaded:
            if at_most is not None and len(loaded) >= at_most:
                loaded.clear()
            loaded[key] = _model(options, source)
        return loaded[key]

    return load


def from_run(run: Run, *, allow_code: bool, load: Load | None = None) -> Built:
    """The problem of a run, made again from what its record says was asked.

    A task that is a Python file would be run: only with `allow_code`. Raises `EdgewiseError`.
    """
    request = run.request
    if "task" not in request and "pairs" not in request:
        raise SettingError(
            "the run does not say how its problem was made (its prompts came from Python). "
            "Add --task or --pairs to say it."
        )
    options = decoded(ProblemOptions, dict(request), "run.json: request")
    if is_task_file(options.task) and not allow_code:
        raise SettingError(
            f"the run's record names a Python file as its task, {shortened(str(options.task))}: "
            "loading it would run it. If you trust that file, add --allow-code; or say the problem "
            "with --task or --pairs."
        )
    built = build(options, load=load)
    work = of_problem(built.problem)
    # A run of before this was kept says at least which prompts and metric.
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
    return built


def circuit_and_problem(
    path: Path, options: ProblemOptions, *, allow_code: bool
) -> tuple[Circuit, Built]:
    """The circuit of a run folder or a file, and the problem to judge it on.

    The problem is the one that the options name; without them, the run's own made again.
    """
    if not path.is_dir():
        found, built = Circuit.load(path), build(options)
        return found.for_model(built.problem.model), built
    run = Run.load(path)
    named = options.task is not None or options.pairs is not None
    return run.circuit, build(options) if named else from_run(run, allow_code=allow_code)


def _task(options: ProblemOptions, load: Load) -> Task:
    assert options.task is not None
    for name in ("columns", "skip_faulty", "corrupt"):
        if getattr(options, name):
            flag = name.replace("_", "-")
            raise SettingError(f"--{flag} is for --pairs; a task knows its prompts.")
    task = load_task(
        options.task,
        load(options, options.model or default_model(task_spec(options.task))),
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


def _pairs_task(options: ProblemOptions, load: Load) -> Task:
    assert options.pairs is not None
    if options.model is None:
        raise SettingError("--pairs needs --model, the model to run the prompts on.")
    seeded = () if options.corrupt else ("seed",)
    for name in ("n", *seeded, "data", "template", "corruption"):
        if getattr(options, name) is not None:
            raise SettingError(f"--{name} is for tasks; --pairs takes the prompts of its file.")
    columns = parse_columns(options.columns) if options.columns is not None else None
    model = load(options, options.model)
    pairs = PromptPairs.from_file(
        options.pairs,
        tokenizer=model.tokenizer,
        columns=columns,
        bos=options.bos,
        chat=options.chat,
        faulty="skip" if options.skip_faulty else "refuse",
    )
    if pairs.left_out:
        show.say(pairs.left_out_sentence)
    origin: dict[str, Any] = {"pairs": str(Path(options.pairs).resolve()), "bos": options.bos}
    if options.chat:
        origin["chat"] = True
    if options.columns is not None:
        origin["columns"] = options.columns
    if options.skip_faulty:
        origin["skip_faulty"] = True
    if options.corrupt is not None:
        seed = options.seed or 0
        pairs = corrupt(
            pairs,
            options.corrupt,
            n_tokens=model.config.d_vocab,
            tokenizer=model.tokenizer,
            seed=seed,
        )
        origin |= {"corrupt": options.corrupt, "seed": seed}
    problem = Problem(
        model,
        pairs,
        options.metric or "kl",
        options.ablation or "corrupted",
        origin=origin | _how_loaded(options),
    )
    return Task(name=options.pairs, problem=problem, test=problem)


def _how_loaded(options: ProblemOptions) -> dict[str, Any]:
    """What a record needs to load the model again, wherever it is read."""
    how: dict[str, Any] = {"processing": options.processing}
    if options.model is not None:
        is_local = options.model not in BUNDLED and Path(options.model).exists()
        how["model"] = str(Path(options.model).resolve()) if is_local else options.model
    return how


def _model(options: ProblemOptions, source: str) -> Model:
    return load_model(
        source,
        dtype=options.dtype,
        device=options.device,
        processing=options.processing,  # type: ignore[arg-type]  # load_model refuses other words
    )


def _graph(options: ProblemOptions, problem: Problem) -> Graph:
    """The task's graph, with the granularity options that were given."""
    graph = problem.graph
    usual = {n: getattr(graph, n) for n in _GRAPH_OPTIONS if n != "ungroup_heads"}
    usual["ungroup_heads"] = graph.switches  # they belong to single heads
    given = {name: getattr(options, name) for name in _GRAPH_OPTIONS}
    chosen = usual | {name: value for name, value in given.items() if value is not None}
    return Graph.of(problem.model, **chosen, spans=_spans(options.spans, problem))


def _spans(asked: str | None, problem: Problem) -> Sequence[str] | PromptPairs | None:
    """The spans that --spans asks for; the task's own without it."""
    if asked is None:
        return problem.graph.spans
    if asked == "none":
        return None
    return problem.pairs if asked == "all" else [name.strip() for name in asked.split(",")]
