"""A problem: model, prompts, metric and ablation, checked together. All that a method gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
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
    default it is the full model itself. `origin` says how a task or the command line made the
    problem, for records. Raises `ProblemError`, which lists every part that does not fit. A model
    whose tensors change afterwards is refused with `ModelChanged`.
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
        for name, value, kind, advice in (
            ("model", model, Model, "pass what edgewise.load_model returns"),
            ("pairs", pairs, PromptPairs, "make them with PromptPairs.from_tokens or from_file"),
            ("target", target, Model | None, "pass a Model, or None"),
            ("batch_size", batch_size, int | None, "pass a whole number, or None"),
        ):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise SettingError(f"{name} is a {type(value).__name__}; {advice}.")
        vars(self).update(  # frozen afterwards
            model=model,
            pairs=pairs,
            metric=metric_named(metric),
            ablation=ablation_named(ablation),
            graph=model.graph if graph is None else graph,
            batch_size=batch_size,
            target=None if target is model else target,
            origin=dict(origin or {}),
            _evaluators={},
            _baselines={},
            _watches={m: Watch(m) for m in (model, target) if m is not None},
        )
        if faults := list(_faults(self)):
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
        if self.target is not None or evaluator is None or "batches" not in vars(evaluator):
            return accuracy_of(self.model, self.pairs)
        rows = [(batch.pairs, batch.rows) for batch in evaluator.batches]
        return accuracy_of(self.model, self.pairs, rows)  # without another forward pass

    def evaluator(self, graph: Graph) -> Evaluator:
        """The plain evaluator for circuits of `graph`; made once.

        Raises `SettingError`, `ModelChanged`.
        """
        self._look()
        if graph not in self._evaluators:
            for fault in _graph_faults(self.model, self.pairs, graph):
                raise SettingError(fault)
            for watch in self._watches.values():
                watch.start()  # from here on values are kept
            parts = self.model, self.pairs, self.metric, self.ablation
            self._evaluators[graph] = Evaluator(*parts, graph, self.batch_size, self.target)
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
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name[0] != "_"}
        for name in changes:
            if name not in parts:
                raise SettingError(f"a problem has no {name!r}; it has {', '.join(parts)}.")
        if {"model", "pairs", "target"} & set(changes):
            parts["origin"] = None  # no longer the task's prompts on the task's model
        changed = type(self)(**parts | changes)
        # Not a way around a changed model; and checksums are known of those that stay.
        changed._watches.update({m: w for m, w in self._watches.items() if m in changed._watches})
        return changed


def run_circuit(problem: Problem, circuit: Found) -> Float[Tensor, "batch pos vocab"]:
    """Logits [batch pos vocab] on the clean prompts when only the circuit's edges are live.

    Every removed edge carries the problem's ablation. Logits at padding mean nothing.
    """
    circuit = problem_and_circuit(problem, circuit, "run_circuit")
    return problem.evaluator(circuit.graph).logits(circuit)


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


# --- what does not fit, a sentence each


def _faults(problem: Problem) -> Iterator[str]:
    model, pairs, config = problem.model, problem.pairs, problem.model.config
    yield from _length_faults("prompts", pairs, model)
    yield from _id_faults("clean", pairs.clean, pairs.real, config.d_vocab)
    if pairs.corrupted is not None:
        yield from _id_faults("corrupted", pairs.corrupted, pairs.real, config.d_vocab)
    for what, ids in (("answers", pairs.answers), ("wrong", pairs.wrong)):
        if ids is not None:
            yield from _id_faults(what, ids, ids != NO_ANSWER, config.d_vocab_out)
    yield from _metric_faults(problem)
    yield from _ablation_faults(problem)
    if problem.target is not None:
        yield from _target_faults(model, problem.target, pairs)
    yield from _graph_faults(model, pairs, problem.graph)
    if problem.batch_size is not None and problem.batch_size < 1:
        yield f"batch_size is {problem.batch_size}; it must be at least 1, or None."


def _length_faults(what: str, prompts: PromptPairs, model: Model) -> Iterator[str]:
    if prompts.n_positions > model.config.n_ctx:
        yield (
            f"{what} of up to {prompts.n_positions} tokens; {model.name} takes at most "
            f"{model.config.n_ctx}."
        )


def _id_faults(what: str, ids: Tensor, counted: Tensor, n_tokens: int) -> Iterator[str]:
    outside = ((ids < 0) | (ids >= n_tokens)) & counted
    for i in outside.any(dim=1).nonzero().flatten().tolist():
        token = ids[i][outside[i]][0].item()
        yield f"pair {i}: {what} has token id {token}; the model knows 0 to {n_tokens - 1}."


def _metric_faults(problem: Problem) -> Iterator[str]:
    metric, pairs = problem.metric, problem.pairs
    for need in metric.needs:
        if getattr(pairs, need) is None:
            whole = " as whole answers are scored; use nll, match-nll, accuracy or kl"
            why = whole if need == "wrong" and pairs.whole_answers else ""
            yield f"metric {metric.name!r} needs {need}, and the pairs have none{why}."
    if metric.name == "kl" and problem.model.config.d_vocab_out == 1:
        yield "metric 'kl' is always 0 for a model with one output; use 'l2'."
    answers, wrong = pairs.answers, pairs.wrong
    if answers is None or wrong is None or "wrong" not in metric.needs:
        return
    both = (answers[:, :, None] == wrong[:, None, :]) & (answers != NO_ANSWER)[:, :, None]
    for prompt, answer, _ in both.nonzero()[:1].tolist():
        token, n_like = answers[prompt, answer].item(), int(both.any(dim=(1, 2)).sum())
        yield (
            f"pair {prompt}: token id {token} is an answer and a wrong answer at once ({n_like} of "
            f"{len(both)} pairs are like this)."
        )


def _ablation_faults(problem: Problem) -> Iterator[str]:
    ablation, pairs, model = problem.ablation, problem.pairs, problem.model
    if (prompts := ablation.prompts) is not None:
        yield from _id_faults("ablation prompt", prompts.clean, prompts.real, model.config.d_vocab)
        yield from _length_faults("ablation prompts", prompts, model)
        longest, averaged = int(pairs.lengths.max()), int(prompts.lengths.max())
        if ablation.kind == "mean-positional" and longest > averaged:
            yield f"prompts of {longest} tokens, but the ablation prompts have at most {averaged}."
    if ablation.kind != "corrupted":
        return
    if pairs.corrupted is None:
        yield "ablation 'corrupted' needs corrupted prompts, and the pairs have none."
        return
    order = ablation.position_permutation
    if order is None:
        if torch.equal(pairs.clean[pairs.real], pairs.corrupted[pairs.real]):
            yield "every corrupted prompt equals its clean one, so no edge can matter."
        return
    if not pairs.n_positions <= len(order) <= model.config.n_ctx:
        yield (
            f"position_permutation has {len(order)} places for {pairs.n_positions} positions; "
            f"{model.name} has {model.config.n_ctx}."
        )
    if model.config.positions == "none":
        yield f"position_permutation moves nothing: {model.name} has no positions."


def _target_faults(model: Model, target: Model, pairs: PromptPairs) -> Iterator[str]:
    own, theirs = model.config, target.config
    if (own.d_vocab, own.d_vocab_out) != (theirs.d_vocab, theirs.d_vocab_out):
        yield (
            f"the target {target.name} maps {theirs.d_vocab} tokens to {theirs.d_vocab_out} "
            f"outputs, {model.name} maps {own.d_vocab} to {own.d_vocab_out}."
        )
    yield from _length_faults("prompts", pairs, target)


def _graph_faults(model: Model, pairs: PromptPairs, graph: Graph) -> Iterator[str]:
    config = model.config
    own = (config.n_layers, config.n_heads, config.has_mlps, config.parallel)
    shape = (graph.n_layers, graph.n_heads, graph.mlps, graph.parallel)
    mixed = config.mixes_heads and graph.split_heads
    if own != shape or graph.kv_heads not in (None, config.n_kv_heads):
        yield f"the graph has {graph.describe()}; {model.name} has {model.graph.describe()}."
    elif graph.mixed_heads != mixed:
        share = "share a norm" if mixed else "share no norm"
        yield f"{model.name}'s heads {share}, unlike this graph's; use circuit.for_model(model)."
    elif graph.split_embed and not config.adds_positions:
        yield f"the graph has a 'pos_embed' sender; {model.name} adds no position embeddings."
    if graph.spans is None:
        return
    named = [*(pairs.spans or {}), REST]
    missing = [name for name in graph.spans if name not in named]
    if missing:
        has = ", ".join(map(repr, named[:-1])) or "no spans"
        yield f"the graph has a span {missing[0]!r}; {pairs.source} has {has}."
        return
    lost = pairs.real & ~pairs.at_spans(graph.spans).any(dim=0)
    for at, position in lost.nonzero()[:1].tolist():
        yield (
            f"pair {at}: position {position} is in none of the graph's spans. "
            f"Graph.of(model, spans=…) adds {REST!r} for such positions."
        )
