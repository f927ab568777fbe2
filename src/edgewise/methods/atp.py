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

from edgewise.errors import SettingError
from edgewise.graph import SLOTS, Site, Slot
from edgewise.methods.eap import MEANING, attributed
from edgewise.methods.gradients import RemovalChanges, WatchedRun, edge_scores
from edgewise.methods.method_result import MethodResult
from edgewise.methods.session import QUIET, Session
from edgewise.methods.settings import SelectionSettings
from edgewise.model.positions import PromptPositions
from edgewise.problem import Problem

_MEANING = f"{MEANING} after attention patterns"
_BYTES = 64 * 2**20  # of patched streams alive at a time


def atp_star(
    problem: Problem, settings: SelectionSettings, session: Session = QUIET
) -> MethodResult:
    """EAP's scores, those of queries and keys by the patterns they give. Raises `MetricError`."""
    if not problem.graph.split_qkv:
        raise SettingError("atp-star corrects query and key ports; use a graph with split_qkv.")
    return attributed(
        problem, settings, session, method="atp-star", scores_of=_corrected, meaning=_MEANING
    )


def _corrected(
    problem: Problem, watched: WatchedRun, changes: RemovalChanges
) -> Float[Tensor, "sender port"]:
    """EAP's scores of a micro-batch, summed over prompts; those of queries and keys corrected."""
    graph = problem.graph
    scores = graph.by_span(edge_scores(problem, watched, changes))
    for layer in range(graph.n_layers):
        patterns = _Patterns(problem, watched, layer)
        for slot in ("q", "k"):
            for at, into in zip(watched.spans, scores, strict=True):
                patterns.correct(into, slot, change=changes.senders, at=at)
                if graph.switches:
                    vectors = changes.ablation.vectors[Site(layer, slot)]
                    patterns.correct_switches(into, slot, ablated=vectors, at=at)
    return graph.of_spans(scores)


class _Patterns:
    """What other queries or keys of a layer do to the loss, through their patterns."""

    def __init__(self, problem: Problem, watched: WatchedRun, layer: int) -> None:
        model = problem.model
        self._graph = problem.graph.whole
        self._layer = layer
        self._block = model.blocks[layer]
        self._positions = PromptPositions(model, watched.pairs.real.to(model.device))
        self._read = watched.inputs[layer]
        self._vectors = {slot: watched.vectors[Site(layer, slot)] for slot in SLOTS}
        value = self._block.ungrouped(self._vectors["v"])
        self._slope = watched.mixed_gradients[layer] @ value.transpose(-1, -2)  # dL / d pattern
        self._pattern = self._block.patterns(
            self._vectors["q"], self._vectors["k"], self._positions
        )

    def correct(
        self,
        scores: Float[Tensor, "_sender _receiver"],
        slot: Slot,
        *,
        change: Float[Tensor, "sender batch pos d_model"],
        at: Bool[Tensor, "batch pos"],
    ) -> None:
        """Write the effects of senders on the queries or keys at one span into `scores`."""
        columns = self._graph.columns[Site(self._layer, slot)]
        n = self._graph.row[self._graph.attention_nodes[self._layer][0]]  # senders before the layer
        change = change[:n] * at[:, :, None]
        bytes_each = change[0].numel() * change.element_size() * 4
        parts = change.split(max(1, _BYTES // bytes_each))
        scores[:n, columns] = torch.cat([self._of_senders(slot, part) for part in parts])

    def correct_switches(
        self,
        scores: Float[Tensor, "_sender _receiver"],
        slot: Slot,
        *,
        ablated: Float[Tensor, "head batch pos d_head"],
        at: Bool[Tensor, "batch pos"],
    ) -> None:
        """Write the effects of the heads' own switches at one span into `scores`."""
        columns = self._graph.columns[Site(self._layer, slot)]
        vectors = torch.where(at[:, :, None], ablated, self._vectors[slot])
        effect = self._of_vectors(slot, vectors[:, None])[0]
        own = self._graph.is_switch[:, columns]
        scores[:, columns] = torch.where(own, effect, scores[:, columns])

    def _of_senders(
        self, slot: Slot, change: Float[Tensor, "sender batch pos d_model"]
    ) -> Float[Tensor, "sender port"]:
        """The effect of each sender's change on each port."""
        at_heads = self._positions.at_heads
        if at_heads is not None:
            at_heads = at_heads.repeat(len(change), 1, 1)
        # A port of each head's own, even where keys are shared, unless the graph shares them.
        heads = slice(None) if self._graph.kv_heads is None else None
        x = (self._read + change).flatten(0, 1)[None]
        vectors = self._block.vectors(slot, x, at_heads=at_heads, heads=heads)
        return self._of_vectors(slot, vectors.unflatten(1, change.shape[:2]))

    def _of_vectors(
        self, slot: Slot, vectors: Float[Tensor, "head sender batch pos d_head"]
    ) -> Float[Tensor, "sender port"]:
        """The effect of other vectors of each port, in float64 on the CPU."""
        if not self._graph.split_heads:
            return self._moved(slot, vectors).sum(dim=0)[:, None]
        if self._block.config.qk_norm != "layer":
            effects = self._moved(slot, vectors)
            # A shared key moves the patterns of its whole group.
            return effects.unflatten(0, (len(vectors), -1)).sum(dim=1).T
        of_heads = []  # one norm of all heads together: each moves the patterns of all
        for head, vector in enumerate(vectors):
            all_heads = self._vectors[slot][:, None].repeat(1, len(vector), 1, 1, 1)
            all_heads[head] = vector
            of_heads.append(self._moved(slot, all_heads).sum(dim=0))
        return torch.stack(of_heads, dim=1)

    def _moved(
        self, slot: Slot, vectors: Float[Tensor, "head sender batch pos d_head"]
    ) -> Float[Tensor, "query_head sender"]:
        """What the patterns of each query head do to the loss with other queries or keys."""
        current = {name: vector[:, None] for name, vector in self._vectors.items()}
        current[slot] = vectors
        patterns = self._block.patterns(current["q"], current["k"], self._positions)
        moved = patterns - self._pattern[:, None]
        return (moved * self._slope[:, None]).sum(dim=(2, 3, 4)).double().cpu()
