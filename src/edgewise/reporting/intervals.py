"""A chart of means with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgewise.leaderboards import Estimate
from edgewise.reporting.markup import Markup, el

_WIDTH, _LEFT, _RIGHT, _LINE, _TOP = 760.0, 190.0, 16.0, 24.0, 30.0


def interval_chart(
    title: str, rows: Sequence[tuple[str, Estimate]], lines: Sequence[tuple[str, float]]
) -> Markup:
    """A dot and an interval for each row, between 0 and 1; dashed vertical lines with names."""
    bottom = _TOP + _LINE * len(rows)

    def at(value: float) -> float:
        return round(_LEFT + value * (_WIDTH - _RIGHT - _LEFT), 1)

    marks = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        line = el("path", d=f"M{at(tick)} {_TOP:.0f}V{bottom:.0f}")
        label = el("text", f"{tick:g}", x=at(tick), y=bottom + 18)
        marks.append(el("g", line, label, class_="tick x grid"))
    for name, value in lines:
        marks.append(el("path", d=f"M{at(value)} {_TOP:.0f}V{bottom:.0f}", class_="limit"))
        marks.append(el("text", name, x=at(value), y=_TOP - 8, class_="limit-label middle"))
    for i, (name, estimate) in enumerate(rows):
        marks.append(_whisker(name, estimate, _TOP + _LINE * (i + 0.5), at))
    svg = el(
        "svg",
        *marks,
        viewBox=f"0 0 {_WIDTH:.0f} {bottom + 30:.0f}",
        role="img",
        aria_label=title,
        class_="chart wide",
    )
    return el("figure", el("h4", title), el("div", svg, class_="canvas"))


def _whisker(name: str, estimate: Estimate, y: float, at: Callable[[float], float]) -> Markup:
    line = None
    if estimate.low is not None and estimate.high is not None:
        line = el("path", d=f"M{at(estimate.low)} {y}H{at(estimate.high)}", class_="whisker")
    tip = f"{name}\n{estimate.in_words(3)}, n = {estimate.n_programs} programs"
    return el(
        "g",
        line,
        el("circle", el("title", tip), cx=at(estimate.mean), cy=y, r=4.5, class_="pt kept"),
        el("text", name, x=_LEFT - 12, y=y + 4, class_="end"),
    )
