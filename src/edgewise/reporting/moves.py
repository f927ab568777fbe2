"""What a drawing of spans has besides: the spans' names, and where heads carry what they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgewise.graph import Graph, Node, Port
from edgewise.reporting.layout import Box, Layout
from edgewise.reporting.markup import Markup, el


def titles(layout: Layout) -> list[Markup]:
    """The spans' names, above their nodes."""
    return [el("text", title.text, x=title.x, y=-8.0, class_="span") for title in layout.titles]


def moves(
    graph: Graph, layout: Layout, *, entering: Mapping[Port, int], leaving: Mapping[Node, int]
) -> Iterator[Markup]:
    """A dotted line from each node with edges into its keys or values to heads that are read.

    These are the same head at other spans, or heads of the group of a key/value head.
    """
    reads = {port.node for port, n in entering.items() if n and port.slot != "q"}
    attention = ("head", "kv", "attention")
    for source in layout.boxes.values():
        if source.node not in reads or source.node.kind not in attention:
            continue
        for head in graph.group(replace(source.node, span=None)):
            for node in graph.at_spans(head):
                target = layout.boxes.get(node)
                if target and leaving.get(node) and node.span != source.node.span:
                    yield _move(source, target)


def _move(source: Box, target: Box) -> Markup:
    right = target.x > source.x
    x1 = source.x + source.width / 2 * (1 if right else -1)
    x2 = target.x - target.width / 2 * (1 if right else -1)
    y = source.y - 6
    lift = min(26.0, 10 + abs(x2 - x1) / 20)
    who = "it" if source.node.part == target.node.part else source.node.part
    tip = f"{target.node.part} carries what {who} reads at {source.node.span} to {target.node.span}"
    path = f"M{x1:.1f} {y:.1f}C{x1:.1f} {y - lift:.1f} {x2:.1f} {y - lift:.1f} {x2:.1f} {y:.1f}"
    return el("path", el("title", tip), d=path, class_="move")
