"""A problem: model, prompts, metric and ablation, checked together. All that a method gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit, Found, circuit_of
from edgewise.data import NO_ANSWER, PromptPairs
from edgewise.errors import ProblemError, SettingError
from edgewise.graph import REST, Graph
from edgewise.metrics import Metric, check_finite, metric_named
from edgewise.model import Model
from edgewise.model.checksums import Watch
from edgewise.patching import Ablation, Accuracy, Evaluator, ablation_named, accuracy_of


@dataclass(frozen=True, eq=False, init=False)
class Problem:
    """A behaviour of a model, as prompt pairs and a metric, and the ablation of other edges.

    `metric` and `ablation` may be given by name. `graph` is the granularity that methods work at
    (default: `model.graph`); `batch_size` bounds the memory of a run by running that many prompts
    at a time (ablated values are kept for all of them). `target` is another model whose logits
    `kl`, `l2` and `match-nll` compare with, such as the trained model of a reset network; by
    default it is the full model itself. `origin` says how a task or the command
    line made the problem, for records.
    Raises `ProblemError`, which lists every part that does not fit. A model whose tensors change
    afterwards is refused with `ModelChanged`.
    """

    model: Model
    pairs: PromptPairs
    metric: Metric
    ablation: Ablation
    graph: Graph
    batch_size: int | None
    target: Model | None
    origin: Mapping[str, Any]
    _evaluators: dict[Graph, Evaluator] = field(repr=False)
    _baselines: dict[Graph, tuple[float, float]] = field(repr=False)
    _watches: dict[Model, Watch] = field(repr=False)

    def __init__(
        self,
        model: Model,
        pairs: PromptPairs,
        metric: str | Metric | Callable[..., Tensor],
        ablation: str | Ablation = "corrupted",
        *,
        graph: Graph | None = None,
        batch_size: int | None = None,
        target: Model | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        _check_kinds(model, pairs, batch_size, target)
        values = {
            "model": model,
            "pairs": pairs,
            "metric": metric_named(metric),
            "ablation": ablation_named(ablation),
            "graph": model.graph if graph is None else graph,
            "batch_size": batch_size,
            "target": None if target is model else target,
            "origin": dict(origin or {}),
            "_evaluators": {},
            "_baselines": {},
            "_watches": {
                watched: Watch(watched) for watched in (model, target) if watched is not None
            },
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        faults = _faults(self)
        if faults:
            raise ProblemError(f"problem of {pairs.source} on {model.name}", faults)

    def __repr__(self) -> str:
        return (
            f"Problem({self.pairs!r} on {self.model.name}, {self.metric.name}, "
            f"{self.ablation.kind} ablation, {self.graph.n_edges} edges)"
        )

    def per_prompt(self, circuit: Found) -> Float[Tensor, "batch"]:
        """The metric of each prompt when the model runs as `circuit`. Raises `MetricError`."""
        circuit = circuit_of(circuit)
        values = self.evaluator(circuit.graph).per_prompt(circuit)
        check_finite(self.metric.name, values)
        return values

    def value(self, circuit: Found) -> float:
        """The metric, in its own unit and direction: its mean over prompts."""
        return self.per_prompt(circuit).double().mean().item()

    def loss(self, circuit: Found) -> float:
        """The metric as a loss: lower is better. The only place where direction is applied."""
        return self.metric.loss_sign * self.value(circuit)

    def baselines(self, graph: Graph | None = None) -> tuple[float, float]:
        """The metric of the full model and of the empty circuit; computed once.

        Raises `MetricError`, and `ModelChanged` if tensors changed since the first use: the start
        of every piece of work comes through here.
        """
        self.check_unchanged()
        graph = self.graph if graph is None else graph
        if graph not in self._baselines:
            full, empty = self.value(Circuit.full(graph)), self.value(Circuit.empty(graph))
            self._baselines[graph] = (full, empty)
        return self._baselines[graph]

    def accuracy(self) -> Accuracy | None:
        """How often the full model is right on the prompts, with or without BOS; computed once.

        None where the prompts have no answers to judge it by. Costs a forward pass at most, and
        another one where it is often wrong. Raises `MetricError`, `ModelChanged`.

        >>> import edgewise as ew
        >>> print(ew.load_task("ioi", n=20).problem.accuracy())
        the full model is right on 100% of 20 prompts (the best right answer beats ...).
        """
        self._look()
        return self._accuracy

    @cached_property
    def _accuracy(self) -> Accuracy | None:
        evaluator = self._evaluators.get(self.graph)
        kept = None
        if self.target is None and evaluator is not None and "batches" in vars(evaluator):
            kept = [(batch.pairs, batch.rows) for batch in evaluator.batches]
        return accuracy_of(self.model, self.pairs, kept)

    def evaluator(self, graph: Graph) -> Evaluator:
        """The plain evaluator for circuits of `graph`; made once.

        Raises `SettingError`, `ModelChanged`.
        """
        self._look()
        if graph not in self._evaluators:
            fault = _graph_fault(self.model, graph) or "".join(_span_faults(self.pairs, graph))
            if fault:
                raise SettingError(fault)
            for watch in self._watches.values():
                watch.start()  # from here on values are kept
            self._evaluators[graph] = Evaluator(
                self.model,
                self.pairs,
                self.metric,
                self.ablation,
                graph,
                self.batch_size,
                self.target,
            )
        return self._evaluators[graph]

    def check_unchanged(self) -> None:
        """Raise `ModelChanged` unless all tensors are as they were: reads each of them once."""
        for watch in self._watches.values():
            watch.check()

    def _look(self) -> None:
        for watch in self._watches.values():
            watch.look()

    def checksums(self, model: Model) -> Mapping[str, int]:
        """The checksum of each tensor of the model or the target. Raises `ModelChanged`."""
        return self._watches[model].checksums

    def passes(self) -> tuple[int, int]:
        """How many forward and how many backward passes this problem has cost so far."""
        work = [evaluator.work for evaluator in self._evaluators.values()]
        return sum(w.forward_passes for w in work), sum(w.backward_passes for w in work)

    def with_(self, **changes: Any) -> Problem:
        """This problem with some parts changed, checked anew: `problem.with_(ablation="zero")`."""
        known = (
            *("model", "pairs", "metric", "ablation"),
            *("graph", "batch_size", "target", "origin"),
        )
        for name in changes:
            if name not in known:
                raise SettingError(f"a problem has no {name!r}; it has {', '.join(known)}.")
        parts = {name: getattr(self, name) for name in known}
        if {"model", "pairs", "target"} & set(changes):
            parts["origin"] = None  # no longer the task's prompts on the task's model
        changed = type(self)(**parts | changes)
        # Not a way around a changed model; and checksums are known of those that stay.
        kept = {model: self._watches.get(model, new) for model, new in changed._watches.items()}
        object.__setattr__(changed, "_watches", kept)
        return changed


def run_circuit(problem: Problem, circuit: Found) -> Float[Tensor, "batch pos vocab"]:
    """Logits [batch pos vocab] on the clean prompts when only the circuit's edges are live.

    Every removed edge carries the problem's ablation. Logits at padding mean nothing.
    """
    kept = problem_and_circuit(problem, circuit, "run_circuit")
    return problem.evaluator(kept.graph).logits(kept)


def check_is_problem(problem: object, caller: str) -> None:
    """Raise `SettingError` for what is no problem, such as a task."""
    if not isinstance(problem, Problem):
        hint = " Pass task.problem, or task.test." if hasattr(problem, "problem") else ""
        raise SettingError(f"{caller} takes a Problem, not a {type(problem).__name__}.{hint}")


def problem_and_circuit(problem: object, circuit: object, caller: str) -> Circuit:
    """The circuit, or the run's, of the first two arguments of `caller`. Raises `SettingError`."""
    if isinstance(circuit, Problem):
        raise SettingError(f"{caller} takes the problem first: {caller}(problem, circuit).")
    check_is_problem(problem, caller)
    return circuit_of(circuit, f"the circuit of {caller}")


