"""Active attention: heads that are computed together, and what they write when they read more.

A node is a head, or the heads of a layer that share a denominator: a norm of what they write, or of
queries and keys. Given its denominator such a norm is linear, so a head's value changes when the
head itself does, or when the denominator does. Whatever changes in any head:

1. Vectors are computed anew for the heads whose ports read more.
2. A norm of queries or keys over all heads (OLMo 2, OLMoE): its denominator is that of all heads'
   vectors, so all queries, or keys, of the layer are other ones.
3. Heads with other vectors mix anew. The layer's sum changes by what they write.
4. A norm of what is written (Gemma 2, OLMo 2): its denominator is that of the layer's sum, so what
   every head writes is another one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.heads import (
    AlikeHeads,
    Head,
    PortInputs,
    Vectors,
    compared,
    settle,
    shared_slots,
    together,
)
from edgewise.engine.plans import Change, Sizes
from edgewise.graph import SLOTS, Slot

Members = tuple[int, ...]  # heads of a node or stack, by their index


class AttentionNode:
    """A head, or the heads of a layer that share a denominator, at the same positions."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = tuple(heads)
        ports = zip(*(head.ports for head in heads), strict=True)
        self.columns = tuple(tuple(port.column for port in alike) for alike in ports)
        self.like = ("attention", heads[0].layer, tuple(heads[0].queries.tolist()))
        settle(self.heads)

    def stacked(
        self, nodes: Sequence[AttentionNode], changed: Mapping[int, Members]
    ) -> AttentionStack:
        """These nodes, alike this one, when the ports of these heads read something new."""
        n, heads = len(self.heads), [head for node in nodes for head in node.heads]
        inputs: dict[int, PortInputs] = {}
        slots: dict[Slot, Members] = {}
        for port, members in changed.items():
            chosen = tuple(n * i + member for i in range(len(nodes)) for member in members)
            inputs[port] = PortInputs([heads[member] for member in chosen], port)
            slots |= dict.fromkeys(heads[0].ports[port].slots, chosen)
        return AttentionStack(heads, slots, inputs)

    def changed(self, head: Head, slots: Sequence[Slot]) -> AttentionStack:
        """The node, when vectors of one of its heads are other ones."""
        return AttentionStack(self.heads, dict.fromkeys(slots, (self.heads.index(head),)), {})


