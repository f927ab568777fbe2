"""One micro-batch of an ACDC run: what its live nodes are now, and what variants would give.

1. Nothing upstream moves: receivers are visited from the output backwards, so every sender into
   the receiver at hand still has its clean value. Removing s->r adds ablated(s) - clean(s) to
   what r reads, and nothing else.
2. Only the live part moves downstream: a change goes from node to node through kept edges.
3. Only the positions that matter: a node is computed where a kept consumer reads it, keys and
   values from the first position on that can differ.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.engine.attention import AttentionStack, own_at
from edgewise.engine.base import Base
from edgewise.engine.changes import Changes, Into
from edgewise.engine.consumers import Consumer
from edgewise.engine.kl import KLLosses
from edgewise.engine.layers import LayerStack
from edgewise.engine.live import LiveNodes, heads_of
from edgewise.engine.losses import AnyLosses, EstimatedLosses, LogitDiffLosses, VariantLosses
from edgewise.engine.paths import Path
from edgewise.engine.plans import Plan
from edgewise.engine.reduced import ReducedProducts
from edgewise.graph import SLOTS, Graph, Node, Port, Site, Slot
from edgewise.metrics import METRICS, Metric
from edgewise.model import Model
from edgewise.model.attention import Places, ungrouped
from edgewise.patching import Batch


def estimated() -> tuple[Metric, ...]:
    """The metrics whose losses can be estimated with a bound on the error."""
    return METRICS["kl"], METRICS["logit-diff"]


class LiveBatch:
    """The state of one micro-batch while receivers are visited from the output backwards.

    Before any removal it is the full model, or the circuit `base`.
    """

    def __init__(
        self,
        model: Model,
        graph: Graph,
        metric: Metric,
        batch: Batch,
        base: Circuit | None = None,
    ) -> None:
        self._model, self._graph, self._batch = model, graph, batch
        pairs, device = batch.pairs, model.device
        real = pairs.real.to(device)
        self._base = Base.of(model, graph, batch, real, base)
        ablation, live = batch.ablation.senders, self._base.senders
        difference = live.mapped(torch.neg) if ablation is None else ablation.minus(live)
        spans = None if graph.spans is None else pairs.at_spans(graph.spans).to(device)
        self._changes = Changes(difference, spans, self._base.final)
        first = self._changes.first() if model.config.causal else 0
        self._live = LiveNodes(model, graph, self._base, Places(model, real), first)
        self._plan: tuple[object, Plan] | None = None  # for the port at hand, until a commit
        self._start_output(metric, pairs.answer_at.to(device))

    def _start_output(self, metric: Metric, answer_at: Bool[Tensor, "batch pos"]) -> None:
        self._output = len(self._graph.whole.receivers) - 1
        positions = answer_at.any(dim=0).nonzero().flatten()
        self._live.positions[self._output] = positions
        self._answers = answer_at[:, positions]
        self._final = self._base.final[:, positions]
        self._losses = self._losses_of(metric, self._base.full[answer_at])

    def _losses_of(self, metric: Metric, clean: Float[Tensor, "row d_model"]) -> VariantLosses:
        rows, n_prompts = self._batch.rows, len(self._batch.pairs)
        if metric is METRICS["kl"] and self._batch.is_own_target:
            return KLLosses(self._model, rows, n_prompts, clean)
        if metric is METRICS["logit-diff"]:
            return LogitDiffLosses(self._model, rows, n_prompts, clean)
        return AnyLosses(self._model, metric, rows, n_prompts)

    def fork(self) -> LiveBatch:
        """Another one in the same state, which then goes its own way. Tensors are shared."""
        other = copy.copy(self)
        other._live = copy.copy(self._live)
        other._losses, other._changes = copy.copy(self._losses), copy.copy(self._changes)
        other._plan = None  # it would commit to this one's nodes
        return other

    def __len__(self) -> int:
        return len(self._batch.pairs)

    @property
    def n_positions(self) -> int:
        return self._batch.pairs.n_positions

    # --- visiting

    def enter(self, node: Node, keep: Bool[Tensor, "sender receiver"]) -> None:
        """Make a node live, at all spans, once everything that reads it has its final edges."""
        for one in self._live.enter(node, keep):
            for port in self._base.without_switch(one):
                self._given(port).commit_vectors(self._switched_off(port))
                self._hold(port)

    # --- variants: removing edges into one receiver

    def per_prompt_now(self) -> Float[Tensor, "batch"]:
        """The metric of each prompt with everything removed that is removed for good."""
        return self._losses.exact(self._rows_of(None))[0]

    def per_prompt(
        self, receiver: Port, rows: Sequence[int], paths: Sequence[Path]
    ) -> Float[Tensor, "variant batch"]:
        """The metric of each prompt for each variant of removals of candidates from a receiver."""
        into = self._into(receiver)
        at = self._live.positions[into.column]
        change = torch.cat([self._changes.along(into, at, rows, path) for path in paths])
        result = self._plan_from(into.column).run(change[None], None)
        return self._losses.exact(self._rows_of(result, len(change)))

    def estimate_per_prompt(
        self,
        receiver: Port,
        rows: Sequence[int],
        path: Path,
        reduced: ReducedProducts,
    ) -> tuple[Float[Tensor, "variant batch"], Float[Tensor, "variant batch"]]:
        """The same by products in bfloat16, and how far off each may be, squared."""
        assert isinstance(self._losses, EstimatedLosses)  # ACDC's settings refuse other metrics
        into = self._into(receiver)
        plan, at = self._plan_from(into.column), self._live.positions[into.column]
        change = self._changes.along(into, at, rows, path)
        return self._losses.estimate(self._rows_of(plan.run(change[None], reduced), len(change)))

    def rebase(self) -> Float[Tensor, "batch"]:
        """Estimate relative to the current state from now on; returns its metric, exactly."""
        assert isinstance(self._losses, EstimatedLosses)
        return self._losses.rebase(self._rows_of(None)[0])

    def commit(self, receiver: Port, rows: Sequence[int], gone: tuple[int, ...]) -> None:
        """Remove candidates, by their place in `rows`, from a receiver for good."""
        into = self._into(receiver)
        change = self._changes.of(into, self._live.positions[into.column], rows, gone)
        self._settle(self._plan_from(into.column).commit(change[None, None]))

    def per_prompt_without_switch(self, port: Port) -> Float[Tensor, "variant batch"]:
        """The metric of each prompt when a port's vectors are the ablation run's."""
        alone, plan = self._behind(port)
        change = alone.change_of_vectors(self._switched_off(port))
        return self._losses.exact(self._rows_of(plan.run(change, None)))

    def commit_without_switch(self, port: Port) -> None:
        """Give a port the ablation run's vectors for good."""
        alone, plan = self._behind(port)
        change = alone.commit_vectors(self._switched_off(port))
        self._settle(plan.commit(change))
        self._hold(port)

    def _hold(self, port: Port) -> None:
        """Let nothing change the vectors of a port whose switch is off."""
        span, live = self._into(port).span, self._live.attention(port)
        if span is not None:  # at other spans its vectors may still change
            for slot in _slots(port):
                places = live.queries if slot == "q" else live.positions(slot)
                live.hold(slot, self._changes.where(span, places).bool())

    def _settle(self, change: Float[Tensor, "1 batch answer d_model"] | None) -> None:
        """Change for good what the output reads; every node has taken its new value already."""
        self._plan = None
        if change is not None:
            self._final = self._final + change[0]

    def _into(self, receiver: Port) -> Into:
        graph, node = self._graph, receiver.node
        column = graph.whole.column(replace(receiver, node=replace(node, span=None)))
        return Into(column, None if graph.spans is None else graph.spans.index(node.span or ""))

    def _plan_from(self, column: int) -> Plan:
        """How a change of what this port reads travels."""
        if self._plan is None or self._plan[0] != column:
            self._plan = column, self._planned([[Consumer(column)]])
        return self._plan[1]

    def _given(self, port: Port) -> AttentionStack | LayerStack:
        """What a port's node, or layer, makes of other vectors of the port."""
        return self._live.attention_with(port).given(self._live.attention(port), _slots(port))

    def _behind(self, port: Port) -> tuple[AttentionStack | LayerStack, Plan]:
        """The same, and how a change of what it writes travels."""
        alone = self._given(port)
        if self._plan is None or self._plan[0] != port:
            self._plan = port, self._planned(alone.consumers)
        return alone, self._plan[1]

    def _planned(self, begin: Sequence[Sequence[Consumer]]) -> Plan:
        like = self._final
        return Plan(self._live, begin, self._output, self._where, like.dtype, like.device)

    def _where(self, span: int, column: int) -> Float[Tensor, "batch place"]:
        """1 where a span is, else 0, at the positions that a port reads."""
        return self._changes.where(span, self._live.positions[column])

    def width(self, receiver: Port, *, is_switch: bool) -> int:
        """Numbers held per variant and prompt while removals into a receiver are evaluated."""
        if is_switch:
            return self._behind(receiver)[1].width
        return self._plan_from(self._into(receiver).column).width

    def _switched_off(self, port: Port) -> dict[Slot, Tensor]:
        """The ablation run's vectors at the port's positions, as one variant."""
        assert port.node.layer is not None
        heads, into, live = heads_of(port.node), self._into(port), self._live.attention(port)
        result: dict[Slot, Tensor] = {}
        for slot in _slots(port):
            vectors = self._batch.ablation.vectors[Site(port.node.layer, slot)]
            vectors = ungrouped(self._model.config, vectors)[heads]
            places = live.queries if slot == "q" else self._live.positions[into.column]
            off = own_at(live, slot, vectors[:, None, :, places], places, heads)
            if into.span is not None:
                here = self._changes.where(into.span, places)[:, :, None].bool()
                current = live.own[slot] if slot == "q" else live.own[slot][:, :, places]
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
