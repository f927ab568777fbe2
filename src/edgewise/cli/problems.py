"""What a command works on: a record that options fill, that a run keeps, and that makes a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import edgewise as ew
from edgewise.cli import console
from edgewise.cli.console import Output
from edgewise.cli.options import DETAILS, PROBLEM, Settings, grouped
from edgewise.errors import SettingError, shortened
from edgewise.methods import method_of

_essential = partial(grouped, panel=PROBLEM, varies=True)
_detail = partial(grouped, panel=DETAILS)

Load = Callable[..., Any]  # `load_model`, or a function like it that keeps what it loaded
OF_FILES = ("columns", "skip_faulty", "corrupt")
OF_TASKS = ("n", "data", "template", "corruption")
_OF_GRAPH = ("split_qkv", "split_heads", "split_embed", "switches", "ungroup_heads")
# What a problem says by itself, so that its run knows it without this record.
_OF_PROBLEM = (*_OF_GRAPH, "metric", "ablation", "spans", "batch_size", "dtype", "device")


@dataclass(frozen=True)
class ProblemRequest:
    """What to work on: a task, or prompt pairs and a model. None leaves the choice to them."""

    task: str | None = _essential("A name of `edgewise tasks`, or a Python file.")
    pairs: str | None = _essential("Prompt pairs: JSON lines, JSON, CSV or Parquet.")
    model: str | None = _essential("Bundled name, folder, GGUF file or hub name.")
    metric: str | None = _essential("kl, logit-diff, ... Default: the task's, or kl.")
    ablation: str | None = _essential(
        "Outside the circuit: corrupted, zero, mean, mean-positional."
    )
    n: int | None = _essential("How many prompts a task draws.")
    seed: int | None = _essential("Seed of all that is drawn. Default: 0.")

    columns: str | None = _detail("Of --pairs: clean=prompt,answers=target.")
    skip_faulty: bool = _detail("Leave out bad prompts.", False)
    corrupt: str | None = _detail("--pairs by shuffle, random, random:SPAN.", varies=True)
    data: str | None = _detail("Kind of prompts: legal, paper, ...", varies=True)
    template: str | None = _detail("Sentences: see `edgewise tasks show`.", varies=True)
    corruption: str | None = _detail("How a task corrupts prompts: likewise.", varies=True)
    bos: bool | None = _detail("BOS before texts. Default: tokenizer's.", flags="--bos/--no-bos")
    chat: bool = _detail("Texts as the user's turn in a chat.", False)
    by_position: bool = _detail("Every answer position is a prompt.", False)
    split_qkv: bool | None = _detail("Heads read 3 times, or 1.", flags="--split-qkv/--joined-qkv")
    split_heads: bool | None = _detail("Nodes: heads, or layers.", flags="--heads/--layers")
    split_embed: bool | None = _detail(
        "Token and position embeddings apart.", flags="--split-embed/--joined-embed"
    )
    switches: bool | None = _detail(
        "The paper's direct-computation edges.", flags="--switches/--no-switches"
    )
    ungroup_heads: bool | None = _detail(
        "Keys and values by head, or by group.", flags="--ungroup-heads/--grouped-heads"
    )
    spans: str | None = _detail("Positions apart: all, none, or S2,END.")
    batch_size: int | None = _detail("Prompts run at a time; bounds memory.")
    dtype: str | None = _detail("float64, float32, bfloat16 or float16.", varies=True)
    device: str | None = _detail("cpu, cuda, mps, auto; cuda:0,cuda:1.")
    processing: str = _detail("none, or transformer-lens.", "none")

    @property
    def is_said(self) -> bool:
        """Whether it says a task or a file of prompts."""
        return self.task is not None or self.pairs is not None

    def check(self, *, draws: bool = False) -> None:
        """Raise `SettingError` unless it names a task or a file, and no option without a use there.

        `draws` says that the command draws something by itself, so that a seed has a use.
        """
        if (self.task is None) == (self.pairs is None):
            raise SettingError("say what to work on: either --task NAME or --pairs FILE.")
        unused = [*(OF_FILES if self.pairs is None else OF_TASKS)]
        if self.pairs is not None and not (self.corrupt or draws):
            unused.append("seed")
        for name in unused:
            if getattr(self, name) not in (None, False):
                what = "--pairs; a task" if self.pairs is None else "tasks; a file"
                option = name.replace("_", "-")
                raise SettingError(f"--{option} is for {what} has its prompts.")

    def load(self, load: Load | None = None, *, draws: bool = False) -> ew.Task:
        """The task; its known circuits only on their own graph. Raises `EdgewiseError`."""
        self.check(draws=draws)
        task = self._of_pairs(load) if self.task is None else self._of_name(self.task, load)
        graph, same = self._graph(task.problem), task.test is task.problem
        is_own_graph = graph == task.problem.graph
        problem = self._set_up(task.problem, graph)
        return replace(
            task,
            problem=problem,
            test=problem if same else self._set_up(task.test, graph),
            published=task.published if is_own_graph else None,
            truth=task.truth if is_own_graph else None,
        )

    def load_model(self, source: str, load: Load | None = None) -> ew.Model:
        """A model as the options say."""
        loads: Load = load or ew.load_model
        return loads(source, dtype=self.dtype, device=self.device, processing=self.processing)

    @property
    def column_map(self) -> Any:
        """What --columns says, read; None without it. Raises `SettingError`, `UnknownName`."""
        return None if self.columns is None else ew.data.columns.parse_columns(self.columns)

    def _of_name(self, name: str, load: Load | None) -> ew.Task:
        chosen = {k: getattr(self, k) for k in (*OF_TASKS, "bos", "chat", "metric", "ablation")}
        source = self.model or ew.tasks.default_model(ew.tasks.task_spec(name))
        model = self.load_model(source, load)
        return ew.load_task(name, model, seed=self.seed or 0, **chosen)

    def _of_pairs(self, load: Load | None) -> ew.Task:
        assert self.pairs is not None  # checked
        if self.model is None:
            raise SettingError("--pairs needs --model, the model to run the prompts on.")
        columns, model = self.column_map, self.load_model(self.model, load)
        pairs = ew.PromptPairs.from_file(
            self.pairs,
            tokenizer=model.tokenizer,
            columns=columns,
            bos=self.bos,
            chat=self.chat,
            faulty="skip" if self.skip_faulty else "refuse",
        )
        if pairs.left_out:
            console.say(pairs.left_out_sentence)
        if self.corrupt is not None:
            pairs = ew.data.corruption.corrupt(
                pairs,
                self.corrupt,
                n_tokens=model.config.d_vocab,
                tokenizer=model.tokenizer,
                seed=self.seed or 0,
            )
        problem = ew.Problem(model, pairs, self.metric or "kl", self.ablation or "corrupted")
        return ew.Task(name=self.pairs, problem=problem, test=problem)

    def _graph(self, problem: ew.Problem) -> ew.Graph:
        """The task's graph, with the granularity options that were given."""
        graph, pairs = problem.graph, problem.pairs
        usual: dict[str, Any] = {name: getattr(graph, name, None) for name in _OF_GRAPH}
        usual["ungroup_heads"] = graph.switches  # they belong to single heads
        typed = {name: getattr(self, name) for name in _OF_GRAPH}
        chosen = usual | {name: value for name, value in typed.items() if value is not None}
        spans: Any = [name.strip() for name in (self.spans or "").split(",")]
        spans = {None: graph.spans, "none": None, "all": pairs}.get(self.spans, spans)
        return ew.Graph.of(problem.model, **chosen, spans=spans)

    def _set_up(self, problem: ew.Problem, graph: ew.Graph) -> ew.Problem:
        """A problem on this graph that says how it was made, for the record of its runs."""
        pairs = problem.pairs.by_position() if self.by_position else problem.pairs
        own = [f for f in fields(self) if f.name not in _OF_PROBLEM]
        typed = {f.name: getattr(self, f.name) for f in own if getattr(self, f.name) != f.default}
        origin = {**typed, "processing": self.processing, **problem.origin}
        if self.corrupt is not None:
            origin["seed"] = self.seed or 0
        for name in ("model", "pairs"):
            path = getattr(self, name)
            if path is not None:
                is_local = path not in ew.model.BUNDLED and Path(path).exists()
                origin[name] = str(Path(path).resolve()) if is_local else path
        return problem.with_(pairs=pairs, graph=graph, batch_size=self.batch_size, origin=origin)