def _check_kinds(model: object, pairs: object, batch_size: object, target: object) -> None:
    """Refuse arguments of another kind, with what would work. Raises `SettingError`."""
    if not isinstance(model, Model):
        raise SettingError(
            f"model is a {type(model).__name__}; pass the Model that edgewise.load_model returns."
        )
    if target is not None and not isinstance(target, Model):
        raise SettingError(f"target is a {type(target).__name__}; pass a Model, or None.")
    if not isinstance(pairs, PromptPairs):
        raise SettingError(
            f"pairs is a {type(pairs).__name__}; make them with PromptPairs.from_tokens, from_text "
            "or from_file."
        )
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool)):
        raise SettingError(f"batch_size is {batch_size!r}; it must be a whole number, or None.")


def _faults(problem: Problem) -> list[str]:
    model, pairs, config = problem.model, problem.pairs, problem.model.config
    faults = []
    if pairs.n_positions > config.n_ctx:
        faults.append(
            f"prompts of up to {pairs.n_positions} tokens; "
            f"{model.name} takes at most {config.n_ctx}."
        )
    for what, ids in (("clean", pairs.clean), ("corrupted", pairs.corrupted)):
        faults += _id_faults(ids, pairs.real, what, config.d_vocab)
    for what, ids in (("answers", pairs.answers), ("wrong", pairs.wrong)):
        if ids is not None:
            faults += _id_faults(ids, ids != NO_ANSWER, what, config.d_vocab_out)
    for need in problem.metric.needs:
        if getattr(pairs, need) is None:
            whole = " as whole answers are scored; use nll, match-nll, accuracy or kl"
            why = whole if need == "wrong" and pairs.whole_answers else ""
            faults.append(
                f"metric {problem.metric.name!r} needs {need}, and the pairs have none{why}."
            )
    faults += _answer_faults(problem)
    if problem.metric.name == "kl" and config.d_vocab_out == 1:
        faults.append("metric 'kl' is always 0 for a model with one output; use 'l2'.")
    faults += _ablation_faults(problem)
    faults += _target_faults(problem)
    mismatch = _graph_fault(model, problem.graph)
    if mismatch:
        faults.append(mismatch)
    faults += _span_faults(pairs, problem.graph)
    if problem.batch_size is not None and problem.batch_size < 1:
        faults.append(f"batch_size is {problem.batch_size}; it must be at least 1, or None.")
    return faults


