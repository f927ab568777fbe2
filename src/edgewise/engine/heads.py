"""Heads at their current value, at the positions where a kept consumer can see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.engine.plans import Change, Consumer
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


class Head:
    """A head (or all of a layer, where whole layers are nodes) at the queries that matter.

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
        self.block, self.consumers = model.blocks[layer], consumers
        self.queries, self.where = queries, where
        n_keys = int(queries.max()) + 1 if model.config.causal else base["q"].shape[1]
        self.masked = ~where.allowed[layer][:, queries, :n_keys]
        bias = where.biases[layer]
        self.bias = None if bias is None else bias[heads, ..., :n_keys]  # [head batch 1 key]
        self.read = [base[port.slots[0]][:, port.positions] for port in ports]
        everywhere = torch.arange(n_keys, device=queries.device)
        self.places: dict[Slot, Tensor] = {"q": queries, "k": everywhere, "v": everywhere}
        self.own = {
            slot: _project(self, heads, slot, base[slot][None, None, :, at], at)[:, 0]
            for slot, at in self.places.items()
        }
        self.held: dict[Slot, Bool[Tensor, "batch place"]] = {}  # by a switch that is off

    def hold(self, slot: Slot, at: Bool[Tensor, "batch place"]) -> None:
        """Leave vectors as they are from now on, at some of the slot's positions."""
        before = self.held.get(slot)
        self.held[slot] = at if before is None else before | at

    def positions(self, slot: Slot) -> Int[Tensor, "place"]:
        """Where this slot's vectors can change."""
        if slot == "q":
            return self.queries
        return next(port.positions for port in self.ports if slot in port.slots)

    def take(self, slot: Slot, vectors: Float[Tensor, "head batch _ d_head"]) -> None:
        """Have other vectors of its own, at the positions where they can change."""
        at = slice(None) if slot == "q" else self.positions(slot)
        self.own[slot][:, :, at] = vectors


