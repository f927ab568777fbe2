"""The graph of a transformer's residual stream: who writes, who reads, and who can hear whom.

Senders write to the stream, receivers (ports) read it. `exists[s, r]` says that sender s has
written before receiver r reads. The whole layout (which row, which column) is made here and nowhere
else.

Order, used for every loop, file and tie: senders as they are written (embeddings, then per layer
the heads and the MLP); receivers as they are read (per layer all q, all k, all v, then the MLP;
logits last); edges by receiver, then by sender, a port's switch after its other edges.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from edgewise.errors import SettingError, UnknownName, unknown_name
from edgewise.graph.names import SLOTS, Edge, Node, Port, Slot


class Site(NamedTuple):
    """Where a model reads, at any granularity: all heads' q (or k, v), an MLP, the output."""

    layer: int | None
    what: Literal["q", "k", "v", "mlp", "logits"]


@runtime_checkable
class Shape(Protocol):
    """What a graph needs to know of a model."""

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def has_mlps(self) -> bool: ...
    @property
    def parallel(self) -> bool: ...
    @property
    def adds_positions(self) -> bool:
        """Whether position embeddings are written to the residual stream."""
        ...


@runtime_checkable
class HasShape(Protocol):
    @property
    def config(self) -> Shape: ...


@dataclass(frozen=True)
class Graph:
    """A model's shape at one granularity. Build it with `Graph.build` or `Graph.of`.

    Two graphs are equal when these fields are; everything else is derived from them.
    """

    n_layers: int
    n_heads: int
    mlps: bool = True
    parallel: bool = False  # the MLP reads beside its layer's heads, not after them
    split_qkv: bool = True  # a head reads three times (q, k, v), or once
    split_heads: bool = True  # nodes are heads, or whole attention layers
    split_embed: bool = False  # token and position embeddings apart
    switches: bool = False  # the paper's "direct computation" edges

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            counted = name in ("n_layers", "n_heads")
            if type(value) is not (int if counted else bool):
                wanted = "a whole number" if counted else "True or False"
                raise SettingError(f"{name} is {value!r}; it must be {wanted}.")
            if counted and value < 1:
                raise SettingError(f"{name} is {value}; a graph needs at least 1.")

    @classmethod
    def build(
        cls,
        n_layers: int,
        n_heads: int,
        *,
        mlps: bool = True,
        parallel: bool = False,
        split_qkv: bool = True,
        split_heads: bool = True,
        split_embed: bool = False,
        switches: bool = False,
    ) -> Graph:
        """The graph of a shape alone, without a model.

        >>> Graph.build(12, 12).n_edges  # GPT-2 small
        32491
        """
        return cls(n_layers, n_heads, mlps, parallel, split_qkv, split_heads, split_embed, switches)

    @classmethod
    def of(
        cls,
        model: HasShape,
        *,
        split_qkv: bool = True,
        split_heads: bool = True,
        split_embed: bool = False,
        switches: bool = False,
        spans: None = None,
    ) -> Graph:
        """The graph of a model at the granularity asked for; all positions together.

        `spans` is where named spans of positions will be given; so far only None is known.
        """
        if spans is not None:
            raise SettingError("graphs of position spans are not available yet; pass spans=None.")
        shape = model.config
        if split_embed and not shape.adds_positions:
            raise SettingError(
                "split_embed asks for a 'pos_embed' sender, but this model adds no position "
                "embedding to its residual stream. Leave split_embed off."
            )
        return cls(
            shape.n_layers,
            shape.n_heads,
            shape.has_mlps,
            shape.parallel,
            split_qkv,
            split_heads,
            split_embed,
            switches,
        )

    # --- nodes, in canonical order

    @cached_property
    def senders(self) -> tuple[Node, ...]:
        """Everything that writes to the residual stream, in the order it is written."""
        return self._embeddings + tuple(
            node for layer in range(self.n_layers) for node in self._layer(layer)
        )

    @cached_property
    def receivers(self) -> tuple[Port, ...]:
        """Everything that reads the residual stream, in the order it is read."""
        ports: list[Port] = []
        for layer in range(self.n_layers):
            attention = self.attention_nodes(layer)
            slots: tuple[Slot | None, ...] = SLOTS if self.split_qkv else (None,)
            ports += [Port(node, slot) for slot in slots for node in attention]
            ports += [Port(node) for node in self._layer(layer) if node.kind == "mlp"]
        return (*ports, Port(Node(None, "logits")))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node: the senders, then the output."""
        return (*self.senders, Node(None, "logits"))

    @property
    def _embeddings(self) -> tuple[Node, ...]:
        if self.split_embed:
            return (Node(None, "tok_embed"), Node(None, "pos_embed"))
        return (Node(None, "input"),)

    def attention_nodes(self, layer: int) -> tuple[Node, ...]:
        """The attention nodes of a layer: its heads, or the one whole layer."""
        if self.split_heads:
            return tuple(Node(layer, "head", head) for head in range(self.n_heads))
        return (Node(layer, "attention"),)

    def _layer(self, layer: int) -> tuple[Node, ...]:
        mlp = (Node(layer, "mlp"),) if self.mlps else ()
        return self.attention_nodes(layer) + mlp

    # --- edges

    @cached_property
    def exists(self) -> Bool[Tensor, "sender receiver"]:
        """Which edges there are. Do not write to it."""
        written = torch.tensor([self._written_at(node) for node in self.senders])
        read = torch.tensor([self._read_at(port.node) for port in self.receivers])
        return (written[:, None] < read[None, :]) | self.is_switch

    def _written_at(self, node: Node) -> int:
        if node.layer is None:
            return 0
        return 4 * node.layer + (4 if node.kind == "mlp" else 2)

    def _read_at(self, node: Node) -> int:
        if node.layer is None:
            return 4 * self.n_layers + 1
        return 4 * node.layer + (3 if node.kind == "mlp" and not self.parallel else 1)

    @cached_property
    def is_switch(self) -> Bool[Tensor, "sender receiver"]:
        """Which entries are switches (a head and one of its own ports). Do not write to it."""
        flags = torch.zeros(len(self.senders), len(self.receivers), dtype=torch.bool)
        if self.switches:
            for column, port in enumerate(self.receivers):
                if port.node.kind in ("head", "attention"):
                    flags[self.row(port.node), column] = True
        return flags

    @property
    def n_edges(self) -> int:
        """How many edges there are, switches included."""
        return int(self.exists.sum())

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge in canonical order."""
        return self.edges_of(self.exists)

    def edges_of(self, mask: Bool[Tensor, "sender receiver"]) -> tuple[Edge, ...]:
        """The edges that `mask` marks, in canonical order: by receiver, then sender."""
        # A head is written after its own ports read, so a switch is the last entry of its column.
        pairs = mask.T.nonzero().tolist()
        return tuple(Edge(self.senders[row], self.receivers[column]) for column, row in pairs)

    # --- layout

    def row(self, sender: Node) -> int:
        """The row of a sender in `exists` and every matrix shaped like it."""
        if sender not in self._rows:
            raise unknown_name("sender", sender.name, (node.name for node in self.senders))
        return self._rows[sender]

    def column(self, receiver: Port) -> int:
        """The column of a receiver in `exists` and every matrix shaped like it."""
        if receiver not in self._columns:
            raise unknown_name("receiver", receiver.name, (port.name for port in self.receivers))
        return self._columns[receiver]

    @cached_property
    def _rows(self) -> dict[Node, int]:
        return {node: row for row, node in enumerate(self.senders)}

    @cached_property
    def _columns(self) -> dict[Port, int]:
        return {port: column for column, port in enumerate(self.receivers)}

    def columns(self, site: Site) -> slice:
        """The columns of a site: contiguous, by head. With joined ports q, k and v share theirs."""
        if site.layer is None:
            return slice(len(self.receivers) - 1, len(self.receivers))
        if site.what == "mlp":
            start = self.column(Port(Node(site.layer, "mlp")))
            return slice(start, start + 1)
        slot = _slot_of(site) if self.split_qkv else None
        return self._span(self.column(Port(self.attention_nodes(site.layer)[0], slot)))

    def _span(self, start: int) -> slice:
        return slice(start, start + (self.n_heads if self.split_heads else 1))

    def index(self, edge: Edge | str) -> tuple[int, int]:
        """(row, column) of an edge, given as an `Edge` or a name. Raises `UnknownName`."""
        if isinstance(edge, str):
            edge = Edge.parse(edge)
        if edge.sender in self._rows and edge.receiver in self._columns:
            row, column = self._rows[edge.sender], self._columns[edge.receiver]
            if self.exists[row, column]:
                return row, column
        raise self._no_such(edge)

    def edge(self, name: str) -> Edge:
        """The edge of this graph that `name` names. Raises `UnknownName`, with suggestions."""
        row, column = self.index(name)
        return Edge(self.senders[row], self.receivers[column])

    def _no_such(self, edge: Edge) -> UnknownName:
        has_ports = edge.sender.kind in ("head", "attention")
        if edge.is_switch and has_ports and not self.switches:
            hint = "This graph has no switches; build it with switches=True to have them."
        elif edge.sender in self._rows and edge.receiver in self._columns:
            hint = f"{edge.sender} is computed after {edge.receiver} reads the residual stream."
        else:
            hint = f"This graph has {self.describe()}."
        return unknown_name("edge", edge.name, _names_near(self, edge), hint=hint)

    # --- description

    def describe(self) -> str:
        """One phrase: the shape and the granularity."""
        attention = "heads" if self.split_heads else "whole attention layers"
        parts = [f"{_count(self.n_layers, 'layer')} of {_count(self.n_heads, 'head')}"]
        parts.append("MLPs" if self.mlps else "no MLPs")
        if self.parallel:
            parts.append("parallel blocks")
        parts.append(f"{'split' if self.split_qkv else 'joined'} q/k/v")
        parts.append(f"{attention} as nodes")
        if self.split_embed:
            parts.append("split embeddings")
        if self.switches:
            parts.append("switches")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The fields that define the graph."""
        return asdict(self)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _slot_of(site: Site) -> Slot | None:
    return site.what if site.what in ("q", "k", "v") else None


def _names_near(graph: Graph, edge: Edge) -> list[str]:
    """Candidates for a suggestion: edges that share an end with the one asked for.

    All edges would do, but difflib over 32,491 names takes seconds.
    """
    if edge.receiver in graph._columns:
        column = graph.column(edge.receiver)
        rows = graph.exists[:, column].nonzero().flatten().tolist()
        return [Edge(graph.senders[row], edge.receiver).name for row in rows]
    if edge.sender in graph._rows:
        row = graph.row(edge.sender)
        columns = graph.exists[row].nonzero().flatten().tolist()
        return [Edge(edge.sender, graph.receivers[column]).name for column in columns]
    return []