def _answer_faults(problem: Problem) -> list[str]:
    """Tokens that are a right and a wrong answer at once, for metrics that compare the two."""
    answers, wrong = problem.pairs.answers, problem.pairs.wrong
    if answers is None or wrong is None or "wrong" not in problem.metric.needs:
        return []
    both = (answers[:, :, None] == wrong[:, None, :]) & (answers != NO_ANSWER)[:, :, None]
    if not both.any():
        return []
    prompt, answer, _ = both.nonzero()[0].tolist()
    return [
        f"pair {prompt}: token id {answers[prompt, answer].item()} is an answer and a wrong answer "
        f"at once ({int(both.any(dim=(1, 2)).sum())} of {len(both)} pairs are like this)."
    ]


def _target_faults(problem: Problem) -> list[str]:
    if problem.target is None:
        return []
    own, theirs = problem.model.config, problem.target.config
    if (own.d_vocab, own.d_vocab_out) != (theirs.d_vocab, theirs.d_vocab_out):
        return [
            f"the target {problem.target.name} maps {theirs.d_vocab} tokens to "
            f"{theirs.d_vocab_out} outputs, {problem.model.name} maps {own.d_vocab} to "
            f"{own.d_vocab_out}."
        ]
    if problem.pairs.n_positions > theirs.n_ctx:
        return [
            f"prompts of up to {problem.pairs.n_positions} tokens; the target "
            f"{problem.target.name} takes at most {theirs.n_ctx}."
        ]
    return []


