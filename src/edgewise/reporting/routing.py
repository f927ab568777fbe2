"""The curves of a circuit drawing: upwards, and around boxes that are not their own ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise.graph import Edge
from edgewise.reporting.layout import Box, Layout

Array = NDArray[np.float64]

_SHIFTS = (0, *(sign * size for size in (30, 60, 95, 135, 180, 240, 310) for sign in (1, -1)))
# Sideways shifts of a curve's two control points that are tried, the smallest first: both ends
# together, or one of them alone.
_BOWS = np.array(
    sorted(
        {bow for shift in _SHIFTS for bow in ((shift, shift), (shift, 0), (0, shift))},
        key=lambda bow: (max(abs(bow[0]), abs(bow[1])), bow),
    ),
    dtype=np.float64,
)
# What a shift may cost in pixels: crossing a box of the circuit is worse than any bow.
_KEPT_BOX, _FAINT_BOX, _OUTSIDE = 400.0, 150.0, 10_000.0
_CLEARANCE = 4.0
_STEP = 10.0  # pixels between the points at which a curve is looked at


@dataclass(frozen=True)
class Curve:
    """A cubic curve from a sender's top to a receiver's port, bowed sideways at its two ends."""

    x1: float
    y1: float
    x2: float
    y2: float
    bow: tuple[float, float] = (0.0, 0.0)

    @property
    def _reach(self) -> float:
        """How far the curve keeps going straight up at its ends: more where the way is longer."""
        return min(0.45 * (self.y1 - self.y2), 30 + 0.22 * (self.y1 - self.y2))

    @property
    def path(self) -> str:
        """The `d` of an SVG path."""
        c1, c2 = self.x1 + self.bow[0], self.x2 + self.bow[1]
        return (
            f"M{self.x1:.1f} {self.y1:.1f}C{c1:.1f} {self.y1 - self._reach:.1f} "
            f"{c2:.1f} {self.y2 + self._reach:.1f} {self.x2:.1f} {self.y2:.1f}"
        )

    def points(self, n: int, bows: Array | None = None) -> tuple[Array, Array]:
        """x and y at n parameters from sender to receiver; with `bows`, x [bow point] of each."""
        t = np.linspace(0.0, 1.0, n)
        first, second = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2
        start, end = (1 - t) ** 3 + first, second + t**3
        bows = np.array(self.bow) if bows is None else bows
        x = start * self.x1 + end * self.x2 + bows @ np.stack([first, second])
        y = start * self.y1 + end * self.y2 + (second - first) * self._reach
        return x, y


class _Row:
    """The boxes at one height, as arrays."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.nodes = [box.node for box in boxes]
        self.top = min(box.top for box in boxes) - _CLEARANCE
        self.bottom = max(box.bottom for box in boxes) + _CLEARANCE
        self.x = np.array([box.x for box in boxes])
        self.reach = np.array([box.width / 2 + _CLEARANCE for box in boxes])
        self.cost = np.array([_KEPT_BOX if box.kept else _FAINT_BOX for box in boxes])


class Router:
    """Finds, for every edge, the straightest curve that crosses the fewest boxes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        rows: dict[float, list[Box]] = defaultdict(list)
        for box in layout.boxes.values():
            rows[box.y].append(box)
        self._rows = [_Row(boxes) for boxes in rows.values()]

    def curve(self, edge: Edge) -> Curve:
        """The curve of one edge (not a switch)."""
        start = self._layout.boxes[edge.sender]
        end = self._layout.boxes[edge.receiver.node]
        port = (end.port_x(edge.receiver.slot), end.bottom)
        straight = Curve(start.x, start.top, *port)
        x, y = straight.points(2 + round((start.top - end.bottom) / _STEP), _BOWS)
        outside = (x <= self._layout.left) | (x >= self._layout.right)
        cost = np.abs(_BOWS).max(axis=1) + _OUTSIDE * outside.any(axis=1)
        for row in self._rows:
            inside = (y > row.top) & (y < row.bottom)
            if inside.any():
                own = [node in (edge.sender, edge.receiver.node) for node in row.nodes]
                hits = (np.abs(x[:, inside, None] - row.x) < row.reach).any(axis=1)
                cost += hits @ np.where(own, 0.0, row.cost)
        first, second = _BOWS[int(cost.argmin())].tolist()
        return Curve(start.x, start.top, *port, bow=(first, second))