class AttentionStack:
    """Heads of a layer, some of which have other vectors: what they make of them, for K variants.

    They are all heads of their nodes: where heads share a denominator, all of the layer.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        changed: Mapping[Slot, Members],
        inputs: Mapping[int, PortInputs],
    ) -> None:
        """`changed`: whose vectors are other ones; `inputs`: the ports that they come from."""
        self._heads, self._first, self._inputs = tuple(heads), heads[0], inputs
        self._config, self._changed = heads[0].model.config, changed
        whole, shared = tuple(range(len(heads))), shared_slots(heads[0].model)
        self._fresh = {slot: whole if slot in shared else changed[slot] for slot in changed}
        alike: dict[tuple[Slot, ...], list[int]] = defaultdict(list)
        for member in whole:
            slots = tuple(slot for slot in SLOTS if member in self._fresh.get(slot, ()))
            alike[slots].append(member)
        alike.pop((), None)
        self._groups = [
            (slots, tuple(members), AlikeHeads([heads[m] for m in members]))
            for slots, members in alike.items()
        ]
        self._moved = tuple(member for members in alike.values() for member in members)
        self._settled = whole if shared else self._moved
        written = whole if self._config.post_norm else self._moved
        self._writers = tuple(member for member in written if heads[member].consumers)
        self.consumers = tuple(heads[member].consumers for member in self._writers)
        self._weight, self._norm = self._first.block.W_O, self._first.block.ln1_post
        self._gain = self._norm.gain  # None: what is written is not normed
        self._written = self._rows(self._writers)
        at = together([heads[member].heads for member in self._writers]) if self._writers else []
        self._weight_of_writers = self._weight[at]
        self._note()

    def _note(self) -> None:
        """Note what the heads mix now, and what of it they write."""
        self._z = self._y = torch.cat([head.z for head in self._heads])
        if self._gain is not None:
            self._total = written_by(1, self._z[:, None], self._weight)[0, 0]
            self._y = scaled(self._z, self._norm.inverse_root(self._total))

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        d_model, n_queries = self._config.d_model, len(self._first.queries)
        read = sum(reading.width for reading in self._inputs.values())
        if self._config.post_norm:
            read += d_model * n_queries
        scores = sum(len(members) for slots, members, _ in self._groups if slots != ("v",))
        return Sizes(
            result=len(self._writers) * d_model * n_queries,
            passing=2 * read + scores * self._first.pattern[0, 0].numel(),
        )

    def change(self, more: Mapping[int, Change]) -> Change:
        """How the outputs change when ports read `more`; the heads stay as they are."""
        return self.change_of_vectors(self._own(more))

    def change_of_vectors(self, own: Vectors) -> Change:
        """How the outputs change with other vectors of the heads that changed."""
        z = self._mixed(own)
        if self._gain is None:
            y = _chosen(z, self._moved, self._writers)
        else:
            at = self._rows(self._moved)
            moved = z - self._z[at][:, None]
            total = self._total + written_by(1, moved, self._weight[at])[0]
            whole = self._z[:, None].repeat(1, z.shape[1], 1, 1, 1)
            whole[at] = z
            y = scaled(whole, self._norm.inverse_root(total))[self._written]
        return self._out(y - self._y[self._written][:, None])

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the heads' current value."""
        own = self._own(more)
        for port, reading in self._inputs.items():
            reading.commit(more[port])
        return self.commit_vectors(own)

    def commit_vectors(self, own: Vectors) -> Change:
        """Take other vectors, of one variant, as current; returns how the outputs changed."""
        for slot, vectors in own.items():
            members = self._changed[slot]
            for member, part in zip(members, vectors[:, 0].chunk(len(members)), strict=True):
                self._heads[member].take(slot, part)
        settle([self._heads[member] for member in self._settled])
        before = self._y
        self._note()
        return self._out((self._y - before)[self._written][:, None])

    def _own(self, more: Mapping[int, Change]) -> dict[Slot, Tensor]:
        """The vectors of the heads whose ports read something new."""
        own: dict[Slot, Tensor] = {}
        for port, reading in self._inputs.items():
            own |= reading.vectors(more[port])
        return own

    def _mixed(self, own: Vectors) -> Float[Tensor, "_ _ batch query d_head"]:
        """What the heads mix that have other vectors, or share their norm."""
        fresh = {slot: self._compared(slot, vectors) for slot, vectors in own.items()}
        parts = [
            alike.mixed({s: _chosen(fresh[s], self._fresh[s], members) for s in slots})
            for slots, members, alike in self._groups
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _compared(
        self, slot: Slot, own: Float[Tensor, "_ _ batch place d_head"]
    ) -> Float[Tensor, "_ _ batch place d_head"]:
        """Vectors as attention compares them: of all heads if they share a denominator."""
        if slot not in shared_slots(self._first.model):
            return own
        at = self._first.positions(slot)
        vectors = torch.cat([head.own[slot] for head in self._heads])[:, None]
        vectors = vectors if slot == "q" else vectors[:, :, :, at]
        vectors = vectors.repeat(1, own.shape[1], 1, 1, 1)
        vectors[self._rows(self._changed[slot])] = own
        return compared(self._first, slot, vectors, at=at)

    def _out(self, more: Float[Tensor, "head _ batch query d_head"]) -> Change:
        """What the heads that are read write more, if this is what they mix more."""
        change = written_by(len(self._writers), more, self._weight_of_writers)
        if self._gain is None:
            return change
        return (change * self._gain.to(change.device)).to(change.dtype)

    def _rows(self, members: Members) -> slice | list[int]:
        """Where the values of some heads are among those of all."""
        return slice(None) if members == tuple(range(len(self._heads))) else list(members)


def written_by(
    n: int,
    z: Float[Tensor, "head variant batch query d_head"],
    weight: Float[Tensor, "head d_head d_model"],
) -> Change:
    """What n nodes write, single heads or one that is all of them; made where the weight lies."""
    home, z, weight = z.device, z.to(weight.device), weight.to(z.dtype)
    if len(weight) == n:
        return (z.flatten(1, 3) @ weight).unflatten(1, z.shape[1:4]).to(home)
    flat = z.permute(1, 2, 3, 0, 4).flatten(3) @ weight.flatten(0, 1)  # all heads are one node
    return flat[None].to(home)


def scaled(
    z: Float[Tensor, "head *rows d_head"], scale: Float[Tensor, "*rows 1"]
) -> Float[Tensor, "head *rows d_head"]:
    """Mixed values over the denominator of all heads."""
    return (z.to(scale.dtype) * scale).to(z.dtype)


def _chosen(vectors: Tensor, members: Members, chosen: Members) -> Tensor:
    """The rows of some heads, which are among `members`."""
    if members == chosen:
        return vectors
    return vectors[[members.index(member) for member in chosen]]
