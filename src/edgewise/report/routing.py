"""The curves of a circuit drawing: upwards, and around boxes that are not their own ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from edgewise.graph import Edge
from edgewise.report.layout import Box, Layout

# Sideways shifts of a curve's control points that are tried, the smallest first.
_BOWS = (0.0, *(sign * size for size in (30, 60, 95, 135, 180, 240, 310) for sign in (1.0, -1.0)))
_STEPS = [i / 24 for i in range(1, 24)]
_CLEARANCE = 5.0


@dataclass(frozen=True)
class Curve:
    """A cubic curve from a sender's top to a receiver's port, bowed sideways by `bow`."""

    x1: float
    y1: float
    x2: float
    y2: float
    bow: float

    @property
    def _reach(self) -> float:
        """How far the curve keeps going straight up at its ends: more where the way is longer."""
        return min(0.45 * (self.y1 - self.y2), 30 + 0.22 * (self.y1 - self.y2))

    @property
    def path(self) -> str:
        """The `d` of an SVG path."""
        c1, c2 = self.x1 + self.bow, self.x2 + self.bow
        return (
            f"M{self.x1:.1f} {self.y1:.1f}C{c1:.1f} {self.y1 - self._reach:.1f} "
            f"{c2:.1f} {self.y2 + self._reach:.1f} {self.x2:.1f} {self.y2:.1f}"
        )

    def at(self, t: float) -> tuple[float, float]:
        """The point at parameter t, 0 at the sender and 1 at the receiver."""
        u = 1 - t
        a, b, c, d = u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t
        x = a * self.x1 + b * (self.x1 + self.bow) + c * (self.x2 + self.bow) + d * self.x2
        y = (a + b) * self.y1 + (c + d) * self.y2 + (c - b) * self._reach
        return x, y


class Router:
    """Finds, for every edge, the straightest curve that crosses the fewest boxes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        rows: dict[float, list[Box]] = defaultdict(list)
        for box in layout.boxes.values():
            rows[box.y].append(box)
        self._rows = [sorted(row, key=lambda box: box.x) for _, row in sorted(rows.items())]
        self._tops = [row[0].top - _CLEARANCE for row in self._rows]
        self._xs = [[box.x for box in row] for row in self._rows]

    def curve(self, edge: Edge) -> Curve:
        """The curve of one edge (not a switch)."""
        start = self._layout.boxes[edge.sender]
        end = self._layout.boxes[edge.receiver.node]
        candidates = (
            Curve(start.x, start.top, end.port_x(edge.receiver.slot), end.bottom, bow)
            for bow in _BOWS
        )
        best, best_cost = None, float("inf")
        for curve in candidates:
            cost = self._cost(curve, start, end)
            if cost < best_cost:
                best, best_cost = curve, cost
            if best_cost <= abs(curve.bow):  # a wider bow cannot be better
                break
        assert best is not None
        return best

    def _cost(self, curve: Curve, start: Box, end: Box) -> float:
        points = [curve.at(t) for t in _STEPS]
        cost = abs(curve.bow)
        if any(not self._layout.left < x < self._layout.right for x, _ in points):
            cost += 10_000
        for box in self._boxes_on(points):
            if box is not start and box is not end:
                cost += 400 if box.kept else 150
        return cost

    def _boxes_on(self, points: Iterable[tuple[float, float]]) -> set[Box]:
        """The boxes that a polyline enters; it is refined where it is steep enough to skip one."""
        crossed = set()
        for (xa, ya), (xb, yb) in pairwise(points):
            n = max(1, round(abs(ya - yb) / 12))
            for i in range(n):
                box = self._box_at(xa + (xb - xa) * i / n, ya + (yb - ya) * i / n)
                if box is not None:
                    crossed.add(box)
        return crossed

    def _box_at(self, x: float, y: float) -> Box | None:
        place = bisect_right(self._tops, y) - 1
        if place < 0 or y > self._rows[place][0].bottom + _CLEARANCE:
            return None
        row, xs = self._rows[place], self._xs[place]
        near = bisect_left(xs, x)
        for box in row[max(0, near - 1) : near + 1]:
            if abs(box.x - x) < box.width / 2 + _CLEARANCE:
                return box
        return None