def _id_faults(ids: Tensor | None, counted: Tensor, what: str, n: int) -> list[str]:
    if ids is None:
        return []
    outside = ((ids < 0) | (ids >= n)) & counted
    return [
        f"pair {i}: {what} has token id {ids[i][outside[i]][0].item()}; "
        f"the model knows 0 to {n - 1}."
        for i in outside.any(dim=1).nonzero().flatten().tolist()
    ]


def _ablation_faults(problem: Problem) -> list[str]:
    ablation, pairs, config = problem.ablation, problem.pairs, problem.model.config
    faults = []
    if ablation.prompts is not None:
        prompts = ablation.prompts
        faults += _id_faults(prompts.clean, prompts.real, "ablation prompt", config.d_vocab)
        if prompts.n_positions > config.n_ctx:
            faults.append(
                f"ablation prompts of up to {prompts.n_positions} tokens; "
                f"{problem.model.name} takes at most {config.n_ctx}."
            )
    if ablation.kind == "corrupted":
        if pairs.corrupted is None:
            faults.append("ablation 'corrupted' needs corrupted prompts, and the pairs have none.")
            return faults
        order = ablation.position_permutation
        if order is not None and not pairs.n_positions <= len(order) <= config.n_ctx:
            faults.append(
                f"position_permutation has {len(order)} places for {pairs.n_positions} positions; "
                f"{problem.model.name} has {config.n_ctx}."
            )
        if order is not None and config.positions == "none":
            faults.append(
                f"position_permutation moves nothing: {problem.model.name} has no positions."
            )
        same = torch.equal(pairs.clean[pairs.real], pairs.corrupted[pairs.real])
        if same and order is None:
            faults.append("every corrupted prompt equals its clean one, so no edge can matter.")
    if ablation.kind == "mean-positional" and ablation.prompts is not None:
        longest, known = int(pairs.lengths.max()), int(ablation.prompts.lengths.max())
        if longest > known:
            faults.append(
                f"prompts of {longest} tokens, but the ablation prompts have at most {known}."
            )
    return faults


def _span_faults(pairs: PromptPairs, graph: Graph) -> list[str]:
    """Spans of the graph that the prompts do not have, and positions that are in none of it."""
    if graph.spans is None:
        return []
    known = pairs.spans or {}
    missing = [name for name in graph.spans if name not in known and name != REST]
    if missing:
        has = ", ".join(map(repr, known)) or "no spans"
        return [f"the graph has a span {missing[0]!r}; {pairs.source} has {has}."]
    lost = pairs.real & ~pairs.at_spans(graph.spans).any(dim=0)
    if lost.any():
        at, position = lost.nonzero()[0].tolist()
        return [
            f"pair {at}: position {position} is in none of the graph's spans. "
            f"Graph.of(model, spans=…) adds {REST!r} for such positions."
        ]
    return []


def _graph_fault(model: Model, graph: Graph) -> str | None:
    config = model.config
    own = (config.n_layers, config.n_heads, config.has_mlps, config.parallel)
    mixed = config.mixes_heads and graph.split_heads
    if own != (graph.n_layers, graph.n_heads, graph.mlps, graph.parallel) or graph.kv_heads not in (
        None,
        config.n_kv_heads,
    ):
        return f"the graph has {graph.describe()}; {model.name} has {model.graph.describe()}."
    if graph.mixed_heads != mixed:
        share = "share a norm" if mixed else "share no norm"
        return f"{model.name}'s heads {share}, unlike this graph's; use circuit.for_model(model)."
    if graph.split_embed and not config.adds_positions:
        return f"the graph has a 'pos_embed' sender; {model.name} adds no position embeddings."
    return None
