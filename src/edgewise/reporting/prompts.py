"""The strip plot of a circuit's metric on each prompt, between full model and empty circuit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.scales import Axis, axis
from edgewise.tables import count, measured, number

_WIDTH, _SIDE = 760.0, 24.0
_MARKS = {"full": "full model", "empty": "empty circuit", "circuit": "circuit, mean"}
_LABELS = 58.0  # height of their labels, above the dots
_COLUMN = 7.0  # dots closer than this sideways are stacked
_TALLEST = 120.0
_MOST_DOTS = 2_000


def prompt_plot(faith: Mapping[str, Any]) -> Markup | None:
    """One dot per prompt, stacked where they fall together; None without numbers per prompt."""
    values = [float(v) for v in faith.get("per_prompt", ())]
    if not values:
        return None
    x = axis([*values, *(float(faith[name]) for name in _MARKS)], _SIDE, _WIDTH - _SIDE)
    shown = list(enumerate(values))[:_MOST_DOTS]
    depth = max(Counter(_column(x, v) for v in values[:_MOST_DOTS]).values())
    pitch = min(8.0, _TALLEST / depth)
    floor = _LABELS + 10 + max(26.0, depth * pitch)
    svg = el(
        "svg",
        *(
            _mark(x.at(float(faith[name])), floor, place, name, _label(name, faith))
            for place, name in enumerate(_MARKS)
        ),
        *_dots(x, shown, floor, pitch, faith),
        el("path", d=f"M{_SIDE:.0f} {floor:.1f}H{_WIDTH - _SIDE:.0f}", class_="floor"),
        *(_tick(x.at(value), floor, label) for value, label in x.ticks()),
        el("text", _axis_label(faith), x=_WIDTH / 2, y=floor + 38, class_="axis-label middle"),
        viewBox=f"0 0 {_WIDTH:.0f} {floor + 46:.0f}",
        role="img",
        aria_label=f"{faith['metric']} of the circuit on each prompt",
        class_="chart wide",
    )
    return el("figure", el("div", svg, class_="canvas"), el("figcaption", _caption(faith, values)))


def _axis_label(faith: Mapping[str, Any]) -> str:
    better = "higher" if faith["higher_is_better"] else "lower"
    unit = f" ({faith['unit']})" if faith["unit"] else ""
    return f"{faith['metric']}{unit} of the circuit, {better} is better"


def _caption(faith: Mapping[str, Any], values: list[float]) -> str:
    worst = faith["spread"]["worst"]
    caption = f"A dot is a prompt; the ringed one is the worst (prompt {worst}, counted from 0)."
    if len(values) > _MOST_DOTS:
        caption += f" Shown: the first {_MOST_DOTS:,} of {count(len(values), 'prompt')}."
    return caption


def _column(x: Axis, value: float) -> int:
    return int(x.at(value) / _COLUMN)


def _dots(
    x: Axis, shown: list[tuple[int, float]], floor: float, pitch: float, faith: Mapping[str, Any]
) -> list[Markup]:
    heights: Counter[int] = Counter()
    dots = []
    for index, value in shown:
        column = _column(x, value)
        y = floor - 7 - heights[column] * pitch
        heights[column] += 1
        tip = f"prompt {index}: {number(value, 4)}"
        style = "pt prompt" + (" worst" if index == faith["spread"]["worst"] else "")
        dots.append(
            el("circle", el("title", tip), cx=round(x.at(value), 1), cy=y, r=3.5, class_=style)
        )
    return dots


def _mark(at: float, floor: float, place: int, name: str, label: str) -> Markup:
    """A vertical line with its label at a height of its own, so that labels never collide."""
    y = 14.0 + 17 * place
    side = (6, "start") if at < _WIDTH / 2 else (-6, "end")
    line = el("path", d=f"M{at:.1f} {y - 10:.1f}V{floor:.1f}")
    text = el("text", label, x=at + side[0], y=y, text_anchor=side[1])
    return el("g", line, text, class_=f"mark {name}")


def _label(name: str, faith: Mapping[str, Any]) -> str:
    scale = max(abs(faith["full"]), abs(faith["empty"]))
    return f"{_MARKS[name]} {measured(faith[name], faith['unit'], scale=scale)}"


def _tick(x: float, floor: float, label: str) -> Markup:
    line = el("path", d=f"M{x:.1f} {floor:.1f}v4")
    return el("g", line, el("text", label, x=x, y=floor + 18), class_="tick x")
