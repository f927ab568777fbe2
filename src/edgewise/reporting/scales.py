"""Axes of charts: from a value to a pixel, and ticks at round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgewise.tables import number


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` at pixel `start` to `high` at pixel `end`.

    With `knee`, values are spread by sign(v) log(1 + |v| / knee): linear around 0, logarithmic
    beyond the knee.
    """

    low: float
    high: float
    start: float
    end: float
    knee: float | None = None

    def at(self, value: float) -> float:
        """The pixel of a value; values outside the axis are put at its ends."""
        value = min(max(value, self.low), self.high)
        low, high = self._spread(self.low), self._spread(self.high)
        return self.start + (self.end - self.start) * (self._spread(value) - low) / (high - low)

    def _spread(self, value: float) -> float:
        if self.knee is None:
            return value
        return math.copysign(math.log1p(abs(value) / self.knee), value)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, with their labels."""
        if self.knee is not None:
            return [(value, number(value)) for value in self._power_ticks(self.knee)]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, _tick_label(i * step, step)) for i in range(first, last + 1)]

    def _power_ticks(self, knee: float) -> list[float]:
        powers = [10.0**e for e in range(math.floor(math.log10(knee)) + 1, 13)]
        positive = [p for p in powers if p <= self.high]
        negative = [-p for p in reversed(powers) if -p >= self.low]
        ticks = [*negative, 0.0, *positive]
        # Labels need room: drop ticks that sit too close to the one before.
        kept: list[float] = []
        for value in ticks:
            if not kept or abs(self.at(value) - self.at(kept[-1])) >= 14:
                kept.append(value)
        return kept


def axis(values: list[float], start: float, end: float, *, knee: float | None = None) -> Axis:
    """An axis that holds all values with a little room; a single value gets room around it."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(high) / 2 or 1.0
    else:
        room = 0.04 * (high - low)
    # Room below zero for quantities that are never negative would suggest that they can be.
    bottom = 0.0 if 0 <= low <= room else low - room
    return Axis(bottom, high + room, start, end, knee)


def _tick_label(value: float, step: float) -> str:
    """A value with the decimals that tell ticks a step apart."""
    decimals = -math.floor(math.log10(step) + 1e-9)
    if value == 0 or not -6 < decimals < 6:
        return number(value)
    return f"{value:,.{max(0, decimals)}f}".replace("-", "−")


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
