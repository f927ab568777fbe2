"""The graph of a transformer's residual stream: who writes, who reads, who reads from whom.

Senders write to the stream, receivers (ports) read it. `exists[s, r]` says that sender s has
written before receiver r reads. The whole layout (which row, which column) is made here and nowhere
else.

Order, used for every loop, file and tie: senders as they are written (embeddings, then per layer
the heads and the MLP); receivers as they are read (per layer all q, all k, all v, then the MLP;
logits last); edges by receiver, then by sender, a port's switch after its other edges. With spans
of positions every node and port comes once for each span, in the order of the spans.

With grouped-query attention, keys and values are read once for each group of heads, by a key/value
head ("a3.kv1"), unless the graph gives every head ports of its own (`kv_heads` None).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from edgewise.arguments import check_flag
from edgewise.arguments import whole as whole_number
from edgewise.documents import decoded
from edgewise.errors import FormatError, SettingError, UnknownName, shortened, unknown_name
from edgewise.graph.names import SLOTS, Edge, Node, Port, Sender, Site
from edgewise.graph.shape import HasShape, HasSpans, checked_spans, span_names
from edgewise.tables import count

_Node = TypeVar("_Node", bound=Node)
_Named = TypeVar("_Named", bound=Node | Port)
_NEWER = ("spans", "kv_heads", "mixed_heads")  # fields that older files do not have
# Senders times receivers, a byte each in every mask: Llama 3 70B has 80 million.
_MOST_PAIRS = 100_000_000


class _Positions(dict[_Named, int]):
    """Where each thing of a kind is in matrices. Raises `UnknownName` for a stranger."""

    def __init__(self, kind: str, things: Iterable[_Named]) -> None:
        super().__init__((thing, position) for position, thing in enumerate(things))
        self._kind = kind

    def __missing__(self, thing: _Named) -> int:
        raise unknown_name(self._kind, thing.name, (known.name for known in self))


class _Reading(NamedTuple):
    """Ports that read together, positions together, and how many senders have written by then."""

    sites: tuple[Site, ...]
    ports: tuple[Port, ...]
    n_written: int


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
    spans: tuple[str, ...] | None = None  # named spans of positions apart, or all together
    kv_heads: int | None = None  # that read keys and values for a group of heads each; None: own
    mixed_heads: bool = False  # a norm over a layer's heads lets each depend on what all read

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", checked_spans(self.spans))
        for field in fields(self):
            if field.type == "int":
                value = whole_number(field.name, getattr(self, field.name), 1)
                object.__setattr__(self, field.name, value)
            elif field.type == "bool":
                check_flag(field.name, getattr(self, field.name))
        if (n := self.kv_heads) is None:
            return
        if type(n) is not int or not 0 < n < self.n_heads or self.n_heads % n:
            raise SettingError(
                f"kv_heads is {n!r:.80}; it must be a divisor of the {self.n_heads} heads, less "
                "than them, or None if every head has its own keys and values."
            )
        if not self.split_qkv or not self.split_heads or self.switches:
            raise SettingError(
                "key/value heads with ports of their own need split q/k/v and single heads, and "
                "switches belong to one head: use ungroup_heads=True (kv_heads=None) here."
            )

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
        spans: Sequence[str] | None = None,
        kv_heads: int | None = None,
        mixed_heads: bool = False,
    ) -> Graph:
        """The graph of a shape alone, without a model. `spans` are all of its spans.

        >>> Graph.build(12, 12).n_edges  # GPT-2 small
        32491
        """
        grain = split_qkv, split_heads, split_embed, switches, checked_spans(spans)
        return cls(n_layers, n_heads, mlps, parallel, *grain, kv_heads, mixed_heads)

    @classmethod
    def of(
        cls,
        model: HasShape,
        *,
        split_qkv: bool = True,
        split_heads: bool = True,
        split_embed: bool = False,
        switches: bool = False,
        spans: Sequence[str] | HasSpans | None = None,
        ungroup_heads: bool = False,
    ) -> Graph:
        """The graph of a model at the granularity asked for.

        `spans` tells positions apart: prompt pairs (all spans they name) or the names of some of
        those. Positions in none of them are the span "rest". By default all positions are together.
        `ungroup_heads` gives every head of grouped-query attention key and value ports of its own,
        as EAP-IG does; joined ports and whole attention layers leave nothing to group. Raises
        `SettingError`.
        """
        shape = model.config
        if split_embed and not shape.adds_positions:
            raise SettingError(
                "split_embed asks for a 'pos_embed' sender, but this model adds no position "
                "embedding to its residual stream. Leave split_embed off."
            )
        grouped = shape.n_kv_heads < shape.n_heads and split_qkv and split_heads
        if grouped and switches and not ungroup_heads:
            raise SettingError(
                "switches belong to single heads, but this model's heads share keys and values. "
                "Ask for ungroup_heads as well."
            )
        return cls(
            *(shape.n_layers, shape.n_heads, shape.has_mlps, shape.parallel),
            *(split_qkv, split_heads, split_embed, switches),
            spans=span_names(spans),
            kv_heads=shape.n_kv_heads if grouped and not ungroup_heads else None,
            mixed_heads=shape.mixes_heads and split_heads,
        )

    @cached_property
    def whole(self) -> Graph:
        """This graph with all positions together: what a model knows of."""
        return self if self.spans is None else replace(self, spans=None)

    # --- nodes, in canonical order

    @cached_property
    def attention_nodes(self) -> tuple[tuple[Sender, ...], ...]:
        """By layer the attention nodes, positions together: its heads, or the one whole layer."""
        if not self.split_heads:
            return tuple((Sender(Node(layer, "attention")),) for layer in range(self.n_layers))
        layers, heads = range(self.n_layers), range(self.n_heads)
        return tuple(tuple(Sender(Node(i, "head", head)) for head in heads) for i in layers)

    @cached_property
    def kv_nodes(self) -> tuple[tuple[Node, ...], ...]:
        """By layer the key/value heads that read for a group of heads each, if there are any."""
        heads = range(self.kv_heads or 0)
        return tuple(tuple(Node(i, "kv", head) for head in heads) for i in range(self.n_layers))

    @cached_property
    def senders(self) -> tuple[Sender, ...]:
        """Everything that writes to the residual stream, in the order it is written."""
        return tuple(Sender(node) for node in self.nodes if node.kind not in ("kv", "logits"))

    @cached_property
    def receivers(self) -> tuple[Port, ...]:
        """Everything that reads the residual stream, in the order it is read."""
        ports = (port for reading in self._readings for port in reading.ports)
        return tuple(replace(p, node=node) for p in ports for node in self.at_spans(p.node))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node: the embeddings, then layer by layer, key/value heads first, the output."""
        nodes: list[Node] = [Node(None, "input")]
        if self.split_embed:
            nodes = [Node(None, "tok_embed"), Node(None, "pos_embed")]
        for layer in range(self.n_layers):
            nodes += [*self.kv_nodes[layer], *self.attention_nodes[layer]]
            nodes += [Node(layer, "mlp")] if self.mlps else []
        nodes.append(Node(None, "logits"))
        return tuple(at_span for node in nodes for at_span in self.at_spans(node))

    @cached_property
    def _readings(self) -> tuple[_Reading, ...]:
        readings, n_written = [], 1 + self.split_embed
        for layer, heads in enumerate(self.attention_nodes):
            before = n_written
            n_written += len(heads)
            if self.split_qkv:
                for slot in SLOTS:
                    nodes = heads if slot == "q" else self.kv_nodes[layer] or heads
                    ports = tuple(Port(node, slot) for node in nodes)
                    readings.append(_Reading((Site(layer, slot),), ports, before))
            else:
                sites = tuple(Site(layer, slot) for slot in SLOTS)
                readings.append(_Reading(sites, tuple(map(Port, heads)), before))
            if self.mlps:
                written = before if self.parallel else n_written
                port = Port(Node(layer, "mlp"))
                readings.append(_Reading((Site(layer, "mlp"),), (port,), written))
                n_written += 1
        output = Port(Node(None, "logits"))
        return (*readings, _Reading((Site(None, "logits"),), (output,), n_written))

    def at_spans(self, node: _Node) -> tuple[_Node, ...]:
        """A node at each of the graph's spans; itself if positions are together."""
        if self.spans is None:
            return (node,)
        return tuple(replace(node, span=span) for span in self.spans)

    def fed_by(self, port: Port) -> tuple[Sender, ...]:
        """The senders that use what a port reads: keys and values anywhere, else at its own span.

        For a key/value head its group of heads; for heads behind a common norm all of the layer;
        none for the output.

        >>> graph = Graph.build(1, 1, spans=["S2", "rest"])
        >>> [node.name for node in graph.fed_by(Port.parse("a0.h0.k@S2"))]
        ['a0.h0@S2', 'a0.h0@rest']
        """
        node = port.node
        if node.layer is None or node.kind == "mlp":
            return self.group(node)
        nodes = self.attention_nodes[node.layer] if self.mixed_heads else self.group(node)
        if port.slot == "q":
            return tuple(replace(sender, span=node.span) for sender in nodes)
        return tuple(at_span for sender in nodes for at_span in self.at_spans(sender))

    def group(self, node: Node) -> tuple[Sender, ...]:
        """The senders that write what a node computes: itself; a key/value head's heads; or none.

        >>> graph = Graph.build(1, 4, kv_heads=2)
        >>> [node.name for node in graph.group(Node.parse("a0.kv1"))]
        ['a0.h2', 'a0.h3']
        """
        if node.kind == "logits":
            return ()
        if node.kind != "kv" or node.layer is None or node.head is None or self.kv_heads is None:
            return (Sender(node),)
        size = self.n_heads // self.kv_heads
        heads = self.attention_nodes[node.layer][node.head * size : (node.head + 1) * size]
        return tuple(replace(head, span=node.span) for head in heads)

    # --- finer graphs

    def node_around(self, node: Node) -> Node:
        """The node of this graph that a node of a finer one lies in."""
        if node.kind in ("head", "kv") and not self.split_heads:
            node = replace(node, kind="attention", head=None)
        if node.kind in ("tok_embed", "pos_embed") and not self.split_embed:
            node = replace(node, kind="input")
        return node if self.spans is not None else replace(node, span=None)

    def port_around(self, port: Port) -> Port:
        """The port of this graph that a port of a finer one lies in."""
        node = port.node
        grouped = self.kv_heads is not None and node.kind == "head" and port.slot in ("k", "v")
        if grouped and node.head is not None and self.kv_heads is not None:
            node = replace(node, kind="kv", head=node.head * self.kv_heads // self.n_heads)
        return Port(self.node_around(node), port.slot if self.split_qkv else None)

    # --- edges

    @cached_property
    def exists(self) -> Bool[Tensor, "sender receiver"]:
        """Which edges there are. Do not write to it."""
        written = [reading.n_written for reading in self._readings for _ in reading.ports]
        n_spans = len(self.spans or "1")  # the residual stream does not leave its position
        earlier = torch.arange(written[-1])[:, None] < torch.tensor(written)[None, :]
        return self.of_spans(earlier.expand(n_spans, -1, -1)) | self.is_switch

    @cached_property
    def is_switch(self) -> Bool[Tensor, "sender receiver"]:
        """Which entries are switches (a head and one of its own ports). Do not write to it."""
        shape = len(self.senders), len(self.receivers)
        if not self.switches:
            return torch.zeros((), dtype=torch.bool).expand(shape)  # takes no memory
        flags = torch.zeros(shape, dtype=torch.bool)
        for column, port in enumerate(self.receivers):
            if port.node.kind in ("head", "attention"):
                flags[self.row[Sender(port.node)], column] = True
        return flags

    @cached_property
    def n_edges(self) -> int:
        """How many edges there are, switches included; from the shape alone, at any size."""
        total = 0
        for sites, ports, n_written in self._readings:
            has_switches = self.switches and sites[0].what in SLOTS
            total += len(ports) * (n_written + has_switches)
        return total * len(self.spans or "1")

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

    @cached_property
    def row(self) -> Mapping[Sender, int]:
        """The row of each sender in `exists` and every matrix shaped like it."""
        return _Positions("sender", self.senders)

    @cached_property
    def column(self) -> Mapping[Port, int]:
        """The column of each receiver in `exists` and every matrix shaped like it."""
        return _Positions("receiver", self.receivers)

    @cached_property
    def rows_fed(self) -> Mapping[Port, list[int]]:
        """The rows of the senders that use what a receiver reads (`fed_by`)."""
        return {port: [self.row[node] for node in self.fed_by(port)] for port in self.receivers}

    @cached_property
    def columns(self) -> Mapping[Site, slice]:
        """The columns of sites in `whole`: contiguous, by head; joined q, k and v share theirs."""
        columns, start = {}, 0
        for sites, ports, _ in self._readings:
            columns.update(dict.fromkeys(sites, slice(start, start + len(ports))))
            start += len(ports)
        return columns

    def by_span(
        self, values: Shaped[Tensor, "sender receiver"]
    ) -> Shaped[Tensor, "span _sender _receiver"]:
        """Values of every edge, of one span (or all) after the other, in the layout of `whole`."""
        n = len(self.spans or "1")
        return torch.stack([values[i::n, i::n] for i in range(n)])

    def of_spans(
        self, values: Shaped[Tensor, "span _sender _receiver"]
    ) -> Shaped[Tensor, "sender receiver"]:
        """The other way round; 0 between different spans."""
        n, rows, columns = values.shape
        result = values.new_zeros(n * rows, n * columns)
        for i, part in enumerate(values):
            result[i::n, i::n] = part
        return result

    def index(self, edge: Edge | str) -> tuple[int, int]:
        """(row, column) of an edge, given as an `Edge` or a name. Raises `UnknownName`."""
        if isinstance(edge, str):
            edge = Edge.parse(edge)
        if not isinstance(edge, Edge):
            raise SettingError(
                f"an edge is an Edge or its name, not a {type(edge).__name__}; several are passed "
                "one by one: circuit.without(*edges)."
            )
        row, column = self.row.get(edge.sender), self.column.get(edge.receiver)
        if row is None or column is None or not self.exists[row, column]:
            raise self._no_such_edge(edge, row, column)
        return row, column

    def entries(self, edges: Iterable[Edge | str]) -> tuple[Tensor, Tensor]:
        """Rows and columns of edges, to index matrices with. Raises `UnknownName`."""
        pairs = [self.index(edge) for edge in edges]
        rows, columns = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        return rows, columns

    def _no_such_edge(self, edge: Edge, row: int | None, column: int | None) -> UnknownName:
        if edge.is_switch and edge.sender.kind in ("head", "attention") and not self.switches:
            hint = "This graph has no switches; build it with switches=True to have them."
        elif row is not None and column is not None:
            hint = f"{edge.sender} is computed after {edge.receiver} reads the residual stream."
            if edge.sender.span != edge.receiver.node.span:
                hint = "An edge has both ends in one span: only attention goes between positions."
        else:
            hint = f"This graph has {self.describe()}."
        # Those that share an end with this one: to search all takes difflib seconds.
        near = torch.zeros_like(self.exists)
        if column is not None:
            near[:, column] = True
        elif row is not None:
            near[row] = True
        names = [edge.name for edge in self.edges_of(self.exists & near)]
        return unknown_name("edge", edge.name, names, hint=hint)

    # --- description

    def describe(self) -> str:
        """One phrase: the shape and the granularity."""
        parts = [f"{count(self.n_layers, 'layer')} of {count(self.n_heads, 'head')}"]
        parts.append("MLPs" if self.mlps else "no MLPs")
        if self.kv_heads is not None:
            parts.append(count(self.kv_heads, "key/value head"))
        parts += ["parallel blocks"] * self.parallel
        parts.append(f"{'split' if self.split_qkv else 'joined'} q/k/v")
        parts.append("heads as nodes" if self.split_heads else "whole attention layers as nodes")
        parts += ["split embeddings"] * self.split_embed + ["switches"] * self.switches
        if self.spans is not None:
            parts.append(f"spans {', '.join(self.spans)}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The fields that define the graph; newer ones only where they say something."""
        values = {**asdict(self), "spans": self.spans and list(self.spans)}
        return {name: value for name, value in values.items() if value or name not in _NEWER}

    @classmethod
    def from_json(
        cls, document: Any, *, source: str = "graph", most_pairs: int = _MOST_PAIRS
    ) -> Graph:
        """The graph of `to_json`. Raises `FormatError`, also if its masks would fill the memory."""
        graph = decoded(cls, document, source)
        if unknown := set(document) - set(cls.__dataclass_fields__):
            raise FormatError(f"{source}: a graph has no {shortened(min(unknown))!r}.")
        heads = graph.n_heads if graph.split_heads else 1
        ports = heads + 2 * (graph.kv_heads or heads) if graph.split_qkv else heads
        spans = len(graph.spans or "1")
        senders = spans * (1 + graph.split_embed + graph.n_layers * (heads + graph.mlps))
        receivers = spans * (1 + graph.n_layers * (ports + graph.mlps))
        if senders * receivers > most_pairs:
            raise FormatError(
                f"{source}: a graph of {senders:.3g} senders and {receivers:.3g} receivers is too "
                f"large to be worked on: at most {most_pairs:,} pairs of them can be."
            )
        return graph
