"""One micro-batch of an ACDC run: what its active nodes are now, and what variants would give.

1. Nothing upstream moves: receivers are tested from the output backwards, so every sender into the
   receiver at hand still has its clean value. Removing s->r adds ablated(s) - clean(s) to what r
   reads, and nothing else.
2. Only active nodes move downstream: a change goes from node to node through kept edges.
3. Only the positions that matter: a node is computed where a kept consumer reads it, keys and
   values from the first position on that can differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.active import ActiveNodes, Base, heads_of
from edgewise.engine.attention_nodes import AttentionStack
from edgewise.engine.changes import PortChanges, SenderChanges
from edgewise.engine.heads import own_at
from edgewise.engine.losses import AnyLosses, KLLosses, LogitDiffLosses, VariantLosses
from edgewise.engine.plans import Consumer, Plan
from edgewise.engine.speculation import ReceiverStep, SpeculativeBatch
from edgewise.graph import SLOTS, Graph, Node, Port, Site, Slot
from edgewise.metrics import METRICS, Metric
from edgewise.model import Model
from edgewise.model.positions import PromptPositions
from edgewise.patching import Batch


@dataclass(frozen=True, eq=False)
class _Additive:
    """The step at hand: the changes that its candidates make, and how those travel."""

    changes: PortChanges
    plan: Plan


@dataclass(frozen=True, eq=False)
class _Switch:
    """The step at hand, of a switch: what its node makes of other vectors, and how that travels."""

    stack: AttentionStack
    plan: Plan


class MicroBatch:
    """The state of one micro-batch while edges are removed from the output backwards.

    Before any removal it is the full model, or the circuit `base`.
    """

    def __init__(
        self,
        model: Model,
        graph: Graph,
        metric: Metric,
        *,
        batch: Batch,
        base: Circuit | None = None,
    ) -> None:
        self._model, self._graph, self._batch = model, graph, batch
        pairs, device = batch.pairs, model.device
        real = pairs.real.to(device)
        self._base = Base.of(model, graph, batch, real=real, circuit=base)
        ablation, clean = batch.ablation.senders, self._base.sender_outputs
        difference = clean.mapped(torch.neg) if ablation is None else ablation.minus(clean)
        spans = None if graph.spans is None else pairs.at_spans(graph.spans).to(device)
        self._changes = SenderChanges(difference, spans, self._base.final)
        first = self._changes.first() if model.config.causal else 0
        self._active = ActiveNodes(self._base, PromptPositions(model, real), first)
        self._current: tuple[ReceiverStep, _Additive | _Switch] | None = None  # until a commit
        self._start_output(metric, pairs.answer_at.to(device))

    def _start_output(self, metric: Metric, answer_at: Bool[Tensor, "batch pos"]) -> None:
        self._output = len(self._graph.whole.receivers) - 1
        positions = answer_at.any(dim=0).nonzero().flatten()
        self._active.positions[self._output] = positions
        self._answers = answer_at[:, positions]
        self._final = self._base.final[:, positions]
        self._losses = self._losses_of(metric, self._base.full[answer_at])

    def _losses_of(self, metric: Metric, clean: Float[Tensor, "row d_model"]) -> VariantLosses:
        rows, n_prompts = self._batch.rows, len(self._batch.pairs)
        if metric is METRICS["kl"] and self._batch.is_own_target:
            return KLLosses(self._model, rows, n_prompts, clean=clean)
        if metric is METRICS["logit-diff"]:
            return LogitDiffLosses(self._model, rows, n_prompts)
        return AnyLosses(self._model, metric, rows, n_prompts)

    def __len__(self) -> int:
        return len(self._batch.pairs)

    def activate(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> None:
        """Make a node active, at all spans, once everything that reads it has its final edges."""
        for activated in self._active.activate(node, keep):
            for port in self._base.without_switch(activated):
                self._changed(port).commit_vectors(self._switched_off(port))
                self._hold(port)

    def width(self, step: ReceiverStep) -> int:
        """Numbers held per variant and prompt while removals into a receiver are evaluated."""
        return self._prepared(step).plan.width

    # --- variants: removing edges into one receiver

    def per_prompt_now(self) -> Float[Tensor, "batch"]:
        """The metric of each prompt with everything removed that is removed for good."""
        return self._losses.exact(self._rows_of(None))[0]

    def per_prompt(
        self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]
    ) -> Float[Tensor, "variant batch"]:
        """The metric of each prompt for each variant of removals of candidates from a receiver."""
        return self._losses.exact(self._variants(step, batches))

    def estimates(
        self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]
    ) -> tuple[Float[Tensor, "variant batch"], Float[Tensor, "variant batch"]]:
        """Estimates of the same, and how far off each may be."""
        return self._kl.estimate(self._variants(step, batches))

    def rebase(self) -> Float[Tensor, "batch"]:
        """Estimate relative to the current state from now on; returns its metric, exactly."""
        return self._kl.rebase(self._rows_of(None)[0])

    @property
    def _kl(self) -> KLLosses:
        assert isinstance(self._losses, KLLosses)  # ACDC's settings refuse other metrics
        return self._losses

    def _variants(
        self, step: ReceiverStep, batches: Sequence[SpeculativeBatch]
    ) -> Float[Tensor, "variant row d_model"]:
        """What the output reads at the answers in each variant."""
        prepared = self._prepared(step)
        if isinstance(prepared, _Switch):
            change = prepared.stack.change_of_vectors(self._switched_off(step.receiver))
            return self._rows_of(prepared.plan.run(change))
        change = torch.cat([prepared.changes.of_batch(batch) for batch in batches])
        return self._rows_of(prepared.plan.run(change[None]), len(change))

    def remove(self, step: ReceiverStep, removed: tuple[int, ...]) -> None:
        """Remove candidates, by their index, from a receiver for good."""
        prepared = self._prepared(step)
        if isinstance(prepared, _Switch):
            change = prepared.stack.commit_vectors(self._switched_off(step.receiver))
        else:
            change = prepared.changes.of(removed)[None, None]
        moved = prepared.plan.commit(change)
        self._current = None
        if moved is not None:
            self._final = self._final + moved[0]
        if step.is_switch:
            self._hold(step.receiver)

    def _hold(self, port: Port) -> None:
        """Let nothing change the vectors of a port whose switch is off."""
        span, (_, head) = self._span(port), self._active.attention(port)
        if span is not None:  # at other spans its vectors may still change
            for slot in _slots(port):
                here = self._changes.where(span, head.positions(slot))
                head.hold(slot, here.bool())

    # --- the step at hand

    def _prepared(self, step: ReceiverStep) -> _Additive | _Switch:
        """The step's changes and their way to the output: made once, until something is removed."""
        if self._current is None or self._current[0] is not step:
            prepared = self._prepare_switch(step) if step.is_switch else self._prepare_sum(step)
            self._current = step, prepared
        return self._current[1]

    def _prepare_sum(self, step: ReceiverStep) -> _Additive:
        column, graph = self._column(step.receiver), self._graph.whole
        rows = [graph.row[replace(edge.sender, span=None)] for edge in step.edges]
        positions = self._active.positions[column]
        changes = self._changes.at(positions, self._span(step.receiver))
        nothing = torch.zeros_like(self._base.final[:, positions])
        return _Additive(PortChanges(changes, rows, nothing), self._planned([[Consumer(column)]]))

    def _prepare_switch(self, step: ReceiverStep) -> _Switch:
        stack = self._changed(step.receiver)
        return _Switch(stack, self._planned(stack.consumers))

    def _planned(self, begin: Sequence[Sequence[Consumer]]) -> Plan:
        return Plan(self._active, begin, output=self._output, where=self._where, like=self._final)

    def _where(self, span: int, column: int) -> Float[Tensor, "batch place"]:
        """1 where a span is, else 0, at the positions that a port reads."""
        return self._changes.where(span, self._active.positions[column])

    def _column(self, port: Port) -> int:
        """The column of a port, positions together."""
        return self._graph.whole.column[replace(port, node=replace(port.node, span=None))]

    def _span(self, port: Port) -> int | None:
        spans = self._graph.spans
        return None if spans is None else spans.index(port.node.span or "")

    def _changed(self, port: Port) -> AttentionStack:
        """What a port's node, or layer, makes of other vectors of the port."""
        node, head = self._active.attention(port)
        return node.changed(head, _slots(port))

    def _switched_off(self, port: Port) -> dict[Slot, Tensor]:
        """The ablation run's vectors at the port's positions, as one variant."""
        assert port.node.layer is not None
        heads, span, (_, head) = heads_of(port.node), self._span(port), self._active.attention(port)
        result: dict[Slot, Tensor] = {}
        for slot in _slots(port):
            vectors = self._batch.ablation.vectors[Site(port.node.layer, slot)]
            vectors = head.block.ungrouped(vectors)[heads]
            at = head.positions(slot)
            off = own_at(head, slot, vectors[:, None, :, at], at=at, heads=heads)
            if span is not None:
                here = self._changes.where(span, at)[:, :, None].bool()
                current = head.own[slot] if slot == "q" else head.own[slot][:, :, at]
                off = torch.where(here, off, current[:, None])
            result[slot] = off
        return result

    def _rows_of(
        self, change: Float[Tensor, "variant batch answer d_model"] | None, variants: int = 1
    ) -> Float[Tensor, "variant row d_model"]:
        """What the output reads at the answers, for each variant of a change; None: no change."""
        final = self._final[None]
        final = final.expand(variants, -1, -1, -1) if change is None else final + change
        return final[:, self._answers]


def _slots(port: Port) -> tuple[Slot, ...]:
    return SLOTS if port.slot is None else (port.slot,)