def of_run(run: ew.Run, *, allow_code: bool, load: Load | None = None) -> ew.Task:
    """The task of a run, made again from the request in its record.

    A task that is a Python file would be run: only with `allow_code`. Raises `EdgewiseError`.
    """
    from edgewise.work.identity import difference, of_problem

    if not {"task", "pairs"} & set(run.request):
        raise SettingError(
            "the run does not say how its problem was made (its prompts came from Python). "
            "Add --task or --pairs to say it."
        )
    request = ew.documents.decoded(ProblemRequest, dict(run.request), "run.json: request")
    if ew.tasks.is_task_file(request.task) and not allow_code:
        raise SettingError(
            f"the run's record names a Python file as its task, {shortened(str(request.task))}: "
            "loading it would run it. If you trust that file, add --allow-code; or say the problem "
            "with --task or --pairs."
        )
    task = request.load(load, draws=True)
    work = of_problem(task.problem)
    # Runs of old versions have no `work`, only their prompts, metric and ablation.
    recorded = run.work or {
        **work,
        "prompts": run.problem.pairs_sha256,
        "metric": {**work["metric"], "name": run.problem.metric},
        "ablation": run.problem.ablation,
    }
    if differs := difference({name: recorded.get(name) for name in work}, work):
        raise SettingError(
            f"the problem made again from the run's record is another one: {differs}. "
            "Has its file or its model changed? Say the problem with --task or --pairs."
        )
    return task


