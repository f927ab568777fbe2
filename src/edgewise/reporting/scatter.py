"""A chart of points: size against quality, by series."""

from __future__ import annotations

from edgewise.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.scales import Axis, axis
from edgewise.tables import Chart, Series

_LINEAR = 100.0  # the largest x of a linear axis
COLOURS = 8  # in style.css; more series begin again


def chart_figure(of: Chart) -> Markup | None:
    """A result's chart, x from 0 and logarithmic if it goes far; None where nothing is to show."""
    marks = [mark for series in of.series for mark in series.marks]
    if not marks:
        return None
    knee = 1.0 if max(mark.x for mark in marks) > _LINEAR else None
    x = axis([0.0, *(mark.x for mark in marks)], LEFT, WIDTH - RIGHT, knee=knee)
    heights = [*(mark.y for mark in marks), *(height for _, height in of.levels)]
    y = axis(heights, HEIGHT - BOTTOM, TOP)
    drawn = [_level(name, height, y) for name, height in of.levels]
    drawn += [_series(series, place, x, y) for place, series in enumerate(of.series)]
    across = of.x.heading
    figure = chart(
        of.title,
        (x, y),
        drawn,
        caption=of.caption,
        y_label=of.y.heading,
        x_label=across,
        whole=False,
    )
    keys = [_key(series.name, place) for place, series in enumerate(of.series)]
    return el("div", el("div", *keys, class_="legend") if len(keys) > 1 else None, figure)


def _colour(place: int) -> str:
    return f"s{place % COLOURS + 1}"


def _series(series: Series, place: int, x: Axis, y: Axis) -> Markup:
    path = "M" + "L".join(f"{x.at(mark.x):.1f} {y.at(mark.y):.1f}" for mark in series.marks)
    line = el("path", d=path, class_="series") if series.line and len(series.marks) > 1 else None
    points = (
        el("circle", el("title", m.label), cx=round(x.at(m.x), 1), cy=round(y.at(m.y), 1), r=4)
        for m in series.marks
        if m.label  # without, it is but a bend of the line
    )
    return el("g", line, *points, class_=_colour(place))


def _key(name: str, place: int) -> Markup:
    circle = el("circle", cx=6, cy=6, r=4)
    mark = el("svg", circle, viewBox="0 0 12 12", width=12, height=12, class_=_colour(place))
    return el("span", mark, name, class_="key")


def _level(name: str, height: float, y: Axis) -> Markup:
    line = el("path", d=f"M{LEFT:.0f} {y.at(height):.1f}H{WIDTH - RIGHT:.0f}", class_="limit")
    text = el("text", name, x=WIDTH - RIGHT, y=y.at(height) - 5, class_="limit-label")
    return el("g", line, text)
