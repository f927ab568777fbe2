"""The plain evaluator: run a circuit from scratch, every node, every position, in micro-batches.

It is the yardstick that faster engines are compared with, so it does nothing clever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.graph import Graph
from edgewise.metrics import METRICS, AnswerRows, Metric, check_repeatable
from edgewise.model.model import Model
from edgewise.model.outputs import Outputs, SenderOutputs
from edgewise.model.runtime import CleanReader, Reader, logits_of, run
from edgewise.patching.ablation import Ablation, means_at_positions, means_over
from edgewise.patching.readers import AblatedValues, CircuitReader, RecordingReader


@dataclass(frozen=True, eq=False)
class Batch:
    """A micro-batch, what its removed edges carry, and what a metric compares it with."""

    pairs: PromptPairs
    ablation: AblatedValues
    rows: AnswerRows
    is_own_target: bool = True  # metrics compare with the full model's logits, not another model's


@dataclass
class Work:
    """Work done so far; a forward pass is one run of one micro-batch."""

    forward_passes: int = 0
    backward_passes: int = 0


class Evaluator:
    """Circuits of one graph on one set of prompts, metric and ablation fixed.

    With `target`, metrics that compare with a full model's logits compare with that model's.
    Ablations and the full model's logits are computed at the first use and kept; `work` counts.
    """

    def __init__(
        self,
        model: Model,
        pairs: PromptPairs,
        metric: Metric,
        ablation: Ablation,
        graph: Graph,
        batch_size: int | None,
        target: Model | None = None,
    ) -> None:
        self.model, self.target = model, model if target is None else target
        self.pairs, self.metric, self.graph = pairs, metric, graph
        self._ablation, self._batch_size = ablation, batch_size
        self.work = Work()

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        # Plain tensors even if the first use is under inference mode: they outlive it.
        with torch.inference_mode(False), torch.no_grad():
            batches = tuple(
                Batch(
                    pairs,
                    self._ablated(pairs),
                    answer_rows(pairs, self.target_logits(pairs)),
                    is_own_target=self.target is self.model,
                )
                for pairs in self.pairs.batches(self._batch_size)
            )
            if self.metric not in METRICS.values():
                check_repeatable(self.metric, batches[0].rows)
            return batches

    def ablations(self) -> Iterator[tuple[PromptPairs, AblatedValues]]:
        """Every micro-batch, and what its removed edges carry: made as it goes, unless kept."""
        if "batches" in self.__dict__:
            yield from ((batch.pairs, batch.ablation) for batch in self.batches)
            return
        for pairs in self.pairs.batches(self._batch_size):
            with torch.no_grad():
                values = self._ablated(pairs)
            yield pairs, values

    @torch.no_grad()
    def per_prompt(self, circuit: Circuit) -> Float[Tensor, "batch"]:
        """The metric of every prompt when the model runs as `circuit`, on the CPU."""
        values = [
            self.metric.per_prompt(
                logits_of(self.model, final[batch.pairs.answer_at.to(final.device)]),
                self._rows_for_metric(batch.rows),
                len(batch.pairs),
            )
            for batch, final in self._finals(circuit)
        ]
        return torch.cat(values).cpu()

    @torch.no_grad()
    def logits(self, circuit: Circuit) -> Float[Tensor, "batch pos vocab"]:
        """Logits at every position. Those at padding mean nothing."""
        return torch.cat([logits_of(self.model, final) for _, final in self._finals(circuit)])

    @torch.no_grad()
    def target_logits(self, pairs: PromptPairs) -> Float[Tensor, "row vocab"]:
        """What metrics compare with on a micro-batch: the target's logits, or the full model's."""
        model = self.target
        final, _ = self._run(pairs.clean, pairs, CleanReader(), model=model)
        return logits_of(model, final[pairs.answer_at.to(model.device)]).to(self.model.device)

    def _finals(
        self, circuit: Circuit
    ) -> Iterator[tuple[Batch, Float[Tensor, "batch pos d_model"]]]:
        """What the output port reads, batch by batch. Callers switch gradients off."""
        dtype, device = self.model.compute_dtype, self.model.device
        for batch in self.batches:
            reader = CircuitReader(circuit, batch.ablation, batch.pairs, dtype, device)
            yield batch, self._run(batch.pairs.clean, batch.pairs, reader)[0]

    def _rows_for_metric(self, rows: AnswerRows) -> AnswerRows:
        """What the metric may look at; a copy for a user's function, which may write to it."""
        if self.metric in METRICS.values():
            return rows
        return replace(rows, clean_logits=rows.clean_logits.clone())

    # --- what removed edges carry

    def _ablated(self, pairs: PromptPairs) -> AblatedValues:
        """What the removed edges of a micro-batch carry."""
        values = AblatedValues(self._ablated_senders(pairs), {})
        if not self.graph.switches:
            return values
        empty = Circuit(self.graph, self.graph.is_switch)
        reader = CircuitReader(empty, values, pairs, self.model.compute_dtype, self.model.device)
        recorder = RecordingReader(reader)
        self._run(pairs.clean, pairs, recorder)
        return AblatedValues(values.senders, recorder.vectors)

    def _ablated_senders(self, pairs: PromptPairs) -> SenderOutputs | None:
        ablation = self._ablation
        if ablation.kind == "zero":
            return None
        if ablation.kind == "mean":
            return self._means
        if ablation.kind == "mean-positional":
            return means_at_positions(self._means, pairs.real.to(self.model.device))
        assert pairs.corrupted is not None  # Problem refuses pairs without corrupted prompts
        order = ablation.position_permutation
        permutation = None if order is None else torch.tensor(order)
        outputs = self._run(pairs.corrupted, pairs, CleanReader(), permutation=permutation)[1]
        return outputs.senders

    @cached_property
    def _means(self) -> SenderOutputs:
        """The mean of every sender, of batch 1; plain tensors as `batches` are."""
        with torch.inference_mode(False), torch.no_grad():
            return means_over(
                (self._ablation.prompts or self.pairs).batches(self._batch_size),
                lambda pairs: self._run(pairs.clean, pairs, CleanReader())[1].senders,
                positional=self._ablation.kind == "mean-positional",
                model=self.model,
            )

    def _run(
        self,
        tokens: Int[Tensor, "batch pos"],
        pairs: PromptPairs,
        reader: Reader,
        *,
        model: Model | None = None,
        permutation: Int[Tensor, "pos"] | None = None,
    ) -> tuple[Float[Tensor, "batch pos d_model"], Outputs]:
        """A forward pass on tokens of `pairs`, counted."""
        model = self.model if model is None else model
        self.work.forward_passes += 1
        return run(
            model,
            tokens.to(model.device),
            pairs.real.to(model.device),
            graph=self.graph,
            reader=reader,
            position_permutation=permutation,
        )


def answer_rows(pairs: PromptPairs, clean_logits: Float[Tensor, "row vocab"]) -> AnswerRows:
    """What a metric may look at, on the device of the logits."""
    device = clean_logits.device
    prompt, _ = pairs.answer_at.nonzero(as_tuple=True)
    answers = pairs.answers_in_order
    return AnswerRows(
        prompt=prompt.to(device),
        clean_logits=clean_logits,
        answers=None if answers is None else answers.to(device),
        wrong=None if pairs.wrong is None else pairs.wrong[prompt].to(device),
    )
