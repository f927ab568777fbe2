"""Active layers whose heads share denominators: a norm of what they write, or of queries and keys.

Given its denominator such a norm is linear, so a head's value changes when the head itself does, or
when the denominator does. Whatever changes in any head:

1. Vectors are computed anew for the heads whose ports read more.
2. A norm of queries or keys over all heads (OLMo 2, OLMoE): its denominator is that of all heads'
   vectors, so all queries, or keys, of the layer are other ones.
3. Heads with other vectors mix anew. The layer's sum changes by what they write.
4. A norm of what is written (Gemma 2, OLMo 2): its denominator is that of the layer's sum, so what
   every head writes is another one.

A layer is one node of the plan, with a port of each head and a sender for each head that is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.engine.heads import (
    AttentionNode,
    AttentionStack,
    PortInputs,
    Vectors,
    placed_at,
    take,
    written_by,
)
from edgewise.engine.plans import Change, Sizes
from edgewise.graph import SLOTS, Slot

Members = tuple[int, ...]  # nodes of a layer, by their index


class LayerNode:
    """The heads of a layer (or the one node that is all of them), all at the same positions."""

    def __init__(self, nodes: Sequence[AttentionNode]) -> None:
        self.nodes = tuple(nodes)
        first = nodes[0]
        ports = zip(*(node.columns for node in nodes), strict=True)
        self.columns = tuple(tuple(c for (c,) in columns) for columns in ports)
        self.like = ("attention", first.layer, ())
        config, self.block = first.model.config, first.block
        self.shared: tuple[Slot, ...] = ("q", "k") if config.qk_norm == "layer" else ()
        self.normed = config.post_norm  # what is written
        self.weight, self.gain = self.block.W_O, self.block.ln1_post.gain
        self.settle(range(len(nodes)))

    def stacked(self, nodes: Sequence[LayerNode], changed: Mapping[int, Members]) -> LayerStack:
        """The layer, when these heads' ports of each index read something new."""
        inputs = {
            i: PortInputs([self.nodes[m] for m in members], (i,)) for i, members in changed.items()
        }
        of_slot = {
            slot: members for i, members in changed.items() for slot in self.nodes[0].ports[i].slots
        }
        return LayerStack(self, of_slot, inputs)

    def changed(self, node: AttentionNode, slots: Sequence[Slot]) -> LayerStack:
        """The layer, when vectors of one of its heads are other ones."""
        member = next(i for i, head in enumerate(self.nodes) if head is node)
        return LayerStack(self, dict.fromkeys(slots, (member,)), {})

    def compared(
        self, slot: Slot, own: Float[Tensor, "head _ batch place d_head"], at: Int[Tensor, "place"]
    ) -> Float[Tensor, "head _ batch place d_head"]:
        """All heads' vectors at some positions, as attention compares them."""
        if slot not in self.shared:
            return own
        return placed_at(self.nodes[0], slot, own, at=at)

    def settle(self, members: Sequence[int]) -> None:
        """Bring what the layer compares, mixes and writes up to date with these nodes' vectors."""
        nodes = [self.nodes[m] for m in (range(len(self.nodes)) if self.shared else members)]
        vectors: dict[Slot, Tensor] = {}
        for slot, at in self.nodes[0].places.items():
            own = torch.cat([node.own[slot] for node in nodes])[:, None]
            vectors[slot] = self.compared(slot, own, at)[:, 0]
        take(nodes, vectors)
        self.z = torch.cat([node.z for node in self.nodes])
        if self.normed:
            self.total = written_by(1, self.z[:, None], self.weight)[0, 0]
            self.y = scaled(self.z, self.block.ln1_post.inverse_root(self.total))
        else:
            self.y = self.z


