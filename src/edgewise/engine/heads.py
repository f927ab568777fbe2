"""Active attention: heads at their current value, and stacks of them that are computed together.

Each stack answers one question for K variants at once: if my ports read so much more, how much more
does each of my nodes write? Values are kept only at the positions where a kept consumer can see
them. Heads that share a norm are stacked in layers.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.engine.plans import Change, Consumer, Sizes
from edgewise.graph import Slot
from edgewise.model import Model
from edgewise.model.positions import PromptPositions

Vectors = Mapping[Slot, Float[Tensor, "head _ batch _ d_head"]]  # [head variant batch place d_head]


@dataclass(frozen=True, eq=False)
class HeadPort:
    """A port of a head: where it reads, and which vectors are computed from that."""

    column: int
    slots: tuple[Slot, ...]
    positions: Int[Tensor, "place"]


class AttentionNode:
    """A head (or a whole attention layer) at the query positions that matter.

    Keys and values are kept at every position up to the last query.
    """

    own: dict[Slot, Tensor]  # [head batch place d_head]: what its ports make of what they read
    vectors: dict[Slot, Tensor]  # as attention compares them: its own, unless heads share a norm
    pattern: Tensor  # [head batch query key]
    z: Tensor  # [head batch query d_head]

    def __init__(
        self,
        model: Model,
        layer: int,
        heads: slice,
        *,
        ports: tuple[HeadPort, ...],
        consumers: tuple[Consumer, ...],
        queries: Int[Tensor, "query"],
        base: Mapping[Slot, Float[Tensor, "batch pos d_model"]],
        where: PromptPositions,
    ) -> None:
        self.model, self.layer, self.heads, self.ports = model, layer, heads, ports
        self.block = model.blocks[layer]
        self.columns = tuple((port.column,) for port in ports)
        self.consumers = consumers
        self.queries, self.where = queries, where
        self.like = ("attention", layer, tuple(queries.tolist()))
        n_keys = int(queries.max()) + 1 if model.config.causal else base["q"].shape[1]
        self.masked = ~where.allowed[layer][:, queries, :n_keys]
        bias = where.bias(layer, heads)
        self.bias = None if bias is None else bias[..., :n_keys]  # [head batch 1 key]
        self.read = tuple(base[port.slots[0]][:, port.positions] for port in ports)
        everywhere = torch.arange(n_keys, device=queries.device)
        self.places: dict[Slot, Tensor] = {"q": queries, "k": everywhere, "v": everywhere}
        self.own = {
            slot: _project(self, heads, slot, base[slot][None, None, :, at], at)[:, 0]
            for slot, at in self.places.items()
        }
        self.held: dict[Slot, Bool[Tensor, "batch place"]] = {}  # by a switch that is off
        if model.config.qk_norm != "layer":  # or the layer says what attention compares
            take([self], self.own)

    def hold(self, slot: Slot, at: Bool[Tensor, "batch place"]) -> None:
        """Leave vectors as they are from now on, at some of the slot's positions."""
        before = self.held.get(slot)
        self.held = {**self.held, slot: at if before is None else before | at}

    def positions(self, slot: Slot) -> Int[Tensor, "place"]:
        """Where this slot's vectors can change."""
        if slot == "q":
            return self.queries
        return next(port.positions for port in self.ports if slot in port.slots)

    def stacked(
        self, nodes: Sequence[AttentionNode], changed: Mapping[int, tuple[int, ...]]
    ) -> AttentionStack:
        """These nodes, alike this one, when the ports of these indices read something new."""
        return AttentionStack(nodes, tuple(changed))

    def changed(self, node: AttentionNode, slots: Sequence[Slot]) -> AttentionStack:
        """The node, when vectors of it are other ones."""
        return AttentionStack([self], ())