class PortInputs:
    """What one port of some heads, the same of each, reads, and the vectors that it gives."""

    def __init__(self, heads: Sequence[Head], port: int) -> None:
        self._heads, self._index = tuple(heads), port
        self._port, self._at = heads[0].ports[port], together([head.heads for head in heads])
        self._read = torch.stack([head.read[port] for head in heads])

    @property
    def width(self) -> int:
        """Numbers read per variant and prompt."""
        return self._read[:, 0].numel()

    def vectors(self, more: Change) -> dict[Slot, Tensor]:
        """The vectors [head variant batch place d_head] of ports that read `more`."""
        fresh: dict[Slot, Tensor] = {}
        x = self._read[:, None] + more
        for slot in self._port.slots:
            at, seen = self._port.positions, x
            if slot == "q" and len(self._port.slots) > 1:  # a joined port reads for keys as well
                queries = torch.searchsorted(at, self._heads[0].queries)
                at, seen = self._heads[0].queries, x[:, :, :, queries]
            fresh[slot] = _project(self._heads[0], self._at, slot, seen, at)
            if any(slot in head.held for head in self._heads):
                fresh[slot] = self._kept_still(slot, fresh[slot])
        return fresh

    def commit(self, more: Change) -> None:
        """Let the heads read it from now on."""
        for head, read in zip(self._heads, self._read + more[:, 0], strict=True):
            head.read[self._index] = read

    def _kept_still(
        self, slot: Slot, fresh: Float[Tensor, "head _ batch place d_head"]
    ) -> Float[Tensor, "head _ batch place d_head"]:
        """With the current vectors where a head holds them."""
        current = torch.cat([head.own[slot] for head in self._heads])[:, None]
        if slot != "q":
            current = current[:, :, :, self._heads[0].positions(slot)]
        none = torch.zeros(fresh.shape[2:4], dtype=torch.bool, device=fresh.device)
        held = torch.stack([head.held.get(slot, none) for head in self._heads])
        held = held.repeat_interleave(len(fresh) // len(held), dim=0)
        return torch.where(held[:, None, :, :, None], current, fresh)


class AlikeHeads:
    """Heads of a layer at the same positions that mix anew from other vectors of the same slots."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._first = heads[0]
        self._vectors = {
            slot: torch.cat([head.vectors[slot] for head in heads]) for slot in heads[0].vectors
        }
        self._z = torch.cat([head.z for head in heads])
        self._pattern = torch.cat([head.pattern for head in heads])
        self._bias = _bias(heads)

    def mixed(self, fresh: Vectors) -> Float[Tensor, "head variant batch query d_head"]:
        """What they mix, given the slots' other vectors at the positions where they can change.

        When only values change, the attention pattern does not, and the change is the pattern times
        the values' change.
        """
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


def settle(heads: Sequence[Head]) -> None:
    """Bring what heads of a layer compare and mix up to date with their own vectors."""
    vectors = {}
    for slot, at in heads[0].places.items():
        own = torch.cat([head.own[slot] for head in heads])
        vectors[slot] = compared(heads[0], slot, own[:, None], at=at)[:, 0]
    n = len(heads)
    weights, z = _attend(heads[0], vectors, _bias(heads))
    parts = {slot: vector.chunk(n) for slot, vector in vectors.items()}
    for i, head in enumerate(heads):
        head.vectors = {slot: part[i] for slot, part in parts.items()}
        head.pattern, head.z = weights.chunk(n)[i], z.chunk(n)[i]


def compared(
    head: Head,
    slot: Slot,
    own: Float[Tensor, "head _ batch place d_head"],
    *,
    at: Int[Tensor, "place"],
) -> Float[Tensor, "head _ batch place d_head"]:
    """Vectors as attention compares them: of all heads of the layer if they share a norm."""
    if slot not in shared_slots(head.model):
        return own
    return _placed(head, slot, own, at=at, heads=slice(None))


def shared_slots(model: Model) -> tuple[Slot, ...]:
    """The slots whose vectors are normed over all heads of a layer (OLMo 2, OLMoE)."""
    return ("q", "k") if model.config.qk_norm == "layer" else ()


def own_at(
    head: Head,
    slot: Slot,
    vectors: Float[Tensor, "head _ batch _ d_head"],
    *,
    at: Int[Tensor, "place"],
    heads: slice | list[int],
) -> Float[Tensor, "head _ batch _ d_head"]:
    """Vectors at some positions, as attention compares them unless heads share a norm of them."""
    if shared_slots(head.model):
        return vectors
    return _placed(head, slot, vectors, at=at, heads=heads)


def together(heads: Sequence[slice]) -> slice | list[int]:
    """One index for several heads of a layer; a slice, which copies nothing, if they adjoin."""
    if len(heads) == 1:
        return heads[0]
    at = [head.start for head in heads]  # several are single heads
    if at == list(range(at[0], at[0] + len(at))):
        return slice(at[0], at[-1] + 1)
    return at


def _bias(heads: Iterable[Head]) -> Float[Tensor, "head batch 1 key"] | None:
    biases = [head.bias for head in heads if head.bias is not None]
    return torch.cat(biases) if biases else None


def _project(
    head: Head,
    heads: slice | list[int],
    slot: Slot,
    x: Float[Tensor, "_ _ batch _ d_model"],
    at: Int[Tensor, "place"],
) -> Float[Tensor, "_ _ batch _ d_head"]:
    """[node variant batch place d_model] inputs to [head variant batch place d_head] vectors."""
    extra = None
    if head.where.at_heads is not None:
        extra = head.where.at_heads[:, at].repeat(x.shape[1], 1, 1)
    vectors = head.block.vectors(slot, x.flatten(1, 2), at_heads=extra, heads=heads)
    return own_at(head, slot, vectors.unflatten(1, x.shape[1:3]), at=at, heads=heads)


def _placed(
    head: Head,
    slot: Slot,
    vectors: Float[Tensor, "head _ batch _ d_head"],
    *,
    at: Int[Tensor, "place"],
    heads: slice | list[int],
) -> Float[Tensor, "head _ batch _ d_head"]:
    rotation = head.where.rotations[head.layer]
    rotation = None if rotation is None else rotation.at(at)
    return head.block.compared(slot, vectors, rotation=rotation, heads=heads)


def _attend(
    head: Head, vectors: Mapping[Slot, Tensor], bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pattern [head … batch query key] and mixed values, any dimensions between allowed."""
    weights = head.block.pattern(vectors["q"], vectors["k"], masked=head.masked, bias=bias)
    return weights, weights @ vectors["v"]
