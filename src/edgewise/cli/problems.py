"""Turn the problem options of a command into a problem, and remember how for the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from edgewise.circuit import Circuit
from edgewise.cli.options import ProblemOptions
from edgewise.data import PromptPairs
from edgewise.errors import SettingError, unknown_name
from edgewise.graph import Graph
from edgewise.model import Model, load_model
from edgewise.problem import Problem
from edgewise.tasks import Task, load_task, task_spec

_DTYPES = ("float64", "float32", "bfloat16", "float16")
_GRAPH_OPTIONS = ("split_qkv", "split_heads", "split_embed", "switches")


@dataclass(frozen=True, eq=False)
class Built:
    """A problem, the held-out one if there is one, and what is known of its circuit."""

    problem: Problem
    test: Problem | None
    published: Circuit | None
    truth: Circuit | None
    request: dict[str, Any]


def build(options: ProblemOptions) -> Built:
    """The problem that the options describe. Raises `EdgewiseError`."""
    if (options.task is None) == (options.pairs is None):
        raise SettingError("say what to work on: either --task NAME or --pairs FILE.")
    dtype = _dtype(options.dtype)
    request = {k: v for k, v in asdict(options).items() if v is not None}
    task = _task(options, dtype) if options.task is not None else _pairs_task(options, dtype)
    graph = _graph(options, task.problem)
    changes = {"graph": graph, "batch_size": options.batch_size}
    same = graph == task.problem.graph
    return Built(
        problem=task.problem.with_(**changes),
        test=None if task.test is None else task.test.with_(**changes),
        published=task.published if same else None,
        truth=task.truth if same else None,
        request=request,
    )


def from_request(request: Mapping[str, Any]) -> Built:
    """The problem of a run, made again from what its record says was asked."""
    known = {f.name for f in fields(ProblemOptions)}
    if "task" not in request and "pairs" not in request:
        raise SettingError(
            "the run does not say how its problem was made (it was saved from Python). "
            "Add --task or --pairs to say it."
        )
    return build(ProblemOptions(**{k: v for k, v in request.items() if k in known}))


def _task(options: ProblemOptions, dtype: torch.dtype | None) -> Task:
    assert options.task is not None
    return load_task(
        options.task,
        _model(options, options.model or task_spec(options.task).model, dtype),
        n=options.n,
        seed=options.seed,
        data=options.data,
        metric=options.metric,
        reference=options.reference,
    )


def _pairs_task(options: ProblemOptions, dtype: torch.dtype | None) -> Task:
    assert options.pairs is not None
    if options.model is None:
        raise SettingError("--pairs needs --model, the model to run the prompts on.")
    for name in ("n", "data"):
        if getattr(options, name) is not None:
            raise SettingError(f"--{name} is for tasks; --pairs takes the prompts of its file.")
    model = _model(options, options.model, dtype)
    pairs = PromptPairs.from_file(options.pairs, tokenizer=model.tokenizer, bos=options.bos)
    problem = Problem(model, pairs, options.metric or "kl", options.reference or "corrupted")
    return Task(name=options.pairs, problem=problem)


def _model(options: ProblemOptions, source: str, dtype: torch.dtype | None) -> Model:
    return load_model(
        source,
        dtype=dtype,
        device=options.device,
        processing=options.processing,  # type: ignore[arg-type]  # load_model refuses other words
    )


def _graph(options: ProblemOptions, problem: Problem) -> Graph:
    """The task's graph, with the granularity options that were given."""
    usual = {name: getattr(problem.graph, name) for name in _GRAPH_OPTIONS}
    given = {name: getattr(options, name) for name in _GRAPH_OPTIONS}
    chosen = usual | {name: value for name, value in given.items() if value is not None}
    return Graph.of(problem.model, **chosen)


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if name not in _DTYPES:
        raise unknown_name("dtype", name, _DTYPES)
    dtype: torch.dtype = getattr(torch, name)
    return dtype
