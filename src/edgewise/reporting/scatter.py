"""A chart of points: size against quality, by series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.scales import Axis, axis
from edgewise.tables import Chart

_LINEAR = 100.0  # the largest x of a linear axis
COLOURS = 8  # in style.css; more series begin again


@dataclass(frozen=True)
class Dot:
    """A point with its hover text."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class Series:
    """Points of one name; `line` joins them in the order given."""

    name: str
    dots: Sequence[Dot]
    line: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line with a name: a full model, an empty circuit."""

    name: str
    y: float


def scatter(
    title: str,
    labels: tuple[str, str],
    series: Sequence[Series],
    caption: str,
    *,
    levels: Sequence[Level] = (),
) -> Markup | None:
    """The chart, x from 0 and logarithmic if it goes far; None if there is nothing to show."""
    dots = [dot for one in series for dot in one.dots]
    if not dots:
        return None
    knee = 1.0 if max(dot.x for dot in dots) > _LINEAR else None
    x = axis([0.0, *(dot.x for dot in dots)], LEFT, WIDTH - RIGHT, knee=knee)
    heights = [*(dot.y for dot in dots), *(level.y for level in levels)]
    y = axis(heights, HEIGHT - BOTTOM, TOP)
    marks = [_level(level, y) for level in levels]
    marks += [_series(one, place, x, y) for place, one in enumerate(series)]
    across, up = labels
    figure = chart(title, up, (x, y), marks, caption, x_label=across, whole=False)
    key = el("div", *(_key(one.name, place) for place, one in enumerate(series)), class_="legend")
    return el("div", key if len(series) > 1 else None, figure)


def chart_figure(chart: Chart) -> Markup | None:
    """A chart of a result; None if there is nothing to show."""
    series = [
        Series(one.name, [Dot(mark.x, mark.y, mark.label) for mark in one.marks], one.line)
        for one in chart.series
    ]
    levels = [Level(name, y) for name, y in chart.levels]
    labels = chart.x.heading, chart.y.heading
    return scatter(chart.title, labels, series, chart.caption, levels=levels)


def _colour(place: int) -> str:
    return f"s{place % COLOURS + 1}"


def _series(one: Series, place: int, x: Axis, y: Axis) -> Markup:
    path = "M" + "L".join(f"{x.at(dot.x):.1f} {y.at(dot.y):.1f}" for dot in one.dots)
    line = el("path", d=path, class_="series") if one.line and len(one.dots) > 1 else None
    points = (
        el("circle", el("title", dot.tip), cx=round(x.at(dot.x), 1), cy=round(y.at(dot.y), 1), r=4)
        for dot in one.dots
        if dot.tip  # without, it is but a bend of the line
    )
    return el("g", line, *points, class_=_colour(place))


def _key(name: str, place: int) -> Markup:
    circle = el("circle", cx=6, cy=6, r=4)
    mark = el("svg", circle, viewBox="0 0 12 12", width=12, height=12, class_=_colour(place))
    return el("span", mark, name, class_="key")


def _level(level: Level, y: Axis) -> Markup:
    line = el("path", d=f"M{LEFT:.0f} {y.at(level.y):.1f}H{WIDTH - RIGHT:.0f}", class_="limit")
    text = el("text", level.name, x=WIDTH - RIGHT, y=y.at(level.y) - 5, class_="limit-label")
    return el("g", line, text)
