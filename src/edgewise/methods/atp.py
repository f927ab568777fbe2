"""AtP* for edges: attribution patching with the query and key correction.

EAP linearises everything, the softmax of attention too; where attention is saturated its gradient
is zero although patching a query or key changes the pattern (Kramár et al. 2024, arXiv 2403.00745,
section 3.1.1). The correction computes the pattern that the patched query or key really gives, and
is linear only in what comes after it:

    score(s, r) = mean over prompts of sum over heads, queries, keys of
                  (pattern(input(r) + ablated(s) - clean(s)) - pattern) dL / d pattern

for r a query or key port. Behind a norm of all heads' queries or keys together (OLMo 2, OLMoE), one
head's moves the patterns of all, and the sum is over all heads of the layer. Edges into values,
MLPs and the output, and switches of values, are as in EAP. Two forward passes, one backward pass,
and for every sender and layer two projections.

Where we differ: the paper scores nodes, we score edges; its GradDrop against cancelling effects is
not included.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.data import PromptPairs
from edgewise.errors import SettingError
from edgewise.graph import SLOTS, Site, Slot
from edgewise.methods.gradients import (
    GradientReader,
    RemovalChanges,
    WatchedOutputs,
    check_gradient,
    edge_scores,
    run_with_gradients,
)
from edgewise.methods.method_result import MethodResult
from edgewise.methods.settings import SelectionSettings
from edgewise.model.positions import PromptPositions
from edgewise.patching import AblatedValues
from edgewise.problem import Problem
from edgewise.progress import OnProgress, Progress, ignore_progress

_MEANING = "rise of the loss if the edge were removed, to first order after attention patterns"
_BYTES = 64 * 2**20  # of patched streams alive at a time


def atp_star(
    problem: Problem, settings: SelectionSettings, on_progress: OnProgress = ignore_progress
) -> MethodResult:
    """EAP's scores, those of queries and keys by the patterns they give. Raises `MetricError`."""
    graph = problem.graph
    if not graph.split_qkv:
        raise SettingError("atp-star corrects query and key ports; use a graph with split_qkv.")
    total = torch.zeros(graph.exists.shape, dtype=torch.float64)
    steepness, done = 0.0, 0
    for pairs, ablation in problem.evaluator(graph).ablations():
        outputs = WatchedOutputs(graph)
        run = run_with_gradients(problem, pairs, outputs=outputs)
        spans = pairs.at_spans(graph.spans).to(problem.model.device)
        changes = RemovalChanges.of(run.clean, ablation)
        scores = graph.by_span(edge_scores(problem, changes, run.caught, spans=spans))
        for layer in range(graph.n_layers):
            patterns = _Patterns(problem, pairs, run.caught, outputs.mixed_gradients[layer], layer)
            for slot in ("q", "k"):
                for at, into in zip(spans, scores, strict=True):
                    patterns.correct(into, slot, change=changes.senders, ablation=ablation, at=at)
        total += graph.of_spans(scores)
        steepness, done = max(steepness, run.steepness), done + len(pairs)
        on_progress(Progress(done, len(problem.pairs), "prompts"))
    result = EdgeScores(graph, total / len(problem.pairs), "atp-star", _MEANING)
    check_gradient(problem, "atp-star", steepness)
    return MethodResult(settings.circuit(result), result)