class PortInputs:
    """What ports of some nodes, the same of each, read, and the vectors that it gives."""

    def __init__(self, nodes: Sequence[AttentionNode], ports: Sequence[int]) -> None:
        self._nodes, self._first = tuple(nodes), nodes[0]
        self._ports = {index: self._first.ports[index] for index in ports}
        self._heads = _together([node.heads for node in nodes])
        self._read = {i: torch.stack([node.read[i] for node in nodes]) for i in ports}

    @property
    def places(self) -> int:
        """Positions that are read, all ports of a node together."""
        return sum(len(port.positions) for port in self._ports.values())

    def vectors(self, more: Mapping[int, Change]) -> dict[Slot, Tensor]:
        """The vectors [head variant batch place d_head] of ports that read `more`."""
        fresh: dict[Slot, Tensor] = {}
        for index, port in self._ports.items():
            x = self._read[index][:, None] + more[index]
            for slot in port.slots:
                at, seen = port.positions, x
                if slot == "q" and len(port.slots) > 1:  # a joined port reads for keys as well
                    queries = torch.searchsorted(at, self._first.queries)
                    at, seen = self._first.queries, x[:, :, :, queries]
                fresh[slot] = _project(self._first, self._heads, slot, seen, at)
                if any(slot in node.held for node in self._nodes):
                    fresh[slot] = self._kept_still(slot, fresh[slot])
        return fresh

    def commit(self, more: Mapping[int, Change]) -> None:
        """Let the nodes read it from now on."""
        for index, part in more.items():
            moved = self._read[index] + part[:, 0]
            for node, read in zip(self._nodes, moved, strict=True):
                node.read = (*node.read[:index], read, *node.read[index + 1 :])

    def _kept_still(
        self, slot: Slot, fresh: Float[Tensor, "head _ batch place d_head"]
    ) -> Float[Tensor, "head _ batch place d_head"]:
        """With the current vectors where a node holds them."""
        current = torch.cat([node.own[slot] for node in self._nodes])[:, None]
        if slot != "q":
            current = current[:, :, :, self._first.positions(slot)]
        none = torch.zeros(fresh.shape[2:4], dtype=torch.bool, device=fresh.device)
        held = torch.stack([node.held.get(slot, none) for node in self._nodes])
        held = held.repeat_interleave(len(fresh) // len(held), dim=0)
        return torch.where(held[:, None, :, :, None], current, fresh)


class AttentionStack:
    """Nodes of a layer, active at the same positions, and the same of whose ports read more.

    When only values change, the attention pattern does not, and the change is the pattern times the
    values' change.
    """

    def __init__(self, nodes: Sequence[AttentionNode], ports: Sequence[int]) -> None:
        self._nodes, self._first = tuple(nodes), nodes[0]
        self.consumers = tuple(node.consumers for node in nodes)
        self._inputs = PortInputs(nodes, ports)
        self._heads = _together([node.heads for node in nodes])
        self._vectors = {
            slot: torch.cat([node.vectors[slot] for node in nodes]) for slot in self._first.vectors
        }
        self._z = torch.cat([node.z for node in nodes])
        self._pattern = torch.cat([node.pattern for node in nodes])
        self._bias = _bias(nodes)

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        rows = len(self._nodes) * self._first.model.config.d_model
        passing = 2 * rows * self._inputs.places
        return Sizes(result=rows * len(self._first.queries), passing=passing)

    def change(self, more: Mapping[int, Change]) -> Change:
        """How each node's output changes when ports read `more`; the nodes stay as they are."""
        return self.change_of_vectors(self._inputs.vectors(more))

    def change_of_vectors(self, fresh: Vectors) -> Change:
        """How each node's output changes with other vectors at their slots' positions."""
        return self._out(self.z_of(fresh) - self._z[:, None])

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the nodes' current value."""
        fresh = self._inputs.vectors(more)
        self._inputs.commit(more)
        return self.commit_vectors(fresh)

    def commit_vectors(self, fresh: Vectors) -> Change:
        """Take other vectors, of one variant, as current; returns how the outputs changed."""
        vectors = {slot: vector[:, 0] for slot, vector in self._filled(fresh).items()}
        z = take(self._nodes, vectors)
        for node in self._nodes:
            node.own = node.vectors
        return self._out((z - self._z)[:, None])

    def z_of(self, fresh: Vectors) -> Float[Tensor, "head variant batch query d_head"]:
        """What heads mix from vectors of which some are other ones, at their slots' positions."""
        if set(fresh) == {"v"}:
            at = self._first.positions("v")
            moved = fresh["v"] - self._vectors["v"][:, None, :, at]
            head, variant, batch, place, d_head = moved.shape
            # One product for all variants: they share the pattern.
            wide = moved.permute(0, 2, 3, 1, 4).reshape(head, batch, place, variant * d_head)
            z = (self._pattern[..., at] @ wide).unflatten(-1, (variant, d_head))
            return self._z[:, None] + z.permute(0, 3, 1, 2, 4)
        if set(fresh) == {"q"}:
            query = fresh["q"]
            head, variant, batch, place, d_head = query.shape
            tall = (query * self._first.block.scale).transpose(1, 2)
            tall = tall.reshape(head, batch, variant * place, d_head)
            scores = (tall @ self._vectors["k"].transpose(-1, -2)).unflatten(2, (variant, place))
            masked = self._first.masked[None, :, None]
            bias = None if self._bias is None else self._bias[:, :, None]
            weights = self._first.block.weighted(scores, masked, bias=bias)
            z = weights.flatten(2, 3) @ self._vectors["v"]
            return z.unflatten(2, (variant, place)).transpose(1, 2)
        bias = None if self._bias is None else self._bias[:, None]
        return _attend(self._first, self._filled(fresh), bias)[1]

    def _filled(self, fresh: Vectors) -> dict[Slot, Tensor]:
        """Current vectors with the fresh ones in place, [head variant batch place d_head]."""
        variants = next(iter(fresh.values())).shape[1]
        result: dict[Slot, Tensor] = {}
        for slot, current in self._vectors.items():
            if slot not in fresh:
                result[slot] = current[:, None]
            elif slot == "q":
                result[slot] = fresh[slot]
            else:
                whole = current[:, None].repeat(1, variants, 1, 1, 1)
                whole[:, :, :, self._first.positions(slot)] = fresh[slot]
                result[slot] = whole
        return result

    def _out(self, z: Float[Tensor, "head variant batch query d_head"]) -> Change:
        """What each node writes: the sum over its heads, [node variant batch query d_model]."""
        return written_by(len(self._nodes), z, self._first.block.W_O[self._heads])


def written_by(
    n: int,
    z: Float[Tensor, "head variant batch query d_head"],
    weight: Float[Tensor, "head d_head d_model"],
) -> Change:
    """What n nodes write, single heads or one that is all of them; made where the weight lies."""
    home, z = z.device, z.to(weight.device)
    if len(weight) == n:
        return (z.flatten(1, 3) @ weight).unflatten(1, z.shape[1:4]).to(home)
    flat = z.permute(1, 2, 3, 0, 4).flatten(3) @ weight.flatten(0, 1)  # all heads are one node
    return flat[None].to(home)


def take(nodes: Sequence[AttentionNode], vectors: Mapping[Slot, Tensor]) -> Tensor:
    """Let nodes of a layer hold these vectors and what they give; returns what the heads mix."""
    n = len(nodes)
    pattern, z = _attend(nodes[0], vectors, _bias(nodes))
    parts = {slot: vector.chunk(n) for slot, vector in vectors.items()}
    for i, node in enumerate(nodes):
        node.vectors = {slot: part[i] for slot, part in parts.items()}
        node.pattern, node.z = pattern.chunk(n)[i], z.chunk(n)[i]
    return z


def _bias(nodes: Iterable[AttentionNode]) -> Float[Tensor, "head batch 1 key"] | None:
    biases = [node.bias for node in nodes if node.bias is not None]
    return torch.cat(biases) if biases else None


def _project(
    node: AttentionNode,
    heads: slice | list[int],
    slot: Slot,
    x: Float[Tensor, "_ _ batch _ d_model"],
    at: Int[Tensor, "place"],
) -> Float[Tensor, "_ _ batch _ d_head"]:
    """[node variant batch place d_model] inputs to [head variant batch place d_head] vectors."""
    extra = None
    if node.where.at_heads is not None:
        extra = node.where.at_heads[:, at].repeat(x.shape[1], 1, 1)
    vectors = node.block.vectors(slot, x.flatten(1, 2), at_heads=extra, heads=heads)
    return own_at(node, slot, vectors.unflatten(1, x.shape[1:3]), at=at, heads=heads)


def own_at(
    node: AttentionNode,
    slot: Slot,
    vectors: Float[Tensor, "head _ batch _ d_head"],
    *,
    at: Int[Tensor, "place"],
    heads: slice | list[int],
) -> Float[Tensor, "head _ batch _ d_head"]:
    """Vectors at some positions, as attention compares them unless heads share a norm of them."""
    if node.model.config.qk_norm == "layer":
        return vectors
    return placed_at(node, slot, vectors, at=at, heads=heads)


def placed_at(
    node: AttentionNode,
    slot: Slot,
    vectors: Float[Tensor, "head _ batch _ d_head"],
    *,
    at: Int[Tensor, "place"],
    heads: slice | list[int] = slice(None),
) -> Float[Tensor, "head _ batch _ d_head"]:
    """Vectors of some heads, or all, at some positions as attention compares them."""
    rotation = node.where.rotations[node.layer]
    rotation = None if rotation is None else rotation.at(at)
    return node.block.compared(slot, vectors, rotation=rotation, heads=heads)


def _attend(
    node: AttentionNode, vectors: Mapping[Slot, Tensor], bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pattern [head … batch query key] and mixed values, any dimensions between allowed."""
    weights = node.block.pattern(vectors["q"], vectors["k"], masked=node.masked, bias=bias)
    return weights, weights @ vectors["v"]


def _together(heads: Sequence[slice]) -> slice | list[int]:
    """One index for the heads of several nodes; a slice, which copies nothing, if they adjoin."""
    if len(heads) == 1:
        return heads[0]
    at = [head.start for head in heads]  # several nodes of a layer are single heads
    if at == list(range(at[0], at[0] + len(at))):
        return slice(at[0], at[-1] + 1)
    return at
