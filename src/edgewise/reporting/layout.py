"""Where the nodes of a circuit are drawn: embeddings below, a row per layer, logits on top.

A graph of up to `SHOW_ALL` nodes is drawn whole, heads in columns, so that one sees the
architecture; of a larger one only the circuit's nodes are drawn, in an order that keeps edges short
while there are few enough edges for that to help. Sequential blocks have their MLP
half a row above the heads, because it reads after them; parallel blocks have it beside them.

Spans of positions, where a graph tells them apart, stand side by side, each with the nodes that the
circuit has there; a link joins a head's keys and values at one span to the head at another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgewise.circuit import Circuit
from edgewise.graph import Graph, Node, Slot
from edgewise.reporting.ordering import untangled

SHOW_ALL = 60
_UNTANGLE = 250  # with more edges no order helps, and heads by index are easier to find

_LABELS = 76.0  # the column of layer names, left
_SIDE = 44.0  # room for curves that bow outwards, both sides
_TALL, _LOW = 38.0, 28.0  # boxes with and without q/k/v letters
_GAP = 20.0  # between two boxes of a row
_ROW = {True: 136.0, False: 104.0}  # height of a layer with and without an MLP half-row
_END = 84.0  # from the outer layers to embeddings and logits
_LETTER = 7.4  # width of one letter of a name


@dataclass(frozen=True)
class Box:
    """A drawn node: centre and size. `kept` if an edge of the circuit touches it."""

    node: Node
    x: float
    y: float
    width: float
    height: float
    kept: bool

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def port_x(self, slot: Slot | None) -> float:
        """Where edges into a slot arrive, along the box's bottom."""
        offset = 0.0 if slot is None else {"q": -1.0, "k": 0.0, "v": 1.0}[slot]
        return self.x + offset * self.width * 0.29


@dataclass(frozen=True)
class Band:
    """The background of a layer."""

    label: str
    top: float
    bottom: float


@dataclass(frozen=True)
class Title:
    """The name of a span, above its nodes."""

    text: str
    x: float


@dataclass(frozen=True)
class Layout:
    """A drawing's geometry, in pixels; `right` is where the bands end."""

    width: float
    height: float
    boxes: Mapping[Node, Box]
    bands: Sequence[Band]
    left: float
    right: float
    titles: Sequence[Title] = ()  # of spans


def lay_out(circuit: Circuit) -> Layout:
    """Place the nodes of a circuit."""
    spans = circuit.graph.spans
    if spans is None:
        return _Placing(circuit, None).layout()
    touched = {node.span for node in circuit.nodes}
    panels = [_Placing(circuit, span) for span in spans if span in touched]
    layers = sorted({layer for panel in panels for layer in panel.layers})
    half_rows = any(panel.half_rows for panel in panels)
    boxes: dict[Node, Box] = {}
    bands: Sequence[Band] = ()
    titles, left, height = [], 0.0, 0.0
    for panel in panels:
        panel.layers, panel.half_rows = layers, half_rows
        placed = panel.layout()
        boxes |= {n: replace(box, x=box.x + left) for n, box in placed.boxes.items()}
        titles.append(Title(f"at {panel.span}", left + (placed.left + placed.right) / 2))
        bands, height = placed.bands, placed.height
        left += placed.right - _LABELS
    return Layout(left + _LABELS + 8, height, boxes, bands, _LABELS, left + _LABELS, titles)


class _Placing:
    """The quantities that the rows share, of one span or of all positions together."""

    def __init__(self, circuit: Circuit, span: str | None) -> None:
        graph = circuit.graph
        self.graph: Graph = graph
        self.span = span
        self.kept = frozenset(n for n in circuit.nodes if n.span == span)
        self.whole = span is None and len(graph.nodes) <= SHOW_ALL
        here = [n for n in graph.nodes if n.span == span]
        always = self.whole or span is None
        shown = [n for n in here if self.whole or n in self.kept or (always and n.layer is None)]
        self.layers = sorted({n.layer for n in shown if n.layer is not None})
        self.heads = {
            layer: [n for n in shown if n.layer == layer and n.kind in ("head", "kv", "attention")]
            for layer in self.layers
        }
        self.mlps = {n.layer: n for n in shown if n.kind == "mlp"}
        self.ends = [n for n in shown if n.layer is None]
        if not self.whole and circuit.n_edges <= _UNTANGLE:
            right = max([1, *(len(row) for row in self.heads.values())]) / 2 + 1
            others = dict.fromkeys(self.ends, 0.0) | dict.fromkeys(self.mlps.values(), right)
            edges = [edge for edge in circuit.edges if edge.sender.span == span]
            self.heads = untangled(self.heads, edges, others)
        names = [len(n.part) for row in self.heads.values() for n in row]
        self.head_width = max([46.0, *(_LETTER * length + 12 for length in names)])
        self.pitch = self.head_width + _GAP
        self.attention_width = self.pitch * max([1, *(len(row) for row in self.heads.values())])
        self.half_rows = bool(self.mlps) and not graph.parallel
        mlp_width = self.pitch + _GAP if self.mlps else 0.0
        least = 240.0 if span is None else self.pitch
        self.content = max(least, self.attention_width + mlp_width)
        self.slack = (self.content - self.attention_width - mlp_width) / 2

    @property
    def row(self) -> float:
        """The height of a layer."""
        return _ROW[self.half_rows]

    def layout(self) -> Layout:
        left = _LABELS
        right = left + 2 * _SIDE + self.content
        height = 2 * _END + self.row * len(self.layers) + 30
        boxes: list[Box] = []
        bands: list[Band] = []
        for place, layer in enumerate(self.layers):
            bottom = height - 15 - _END - place * self.row
            bands.append(Band(f"layer {layer}", bottom - self.row + 5, bottom - 5))
            boxes += self._layer(layer, bottom)
        boxes += self._ends(height)
        return Layout(right + 8, height, {b.node: b for b in boxes}, bands, left, right)

    def _layer(self, layer: int, bottom: float) -> list[Box]:
        y = bottom - (40 if self.half_rows else self.row / 2)
        start = _LABELS + _SIDE + self.slack
        row = self.heads.get(layer, [])
        first = start + (self.attention_width - self.pitch * len(row)) / 2 + self.pitch / 2
        tall = _TALL if self.graph.split_qkv else _LOW
        boxes = [
            self._box(node, first + i * self.pitch, y, self.head_width, tall)
            for i, node in enumerate(row)
        ]
        if layer in self.mlps:
            x = start + self.attention_width + _GAP + self.pitch / 2
            up = bottom - self.row + 30 if self.half_rows else y
            boxes.append(self._box(self.mlps[layer], x, up, self.head_width, _LOW))
        return boxes

    def _ends(self, height: float) -> list[Box]:
        middle = _LABELS + _SIDE + self.content / 2
        embeddings = [n for n in self.ends if n.kind != "logits"]
        boxes = []
        for i, node in enumerate(embeddings):
            x = middle + (i - (len(embeddings) - 1) / 2) * 140
            boxes.append(self._box(node, x, height - 15 - _LOW / 2, self._wide(node), _LOW))
        boxes += [
            self._box(logits, middle, 15 + _LOW / 2, self._wide(logits), _LOW)
            for logits in self.ends
            if logits.kind == "logits"
        ]
        return boxes

    def _wide(self, node: Node) -> float:
        return _LETTER * len(node.part) + 26

    def _box(self, node: Node, x: float, y: float, width: float, height: float) -> Box:
        return Box(node, x, y, width, height, node in self.kept)
