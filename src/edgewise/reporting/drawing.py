"""The circuit as an SVG picture with its legend and controls.

Width of a line: in proportion to the edge's |score|, on top of a thinnest line. Colour: the slot
that the edge enters. Dashed: a negative score. Hover texts are `<title>` elements, which work
without JavaScript; page.js turns them into quicker ones.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from edgewise.graph import SLOTS, Edge, Graph, Node, Port
from edgewise.reporting.groups import NodeGroups
from edgewise.reporting.layout import SHOW_ALL, Box, Layout, lay_out
from edgewise.reporting.legend import Drawn, legend
from edgewise.reporting.markup import Markup, el, join
from edgewise.reporting.moves import moves, titles
from edgewise.reporting.routing import Router
from edgewise.run import Run
from edgewise.tables import count, number

# More curves than this are a grey blur, and a file of many megabytes.
MOST_CURVES = 1_500
_THIN, _THICK = 1.0, 7.0


def drawing(run: Run, groups: NodeGroups) -> Markup:
    """The picture of a run's circuit, or a sentence where there is nothing to draw."""
    if not run.circuit.edges:
        total = count(run.circuit.graph.n_edges, "edge")
        return el("p", f"The circuit is empty: none of its {total} is kept.", class_="empty")
    return _Drawing(run, groups).figure()


def bands(layout: Layout) -> list[Markup]:
    """The layers' backgrounds, with their names."""
    return [
        join(
            el(
                "rect",
                x=8.0,
                y=band.top,
                width=layout.right - 8,
                height=band.bottom - band.top,
                rx=10,
                class_="band",
            ),
            el("text", band.label, x=22.0, y=(band.top + band.bottom) / 2 + 4, class_="layer"),
        )
        for band in layout.bands
    ]


def box_rect(box: Box) -> Markup:
    """The outline of a node: heads have sharper corners."""
    return el(
        "rect",
        x=box.x - box.width / 2,
        y=box.top,
        width=box.width,
        height=box.height,
        rx=7 if box.node.kind in ("head", "kv", "attention") else 14,
    )