class LayerStack:
    """A layer in which some heads have other vectors: what it makes of them, for K variants."""

    def __init__(
        self,
        layer: LayerNode,
        changed: Mapping[Slot, Members],
        inputs: Mapping[int, PortInputs],
    ) -> None:
        """`changed`: whose vectors are other ones; `inputs`: the ports that they come from."""
        self._layer, self._first, self._port_inputs = layer, layer.nodes[0], inputs
        heads = tuple(range(len(layer.nodes)))
        self._changed = changed
        self._fresh = {slot: heads if slot in layer.shared else changed[slot] for slot in changed}
        alike: dict[tuple[Slot, ...], list[int]] = defaultdict(list)
        for member in heads:
            alike[tuple(slot for slot in SLOTS if member in self._fresh.get(slot, ()))].append(
                member
            )
        still = alike.pop((), [])
        self._groups = [
            (slots, tuple(members), AttentionStack([layer.nodes[m] for m in members], ()))
            for slots, members in alike.items()
        ]
        self._moved = tuple(m for m in heads if m not in still)
        written = heads if layer.normed else self._moved
        self._writers = tuple(m for m in written if layer.nodes[m].consumers)
        self.consumers = tuple(layer.nodes[m].consumers for m in self._writers)

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        config, n_queries = self._first.model.config, len(self._first.queries)
        read = sum(
            len(self._changed[self._first.ports[i].slots[0]]) * r.places
            for i, r in self._port_inputs.items()
        )
        vectors = (
            config.n_heads
            * config.d_head
            * sum(len(self._first.positions(s)) for s in self._changed)
        )
        scores = sum(len(members) for slots, members, _ in self._groups if slots != ("v",))
        passing = 2 * config.d_model * (read + n_queries) + 2 * vectors
        return Sizes(
            result=len(self._writers) * config.d_model * n_queries,
            passing=passing + scores * self._first.pattern[0, 0].numel(),
        )

    def change(self, more: Mapping[int, Change]) -> Change:
        """How the outputs change when ports read `more`; the nodes stay as they are."""
        return self.change_of_vectors(self._own(more))

    def change_of_vectors(self, own: Vectors) -> Change:
        """How each read head's output changes with other vectors of the heads that changed."""
        z = self._mixed(own)
        if not self._layer.normed:
            return self._out(z)
        at = self._heads(self._moved)
        moved = (z - self._layer.z[:, None])[at]
        total = self._layer.total + written_by(1, moved, self._layer.weight[at])[0]
        return self._out(scaled(z, self._layer.block.ln1_post.inverse_root(total)))

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the nodes' current value."""
        own = self._own(more)
        for index, reading in self._port_inputs.items():
            reading.commit({index: more[index]})
        return self.commit_vectors(own)

    def commit_vectors(self, own: Vectors) -> Change:
        """Take other vectors, of one variant, as current; returns how the outputs changed."""
        before = self._layer.y
        for slot, vectors in own.items():
            nodes = [self._layer.nodes[m] for m in self._changed[slot]]
            for node, part in zip(nodes, vectors[:, 0].chunk(len(nodes)), strict=True):
                whole = node.own[slot].clone()
                whole[:, :, slice(None) if slot == "q" else node.positions(slot)] = part
                node.own = {**node.own, slot: whole}
        self._layer.settle(self._moved)
        return self._out(self._layer.y[:, None], before)

    def _own(self, more: Mapping[int, Change]) -> dict[Slot, Tensor]:
        """The vectors of the heads whose ports read something new."""
        own: dict[Slot, Tensor] = {}
        for index, reading in self._port_inputs.items():
            own |= reading.vectors({index: more[index]})
        return own

    def _mixed(self, own: Vectors) -> Float[Tensor, "_ _ batch query d_head"]:
        """What all heads mix."""
        fresh = {slot: self._compared(slot, vectors) for slot, vectors in own.items()}
        variants = next(iter(own.values())).shape[1]
        z = self._layer.z[:, None].repeat(1, variants, 1, 1, 1)
        for slots, members, stack in self._groups:
            vectors = {slot: self._of(fresh[slot], self._fresh[slot], members) for slot in slots}
            z[self._heads(members)] = stack.z_of(vectors)
        return z

    def _compared(
        self, slot: Slot, own: Float[Tensor, "_ _ batch place d_head"]
    ) -> Float[Tensor, "_ _ batch place d_head"]:
        """Vectors as attention compares them: of all heads if they share a denominator."""
        if slot not in self._layer.shared:
            return own
        at = self._first.positions(slot)
        vectors = torch.cat([node.own[slot] for node in self._layer.nodes])[:, None]
        vectors = vectors if slot == "q" else vectors[:, :, :, at]
        vectors = vectors.repeat(1, own.shape[1], 1, 1, 1)
        vectors[self._heads(self._changed[slot])] = own
        return self._layer.compared(slot, vectors, at)

    def _out(
        self, y: Float[Tensor, "head _ batch query d_head"], before: Tensor | None = None
    ) -> Change:
        """How much more is written by the heads that are read."""
        at = self._heads(self._writers)
        before = self._layer.y if before is None else before
        more = y[at] - before[at][:, None]
        change = written_by(len(self._writers), more, self._layer.weight[at])
        gain = self._layer.gain
        return change if gain is None else (change * gain.to(change.device)).to(change.dtype)

    def _heads(self, members: Members) -> slice | list[int]:
        """An index for the heads of some nodes."""
        if len(members) == len(self._layer.nodes):
            return slice(None)
        return list(members)

    @staticmethod
    def _of(vectors: Tensor, members: Members, wanted: Members) -> Tensor:
        """The rows of wanted nodes among those of some."""
        return vectors if members == wanted else vectors[[members.index(m) for m in wanted]]


def scaled(
    z: Float[Tensor, "head *rows d_head"], scale: Float[Tensor, "*rows 1"]
) -> Float[Tensor, "head *rows d_head"]:
    """Mixed values over the denominator of all heads."""
    return (z.to(scale.dtype) * scale).to(z.dtype)
