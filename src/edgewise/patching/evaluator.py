"""The plain evaluator: run a circuit from scratch, every node, every position, in micro-batches.

It is the yardstick that faster engines are compared with, so it does nothing clever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.graph import Graph
from edgewise.metrics import METRICS, AnswerRows, Metric, check_repeatable
from edgewise.model.model import Model
from edgewise.model.runtime import CleanReader, logits_of, run
from edgewise.patching.ablation import Ablation, AblationSource, Work
from edgewise.patching.readers import AblatedValues, CircuitReader


@dataclass(frozen=True, eq=False)
class Batch:
    """A micro-batch, what its removed edges carry, and what a metric compares it with."""

    pairs: PromptPairs
    ablation: AblatedValues
    rows: AnswerRows
    is_own_target: bool = True  # metrics compare with the full model's logits, not another model's


class Evaluator:
    """Circuits of one graph on one set of prompts, metric and ablation fixed.

    With `target`, metrics that compare with a full model's logits compare with that model's.
    Ablations and the full model's logits are computed at the first use and kept.
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
        self.target = target
        self.model, self.pairs, self.metric, self.graph = model, pairs, metric, graph
        self._ablation, self._batch_size = ablation, batch_size
        self.work = Work()

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        # Plain tensors even if the first use is under inference mode: they outlive it.
        with torch.inference_mode(False), torch.no_grad():
            source = AblationSource(
                self.model, self.graph, self._ablation, self.pairs, self._batch_size, self.work
            )
            batches = tuple(
                Batch(
                    pairs,
                    source.values(pairs),
                    answer_rows(pairs, self.target_logits(pairs)),
                    is_own_target=self.target is None,
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
        with torch.no_grad():
            source = AblationSource(
                self.model, self.graph, self._ablation, self.pairs, self._batch_size, self.work
            )
        for pairs in self.pairs.batches(self._batch_size):
            with torch.no_grad():
                values = source.values(pairs)
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

    def _finals(
        self, circuit: Circuit
    ) -> Iterator[tuple[Batch, Float[Tensor, "batch pos d_model"]]]:
        """What the output port reads, batch by batch. Callers switch gradients off."""
        device = self.model.device
        for batch in self.batches:
            reader = CircuitReader(circuit, batch.ablation, batch.pairs, self.model.dtype, device)
            tokens, real = batch.pairs.clean.to(device), batch.pairs.real.to(device)
            final, _ = run(self.model, tokens, real, graph=self.graph, reader=reader)
            self.work.forward_passes += 1
            yield batch, final

    def _rows_for_metric(self, rows: AnswerRows) -> AnswerRows:
        """What the metric may look at; a copy for a user's function, which may write to it."""
        if self.metric in METRICS.values():
            return rows
        return replace(rows, clean_logits=rows.clean_logits.clone())

    @torch.no_grad()
    def target_logits(self, pairs: PromptPairs) -> Float[Tensor, "row vocab"]:
        """What metrics compare with on a micro-batch: the target's logits, or the full model's."""
        model = self.model if self.target is None else self.target
        tokens, real = pairs.clean.to(model.device), pairs.real.to(model.device)
        final, _ = run(model, tokens, real, graph=self.graph, reader=CleanReader())
        self.work.forward_passes += 1
        logits = logits_of(model, final[pairs.answer_at.to(model.device)])
        return logits.to(self.model.device)


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