class _Patterns:
    """What other queries or keys of a layer do to the loss, through their patterns."""

    def __init__(
        self,
        problem: Problem,
        pairs: PromptPairs,
        caught: GradientReader,
        mixed: Float[Tensor, "head batch pos d_head"],
        layer: int,
    ) -> None:
        model, self._graph, self._layer = problem.model, problem.graph.whole, layer
        self._block = model.blocks[layer]
        self._positions = PromptPositions(model, pairs.real.to(model.device))
        self._read = caught.inputs[Site(layer, "q")]
        self._vectors = {slot: caught.vectors[Site(layer, slot)] for slot in SLOTS}
        value = self._block.ungrouped(self._vectors["v"])
        self._slope = mixed @ value.transpose(-1, -2)  # dL / d pattern
        self._pattern = self._block.patterns(
            self._vectors["q"], self._vectors["k"], self._positions
        )

    def correct(
        self,
        scores: Float[Tensor, "_sender _receiver"],
        slot: Slot,
        *,
        change: Float[Tensor, "sender batch pos d_model"],
        ablation: AblatedValues,
        at: Bool[Tensor, "batch pos"],
    ) -> None:
        """Write the corrected scores of the queries or keys at one span into `scores`."""
        graph, site = self._graph, Site(self._layer, slot)
        columns, n = graph.columns[site], graph.row[graph.attention_nodes[self._layer][0]]
        scores[:n, columns] = self.of_senders(slot, change[:n] * at[:, :, None])
        if graph.switches:
            vectors = torch.where(at[:, :, None], ablation.vectors[site], self._vectors[slot])
            effect = self.of_vectors(slot, vectors[:, None])[0]
            effect = effect if graph.split_heads else effect.sum()[None]
            own = graph.is_switch[:, columns]
            scores[:, columns] = torch.where(own, effect, scores[:, columns])

    def of_senders(
        self, slot: Slot, change: Float[Tensor, "sender batch pos d_model"]
    ) -> Float[Tensor, "sender port"]:
        """The effect of each sender's change on each head's port."""
        bytes_each = change[0].numel() * change.element_size() * 4
        parts = []
        for part in change.split(max(1, _BYTES // bytes_each)):
            x = (self._read + part).flatten(0, 1)[None]
            at_heads = self._positions.at_heads
            if at_heads is not None:
                at_heads = at_heads.repeat(len(part), 1, 1)
            # A port of each head's own, even where keys are shared, unless the graph shares them.
            heads = slice(None) if self._graph.kv_heads is None else None
            vectors = self._block.vectors(slot, x, at_heads=at_heads, heads=heads)
            parts.append(self.of_vectors(slot, vectors.unflatten(1, part.shape[:2])))
        effects = torch.cat(parts)
        return effects if self._graph.split_heads else effects.sum(dim=1, keepdim=True)

    def of_vectors(
        self, slot: Slot, vectors: Float[Tensor, "head sender batch pos d_head"]
    ) -> Float[Tensor, "sender head"]:
        """The effect of other vectors of each head, in float64 on the CPU."""
        if self._block.config.qk_norm == "layer" and self._graph.split_heads:
            return torch.cat([self._alone(slot, vectors, port) for port in range(len(vectors))], 1)
        current = {name: vector[:, None] for name, vector in self._vectors.items()}
        current[slot] = vectors
        patterns = self._block.patterns(current["q"], current["k"], self._positions)
        moved = patterns - self._pattern[:, None]
        effects = (moved * self._slope[:, None]).sum(dim=(2, 3, 4))
        if len(vectors) < len(effects):  # a shared key moves the patterns of its whole group
            effects = effects.unflatten(0, (len(vectors), -1)).sum(dim=1)
        return effects.T.double().cpu()

    def _alone(
        self, slot: Slot, vectors: Float[Tensor, "head sender batch pos d_head"], port: int
    ) -> Float[Tensor, "sender 1"]:
        """The effect of other vectors of one head, whose norm is that of all heads together."""
        query, key = (self._vectors[name][:, None] for name in ("q", "k"))
        all_heads = (query if slot == "q" else key).repeat(1, vectors.shape[1], 1, 1, 1)
        all_heads[port] = vectors[port]
        pair = (all_heads, key) if slot == "q" else (query, all_heads)
        patterns = self._block.patterns(*pair, self._positions)
        effects = ((patterns - self._pattern[:, None]) * self._slope[:, None]).sum(dim=(0, 2, 3, 4))
        return effects[:, None].double().cpu()
