"""Live nodes: the nodes whose output still matters, kept at their current value.

Each answers one question for K variants at once: if my ports read so much more, how much more do I
write? Values are kept only at the positions where a kept consumer can see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.engine.reduced import ReducedProducts
from edgewise.graph import Slot
from edgewise.model.runtime import (
    Transformer,
    activation,
    head_vectors,
    mlp_hidden,
    mlp_output,
    norm,
)

Change = Float[
    Tensor, "_ batch _ d_model"
]  # [variant batch place d_model], at a port's or a node's own positions


# Hidden layers of more rows leave a CPU's caches, in memory fresh each time: half the speed.
_ROWS_AT_A_TIME = {"cpu": 512}


@dataclass(frozen=True)
class Consumer:
    """A port that a kept edge feeds, and which of the sender's positions it reads."""

    column: int
    places: Int[Tensor, "place"]


@runtime_checkable
class LiveNode(Protocol):
    """A node at its current value. Columns are those of its ports in the graph."""

    columns: frozenset[int]
    consumers: tuple[Consumer, ...]

    def change(
        self, pending: Mapping[int, Change], reduced: ReducedProducts | None = None
    ) -> Change:
        """How the output changes when ports read `pending` more; the node stays as it is.

        With `reduced`, changes are multiplied in bfloat16: an estimate.
        """
        ...

    def commit(self, pending: Mapping[int, Change]) -> Change:
        """The same for one variant, which becomes the node's current value."""
        ...