@dataclass(frozen=True)
class _Drawing:
    """One picture in the making."""

    run: Run
    groups: NodeGroups

    @property
    def graph(self) -> Graph:
        return self.run.circuit.graph

    @cached_property
    def layout(self) -> Layout:
        return lay_out(self.run.circuit)

    @cached_property
    def additive(self) -> list[Edge]:
        """The kept edges that are curves, strongest first; ties in canonical order."""
        edges = [edge for edge in self.run.circuit.edges if not edge.is_switch]
        return sorted(edges, key=lambda edge: -abs(self.run.scores.of(edge)))

    @cached_property
    def curves(self) -> list[Edge]:
        return self.additive[:MOST_CURVES]

    @cached_property
    def largest(self) -> float:
        return max((abs(self.run.scores.of(edge)) for edge in self.curves), default=0.0)

    @cached_property
    def entering(self) -> Counter[Port]:
        return Counter(edge.receiver for edge in self.additive)

    @cached_property
    def leaving(self) -> Counter[Node]:
        return Counter(edge.sender for edge in self.additive)

    def line_width(self, score: float) -> float:
        if not self.largest:
            return 2.0
        return _THIN + (_THICK - _THIN) * abs(score) / self.largest

    # --- the figure

    def figure(self) -> Markup:
        width = self.layout.width
        return el(
            "figure",
            legend(
                Drawn(
                    self.graph,
                    [self.run.scores.of(edge) for edge in self.curves],
                    frozenset(edge.receiver.slot for edge in self.curves),
                    len(self.additive),
                    self.line_width,
                    self.groups,
                )
            ),
            el(
                "div",
                self.svg(),
                class_="canvas",
                # Shrinks to the window, but never below what one can read.
                style=f"--natural:{width:.0f}px",
            ),
            el("figcaption", self._caption()),
            class_="drawing",
        )

    def svg(self) -> Markup:
        layout = self.layout
        above = 26 if layout.titles else 0  # room for them
        size = f"0 {-above} {layout.width:.0f} {layout.height + above:.0f}"
        opacity = min(0.9, max(0.4, 1.05 - 0.09 * math.log2(1 + len(self.curves))))
        return el(
            "svg",
            el("g", *bands(layout), *titles(layout)),
            el(
                "g",
                *moves(self.graph, layout, entering=self.entering, leaving=self.leaving),
                fill="none",
            ),
            el(
                "g", *self._curves(), class_="curves", style=f"--opacity:{opacity:.2f}", fill="none"
            ),
            el("g", *(self._node(box) for box in layout.boxes.values())),
            viewBox=size,
            role="img",
            aria_label=f"Circuit of {count(self.run.circuit.n_edges, 'edge')}",
            class_="circuit",
        )

    def _curves(self) -> list[Markup]:
        router = Router(self.layout)
        ranked = list(enumerate(self.curves, start=1))
        return [self._curve(router, rank, edge) for rank, edge in reversed(ranked)]

    def _curve(self, router: Router, rank: int, edge: Edge) -> Markup:
        score = self.run.scores.of(edge)
        tip = (
            f"{edge.name}\nscore {number(score, 4)}: {self.run.scores.meaning}\n"
            f"rank {rank:,} of {len(self.additive):,}"
        )
        return el(
            "path",
            el("title", tip),
            d=router.curve(edge).path,
            class_=f"e {edge.receiver.slot or 'plain'}" + (" negative" if score < 0 else ""),
            stroke_width=round(self.line_width(score), 2),
            data_s=edge.sender.name,
            data_r=edge.receiver.node.name,
            data_rank=rank,
        )

    # --- nodes and their ports

    def _node(self, box: Box) -> Markup:
        node, ports = box.node, self._ports(box)
        lettered = any(port.slot for port in ports)
        kind = "head" if node.kind in ("head", "kv", "attention") else node.kind
        group = self.groups.of(node)
        colour = "" if group is None else f" {self.groups.colour(group)}"
        return el(
            "g",
            el("title", self._node_tip(node, ports)),
            box_rect(box),
            el("text", node.part, x=box.x, y=box.y + (-2.5 if lettered else 4), class_="name"),
            *(self._port(box, port) for port in ports),
            class_=f"n {kind}{colour}" + ("" if box.kept else " absent"),
            data_n=node.name,
        )

    def _ports(self, box: Box) -> list[Port]:
        node, shared = box.node, self.graph.kv_heads is not None
        if node.kind == "kv" or (node.kind == "head" and shared):
            return [Port(node, slot) for slot in SLOTS if (slot == "q") == (node.kind == "head")]
        if node.kind in ("head", "attention") and self.graph.split_qkv:
            return [Port(node, slot) for slot in SLOTS]
        return [] if node.kind in ("input", "tok_embed", "pos_embed") else [Port(node)]

    def _port(self, box: Box, port: Port) -> Markup | None:
        x, colour = box.port_x(port.slot), port.slot or "plain"
        entered = self.entering[port] > 0
        letter = None
        if port.slot is not None:
            style = f"slot {colour}" if entered else "slot"
            letter = el("text", port.slot, x=x, y=box.bottom - 7.5, class_=style)
        switched = self.graph.switches and port.node.kind in ("head", "attention")
        if not box.kept or not (switched or entered):
            return letter
        open_ = not switched or port.switch in self.run.circuit
        state = "dot " + (colour if open_ else f"{colour} hollow")
        return join(letter, el("circle", cx=x, cy=box.bottom, r=3.4, class_=state))

    def _node_tip(self, node: Node, ports: list[Port]) -> str:
        entering = [(port, self.entering[port]) for port in ports]
        group = self.groups.of(node)
        lines = [node.name if group is None else f"{node.name}: {group}"]
        if ports:
            each = ", ".join(f"{p.slot} {n:,}" for p, n in entering if p.slot is not None)
            total = count(sum(n for _, n in entering), "edge")
            lines.append(f"{total} in" + (f" ({each})" if each else ""))
        if node.kind == "kv":
            lines.append("keys and values of " + ", ".join(n.name for n in self.graph.group(node)))
        elif node.kind != "logits":
            lines.append(f"{count(self.leaving[node], 'edge')} out")
        if self.graph.switches and node.kind in ("head", "attention"):
            live = [p.slot or "input" for p in ports if p.switch in self.run.circuit]
            lines.append("switches kept: " + (", ".join(live) or "none"))
        return "\n".join(lines)

    # --- caption

    def _caption(self) -> str:
        kept, total = len(self.additive), self.run.circuit.n_edges
        parts = ["Data flows upwards."]
        if self.graph.spans is not None:
            parts.append(
                "Each column has the positions of one span; dotted lines join a head's keys and "
                "values there to the head where its output is read."
            )
        if self.graph.switches:
            switches = count(total - kept, "kept switch", "kept switches")
            parts.append(f"{count(kept, 'kept edge')} as curves, {switches} as filled dots.")
        if kept > len(self.curves):
            parts.append(f"Only the {len(self.curves):,} strongest of {kept:,} edges are drawn.")
        if len(self.run.circuit.nodes) < len(self.graph.nodes):
            whole = len(self.graph.nodes) <= SHOW_ALL
            faint = "Faint nodes are not part of the circuit."
            parts.append(faint if whole else "Nodes that no kept edge touches are left out.")
        parts.append("Point at a node to see its edges alone; click it to keep them marked.")
        return " ".join(parts)