def circuit_and_task(
    path: Path, request: ProblemRequest, output: Output, *, allow_code: bool
) -> tuple[ew.Run | ew.Circuit, ew.Task]:
    """The run in a folder, or the circuit in a file, and the task to evaluate it on.

    The task is the one that the options name; without them, the run's own made again.
    """
    output.check()
    with output.progress("loading"):
        if not path.is_dir():
            circuit, task = ew.Circuit.load(path), request.load(draws=True)
            return circuit.for_model(task.problem.model), task
        run = ew.Run.load(path)
        if request.is_said:
            return run, request.load(draws=True)
        return run, of_run(run, allow_code=allow_code)


def held_out(task: ew.Task) -> ew.Problem | None:
    """The problem of prompts that discovery has not seen, if there are any."""
    return None if task.test is task.problem else task.test


def task_for(
    method: str, settings: Settings, request: ProblemRequest, output: Output
) -> tuple[ew.Task, dict[str, Any]]:
    """The task on which a method is tried again and again, and what each such trial is told."""
    settings = resolved(method, settings, request)
    output.check()
    with output.progress("loading"):
        task = request.load(draws=True)
    own = {f"method_{name}": value for name, value in settings.items()}
    return task, {"seed": request.seed or 0, "journal": output.journal, **own}


def resolved(method: str, settings: Settings, request: ProblemRequest) -> Settings:
    """The settings, with the command's seed for a method that draws and was given none.

    Raises `SettingError`, `UnknownName` for what the method refuses, before anything is loaded.
    """
    chosen = method_of(method)
    if request.seed is not None and "seed" in get_type_hints(chosen.settings):
        settings = Settings({"seed": request.seed} | settings)
    chosen.resolve(settings)
    return settings
