"""A chart of points: size against quality, by series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.scales import Axis, axis

WIDTH, HEIGHT = 700.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 14.0, 30.0, 46.0
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
    x = axis([0.0, *(dot.x for dot in dots)], _LEFT, WIDTH - _RIGHT, knee=knee)
    heights = [*(dot.y for dot in dots), *(level.y for level in levels)]
    y = axis(heights, HEIGHT - _BOTTOM, _TOP)
    across, up = labels
    svg = el(
        "svg",
        el("text", up, x=8, y=14, class_="axis-label"),
        *(_y_tick(y.at(value), label) for value, label in y.ticks()),
        *(_x_tick(x.at(value), label) for value, label in x.ticks()),
        el("text", across, x=(_LEFT + WIDTH) / 2, y=HEIGHT - 8, class_="axis-label middle"),
        *(_level(level, y) for level in levels),
        *(_series(one, place, x, y) for place, one in enumerate(series)),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label=title,
        class_="chart wide",
    )
    key = el("div", *(_key(one.name, place) for place, one in enumerate(series)), class_="legend")
    return el(
        "figure",
        el("h4", title),
        key if len(series) > 1 else None,
        el("div", svg, class_="canvas"),
        el("figcaption", caption),
    )


def _colour(place: int) -> str:
    return f"s{place % COLOURS + 1}"


def _series(one: Series, place: int, x: Axis, y: Axis) -> Markup:
    path = "M" + "L".join(f"{x.at(dot.x):.1f} {y.at(dot.y):.1f}" for dot in one.dots)
    line = el("path", d=path, class_="series") if one.line and len(one.dots) > 1 else None
    points = (
        el("circle", el("title", dot.tip), cx=round(x.at(dot.x), 1), cy=round(y.at(dot.y), 1), r=4)
        for dot in one.dots
    )
    return el("g", line, *points, class_=_colour(place))


def _key(name: str, place: int) -> Markup:
    circle = el("circle", cx=6, cy=6, r=4)
    mark = el("svg", circle, viewBox="0 0 12 12", width=12, height=12, class_=_colour(place))
    return el("span", mark, name, class_="key")


def _level(level: Level, y: Axis) -> Markup:
    line = el("path", d=f"M{_LEFT:.0f} {y.at(level.y):.1f}H{WIDTH - _RIGHT:.0f}", class_="limit")
    text = el("text", level.name, x=WIDTH - _RIGHT, y=y.at(level.y) - 5, class_="limit-label")
    return el("g", line, text)


def _y_tick(y: float, label: str) -> Markup:
    line = el("path", d=f"M{_LEFT:.0f} {y:.1f}H{WIDTH - _RIGHT:.0f}")
    return el("g", line, el("text", label, x=_LEFT - 8, y=y + 4), class_="tick y")


def _x_tick(x: float, label: str) -> Markup:
    line = el("path", d=f"M{x:.1f} {HEIGHT - _BOTTOM:.1f}v4")
    return el("g", line, el("text", label, x=x, y=HEIGHT - _BOTTOM + 18), class_="tick x")