class MlpNode:
    """An MLP at the positions that matter."""

    def __init__(
        self,
        model: Transformer,
        layer: int,
        column: int,
        consumers: tuple[Consumer, ...],
        read: Float[Tensor, "batch place d_model"],
    ) -> None:
        self._model, self._layer, self._column = model, layer, column
        self.columns, self.consumers = frozenset((column,)), consumers
        self._read = read
        self._wrote = mlp_output(model, layer, read)
        self._inner: tuple[Tensor, Tensor, Tensor] | None = None  # for estimates

    def change(
        self, pending: Mapping[int, Change], reduced: ReducedProducts | None = None
    ) -> Change:
        more = pending[self._column]
        result = torch.empty_like(more)
        rows = more.shape[1] * more.shape[2]
        step = max(1, _ROWS_AT_A_TIME.get(more.device.type, more.numel()) // rows)
        for some, out in zip(more.split(step), result.split(step), strict=True):
            out.copy_(self._change(some) if reduced is None else self._estimate(some, reduced))
        return result

    def _change(self, more: Change) -> Change:
        x = self._read + more
        flat = mlp_output(self._model, self._layer, x.flatten(0, 1))
        return flat.unflatten(0, x.shape[:2]) - self._wrote

    def _estimate(self, more: Change, reduced: ReducedProducts) -> Change:
        x, at, act = self._read + more, f"blocks.{self._layer}", activation(self._model)
        normed, hidden, active = self._inner_values()
        moved = norm(self._model, f"{at}.ln2", x).sub_(normed)
        moved_hidden = reduced.times(moved, f"{at}.mlp.W_in").add_(hidden)
        return reduced.times(act(moved_hidden).sub_(active), f"{at}.mlp.W_out")

    def _inner_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """The current normed input, and the hidden layer before and after its activation."""
        if self._inner is None:
            normed = norm(self._model, f"blocks.{self._layer}.ln2", self._read)
            hidden = mlp_hidden(self._model, self._layer, normed)
            self._inner = normed, hidden, activation(self._model)(hidden)
        return self._inner

    def commit(self, pending: Mapping[int, Change]) -> Change:
        self._read = self._read + pending[self._column][0]
        wrote = mlp_output(self._model, self._layer, self._read)
        change, self._wrote, self._inner = wrote - self._wrote, wrote, None
        return change[None]


@dataclass(frozen=True, eq=False)
class HeadPort:
    """A port of a head: where it reads, and which vectors are computed from that."""

    column: int
    slots: tuple[Slot, ...]
    positions: Int[Tensor, "place"]


class AttentionNode:
    """A head (or a whole attention layer) at the query positions that matter.

    Keys and values are kept at every position up to the last query. When only values change, the
    attention pattern does not, and the change is the pattern times the values' change.
    """

    def __init__(
        self,
        model: Transformer,
        layer: int,
        heads: slice,
        ports: tuple[HeadPort, ...],
        consumers: tuple[Consumer, ...],
        queries: Int[Tensor, "query"],
        clean: Float[Tensor, "batch pos d_model"],
        allowed: Bool[Tensor, "batch pos pos"],
        at_heads: Float[Tensor, "batch pos d_model"] | None,
    ) -> None:
        self._model, self._layer, self._heads, self._ports = model, layer, heads, ports
        self.columns = frozenset(port.column for port in ports)
        self.consumers = consumers
        self._queries, self._at_heads = queries, at_heads
        n_keys = int(queries.max()) + 1 if model.config.causal else clean.shape[1]
        self._masked = ~allowed[:, queries, :n_keys]
        self._read = {port.column: clean[:, port.positions] for port in ports}
        everywhere = torch.arange(n_keys, device=clean.device)
        places: dict[Slot, Tensor] = {"q": queries, "k": everywhere, "v": everywhere}
        self.vectors = {
            slot: self._project(slot, clean[None, :, at], at) for slot, at in places.items()
        }
        self.vectors = {slot: vector[:, 0] for slot, vector in self.vectors.items()}
        self._pattern, self._z = self._attend(self.vectors)

    @property
    def queries(self) -> Int[Tensor, "query"]:
        """The positions whose output matters."""
        return self._queries

    def _project(
        self, slot: Slot, x: Change, at: Int[Tensor, "place"]
    ) -> Float[Tensor, "_ _ batch _ d_head"]:
        extra = None
        if self._at_heads is not None:
            extra = self._at_heads[:, at].repeat(x.shape[0], 1, 1)
        flat = x.flatten(0, 1)[None]
        vectors = head_vectors(self._model, self._layer, slot, flat, extra, self._heads)
        return vectors.unflatten(1, x.shape[:2])

    def _attend(self, vectors: Mapping[Slot, Tensor]) -> tuple[Tensor, Tensor]:
        """Pattern [head … batch query key] and mixed values, any dimensions between allowed."""
        scale = self._model.config.attention_scales[self._layer]
        scores = (vectors["q"] * scale) @ vectors["k"].transpose(-1, -2)
        pattern = scores.masked_fill(self._masked, -torch.inf).softmax(dim=-1)
        return pattern, pattern @ vectors["v"]

    def _fresh(self, pending: Mapping[int, Change]) -> dict[Slot, Tensor]:
        """The vectors [head variant batch place d_head] of the ports that read something new."""
        fresh: dict[Slot, Tensor] = {}
        for port in self._ports:
            if port.column not in pending:
                continue
            x = self._read[port.column] + pending[port.column]
            for slot in port.slots:
                at = port.positions
                if slot == "q" and len(port.slots) > 1:  # a joined port reads for keys as well
                    wanted = torch.searchsorted(at, self._queries)
                    fresh[slot] = self._project(slot, x[:, :, wanted], self._queries)
                else:
                    fresh[slot] = self._project(slot, x, at)
        return fresh

    def _positions(self, slot: Slot) -> Int[Tensor, "place"]:
        return next(port.positions for port in self._ports if slot in port.slots)

    def change(
        self, pending: Mapping[int, Change], reduced: ReducedProducts | None = None
    ) -> Change:
        return self.change_of_vectors(self._fresh(pending))  # too small to gain from bfloat16

    def change_of_vectors(self, fresh: Mapping[Slot, Tensor]) -> Change:
        """How the output changes with other vectors at their slots' positions."""
        return self._out(self._z_of(fresh) - self._z[:, None])

    def _z_of(self, fresh: Mapping[Slot, Tensor]) -> Float[Tensor, "_ _ batch _ d_head"]:
        if set(fresh) == {"v"}:
            at = self._positions("v")
            moved = fresh["v"] - self.vectors["v"][:, None, :, at]
            head, variant, batch, place, d_head = moved.shape
            # One product for all variants: they share the pattern.
            wide = moved.permute(0, 2, 3, 1, 4).reshape(head, batch, place, variant * d_head)
            z = (self._pattern[..., at] @ wide).unflatten(-1, (variant, d_head))
            return self._z[:, None] + z.permute(0, 3, 1, 2, 4)
        if set(fresh) == {"q"}:
            query = fresh["q"]
            head, variant, batch, place, d_head = query.shape
            scale = self._model.config.attention_scales[self._layer]
            tall = (query * scale).transpose(1, 2).reshape(head, batch, variant * place, d_head)
            scores = (tall @ self.vectors["k"].transpose(-1, -2)).unflatten(2, (variant, place))
            pattern = scores.masked_fill(self._masked[None, :, None], -torch.inf).softmax(dim=-1)
            z = pattern.flatten(2, 3) @ self.vectors["v"]
            return z.unflatten(2, (variant, place)).transpose(1, 2)
        return self._attend(self._filled(fresh))[1]

    def _filled(self, fresh: Mapping[Slot, Tensor]) -> dict[Slot, Tensor]:
        """Current vectors with the fresh ones in place, [head variant batch place d_head]."""
        variants = next(iter(fresh.values())).shape[1]
        result: dict[Slot, Tensor] = {}
        for slot, current in self.vectors.items():
            if slot not in fresh:
                result[slot] = current[:, None]
            elif slot == "q":
                result[slot] = fresh[slot]
            else:
                whole = current[:, None].repeat(1, variants, 1, 1, 1)
                whole[:, :, :, self._positions(slot)] = fresh[slot]
                result[slot] = whole
        return result

    def _out(self, z: Float[Tensor, "_ _ batch _ d_head"]) -> Change:
        weight = self._model.weights[f"blocks.{self._layer}.attn.W_O"][self._heads]
        return torch.einsum("hkbqe,hed->kbqd", z, weight)

    def commit(self, pending: Mapping[int, Change]) -> Change:
        fresh = self._fresh(pending)
        moved = {c: self._read[c] + change[0] for c, change in pending.items() if c in self._read}
        self._read = {**self._read, **moved}
        return self.commit_vectors(fresh)

    def commit_vectors(self, fresh: Mapping[Slot, Tensor]) -> Change:
        """Take other vectors, of one variant, as current; returns how the output changed."""
        filled = self._filled(fresh)
        self.vectors = {slot: vector[:, 0] for slot, vector in filled.items()}
        before = self._z
        self._pattern, self._z = self._attend(self.vectors)
        return self._out((self._z - before)[:, None])
