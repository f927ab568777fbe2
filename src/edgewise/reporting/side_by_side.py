"""The circuits of a comparison as pictures with every node in the same place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgewise.evaluation import Comparison
from edgewise.graph import Edge
from edgewise.reporting.drawing import bands, box_rect
from edgewise.reporting.layout import Box, Layout, lay_out
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.routing import Router
from edgewise.tables import count

_MOST_PICTURES = 12
_MOST_CURVES = 3_000  # in all pictures together
_KINDS = {"all": "in all circuits", "some": "in some", "only": "in this one only"}


def side_by_side(comparison: Comparison) -> Markup:
    """A picture of each circuit, or a sentence where they are too many or too large."""
    return _Pictures(comparison).figures()


@dataclass(frozen=True)
class _Pictures:
    """The pictures in the making."""

    comparison: Comparison

    @cached_property
    def layout(self) -> Layout:
        return lay_out(self.comparison.union)

    @cached_property
    def kinds(self) -> dict[Edge, str]:
        """Which colour each edge that can be a curve has."""
        total = len(self.comparison.names)
        names = {1: "only", total: "all"}
        return {
            edge: names.get(len(holders), "some")
            for edge, holders in self.comparison.presence()
            if not edge.is_switch
        }

    def figures(self) -> Markup:
        comparison = self.comparison
        curves = sum(c.n_edges for c in comparison.compared.values())
        if not curves:
            return el("p", "All the circuits are empty.", class_="empty")
        if len(comparison.names) > _MOST_PICTURES or curves > _MOST_CURVES:
            text = (
                f"{len(comparison.names):,} circuits with {curves:,} edges are too much for "
                "pictures side by side; the table below has the edges."
            )
            return el("p", text, class_="empty")
        present = set(self.kinds.values())
        key = (
            el("span", el("i", class_=f"swatch {kind}"), label, class_="key")
            for kind, label in _KINDS.items()
            if kind in present
        )
        paths = self._paths()
        figures = (self._figure(name, paths) for name in comparison.names)
        return el(
            "div",
            el("div", *key, class_="legend side-key"),
            el("div", *figures, class_="pictures"),
        )

    def _paths(self) -> dict[Edge, str]:
        """One way for each edge, so that it is the same line in every picture."""
        router = Router(self.layout)
        return {edge: router.curve(edge).path for edge in self.kinds}

    def _figure(self, name: str, paths: dict[Edge, str]) -> Markup:
        circuit, layout = self.comparison.compared[name], self.layout
        edges = [edge for edge in circuit.edges if not edge.is_switch]
        order = list(_KINDS)
        edges.sort(key=lambda edge: order.index(self.kinds[edge]))  # the rare ones on top
        touched = set(circuit.nodes)
        svg = el(
            "svg",
            el("g", *bands(layout)),
            el("g", *(self._curve(edge, paths[edge]) for edge in edges), class_="curves"),
            el("g", *(self._node(box, box.node in touched) for box in layout.boxes.values())),
            viewBox=f"0 0 {layout.width:.0f} {layout.height:.0f}",
            role="img",
            aria_label=f"{name}: {count(circuit.n_edges, 'edge')}",
            class_="circuit",
        )
        only = self.comparison.only(name).n_edges
        title = f"{name}: {count(circuit.n_edges, 'edge')}, {only:,} only here"
        return el(
            "figure",
            el("h4", title),
            el("div", svg, class_="canvas", style=f"--natural:{layout.width:.0f}px"),
            class_="drawing",
        )

    def _curve(self, edge: Edge, path: str) -> Markup:
        kind = self.kinds[edge]
        return el(
            "path",
            el("title", f"{edge.name}\n{_KINDS[kind]}"),
            d=path,
            class_=f"e {kind}",
            stroke_width=2,
            data_s=edge.sender.name,
            data_r=edge.receiver.node.name,
        )

    def _node(self, box: Box, there: bool) -> Markup:
        node = box.node
        kind = "head" if node.kind in ("head", "kv", "attention") else node.kind
        return el(
            "g",
            el("title", node.name if there else f"{node.name}\nnot in this circuit"),
            box_rect(box),
            el("text", node.name, x=box.x, y=box.y + 4, class_="name"),
            class_=f"n {kind}" + ("" if there else " absent"),
            data_n=node.name,
        )
