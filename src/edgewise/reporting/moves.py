"""What a drawing of spans has besides: the spans' names, and where heads carry what they read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgewise.graph import Node, Port
from edgewise.reporting.layout import Box, Layout
from edgewise.reporting.markup import Markup, el


def titles(layout: Layout) -> list[Markup]:
    """The spans' names, above their nodes."""
    return [el("text", title.text, x=title.x, y=-8.0, class_="span") for title in layout.titles]


def moves(
    layout: Layout, entering: Mapping[Port, int], leaving: Mapping[Node, int]
) -> Iterator[Markup]:
    """A dotted line from each head with live keys or values to the same head where it is read."""
    places: dict[Node, list[Box]] = defaultdict(list)
    for node, box in layout.boxes.items():
        if node.kind in ("head", "attention") and node.span is not None:
            places[replace(node, span=None)].append(box)
    reads = {port.node for port, n in entering.items() if n and port.slot != "q"}
    for node, boxes in places.items():
        for source in boxes:
            for target in boxes:
                if source is not target and source.node in reads and leaving.get(target.node):
                    yield _move(node, source, target)


def _move(node: Node, source: Box, target: Box) -> Markup:
    right = target.x > source.x
    x1 = source.x + source.width / 2 * (1 if right else -1)
    x2 = target.x - target.width / 2 * (1 if right else -1)
    y = source.y - 6
    lift = min(26.0, 10 + abs(x2 - x1) / 20)
    tip = f"{node.name} carries what it reads at {source.node.span} to {target.node.span}"
    path = f"M{x1:.1f} {y:.1f}C{x1:.1f} {y - lift:.1f} {x2:.1f} {y - lift:.1f} {x2:.1f} {y:.1f}"
    return el("path", el("title", tip), d=path, class_="move")
