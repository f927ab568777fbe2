"""The paper's figures: ROC curves (Figure 3), and how circuits do against their size (Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from edgewise.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart
from edgewise.reporting.legend import key_entry, line_sample
from edgewise.reporting.markup import Markup, coordinate, el
from edgewise.reporting.scales import Axis, axis
from edgewise.reproduce.results import Group, Results, described
from edgewise.tables import number

NAMES = {"acdc": "ACDC", "sp": "SP", "hisp": "HISP", "random": "random circuits"}
_COLOURS = {"acdc": "q", "sp": "k", "hisp": "v", "random": "plain"}
_METHODS = ("acdc", "sp", "hisp")

Point = Mapping[str, Any]


@dataclass(frozen=True)
class _Series:
    label: str
    style: str  # of the line, and of its dots
    points: Sequence[Point]


def legend(*, chance: bool) -> Markup:
    """The key to the figures; `chance`: with random circuits and reset networks."""
    items = [key_entry(line_sample(_COLOURS[name], 2.5), NAMES[name]) for name in _METHODS]
    if chance:
        items.append(key_entry(line_sample("plain", 2.5), NAMES["random"]))
        items.append(key_entry(line_sample("plain", 2.5, " negative"), "on the reset network"))
    return el("div", *items, class_="legend")


def roc(results: Results, subject: str, metric: str, ablation: str) -> Markup | None:
    """TPR against FPR of edges for each method; None if no circuit is published."""
    x, y = Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    marks, areas = [], []
    for method in _METHODS:
        group = Group(subject, method, metric, ablation)
        area = results.area(group)
        if area is None:
            continue
        areas.append(f"{NAMES[method]} {area.edge_auc:.3f} ({area.n_circuits})")
        points = results.points(group)
        marks.append(_steps(points, x, y, _COLOURS[method]))
        marks += [_roc_dot(p, x, y, method) for p in _distinct(points, "edges")]
    if not marks:
        return None
    caption = f"Edge AUC (circuits): {', '.join(areas)}. Steps go right, then up: nothing is "
    caption += "credited between two circuits."
    title = f"{subject}: {metric}, {ablation} activations"
    return chart(title, "TPR of edges", (x, y), marks, caption, x_label="FPR of edges", whole=False)


def _steps(points: Sequence[Point], x: Axis, y: Axis, colour: str) -> Markup:
    """The best rates so far, as the pessimistic area credits them."""
    places = sorted((p["edges"]["fpr"], p["edges"]["tpr"]) for p in points)
    path, best = f"M{coordinate(x.at(0))} {coordinate(y.at(0))}", 0.0
    for fpr, tpr in [*places, (1.0, 1.0)]:
        if tpr > best:
            best = tpr
            path += f"H{x.at(fpr):.1f}V{y.at(tpr):.1f}"
    return el("path", d=path, class_=f"e {colour}", stroke_width=2)


def _roc_dot(point: Point, x: Axis, y: Axis, method: str) -> Markup:
    edges = point["edges"]
    tip = f"{NAMES[method]}, {number(point['value'])}: {point['n_edges']} edges\n"
    tip += f"{edges['true_positives']} of {edges['n_true']} published, "
    tip += f"{edges['false_positives']} others"
    return _dot(x.at(edges["fpr"]), y.at(edges["tpr"]), _COLOURS[method], tip)


def by_size(results: Results, subject: str, metric: str, ablation: str) -> Markup | None:
    """A measure on held-out prompts against the number of edges; the measure is what was minimised.

    Beside the methods: random circuits (median and range of each size), and the reset network.
    """
    series = _series(results, subject, metric, ablation)
    about = results.about(subject, metric, ablation)
    if not series or about is None:
        return None
    full, empty = about["baselines"][metric]
    values = [p["test"][metric] for s in series for p in s.points]
    x = Axis(0.0, float(about["n_edges"]), LEFT, WIDTH - RIGHT, knee=1.0)
    y = axis([*values, full, empty], HEIGHT - BOTTOM, TOP)
    marks = [_level(full, y, "full model"), _level(empty, y, "no edges")]
    for one in reversed(series):  # ACDC on top
        marks += _curve(one, metric, x, y)
    caption = f"{about['n_test']} {'held-out ' if about['held_out'] else ''}prompts of "
    caption += f"{about['model']}, seed {results.subject(subject)['seed']}. "
    caption += "Dashed: full model and no edges."
    title = f"{subject}: found with {metric}, {ablation} activations"
    return chart(title, described(metric), (x, y), marks, caption, x_label="edges")


def _series(results: Results, subject: str, metric: str, ablation: str) -> list[_Series]:
    found = []
    group = Group(subject, "acdc", metric, ablation)
    for method in _METHODS:
        own = replace(group, method=method)
        found.append(_Series(NAMES[method], _COLOURS[method], results.points(own)))
        found.append(
            _Series(
                f"{NAMES[method]}, reset network",
                f"{_COLOURS[method]} negative",
                results.points(replace(own, reset=True)),
            )
        )
    first = results.subject(subject)["metrics"][0]  # chance is the same whatever is minimised
    chance = results.points(replace(group, method="random", metric=first))
    found.append(_Series(NAMES["random"], "plain", chance))
    return [s for s in found if s.points]


def _curve(series: _Series, measure: str, x: Axis, y: Axis) -> list[Markup]:
    """A line through the points in order of size, and a dot for each."""
    if series.style == "plain":
        return _band(series, measure, x, y)
    places = sorted({(p["n_edges"], p["test"][measure], p["value"]) for p in series.points})
    line = "L".join(f"{x.at(n):.1f} {y.at(value):.1f}" for n, value, _ in places)
    marks = [el("path", d=f"M{line}", class_=f"e {series.style}", stroke_width=2)]
    colour = series.style.split()[0] + (" hollow" if "negative" in series.style else "")
    for n, value, setting in places:
        tip = f"{series.label}, {number(setting)}\n{n} edges: {number(value, 4)}"
        marks.append(_dot(x.at(n), y.at(value), colour, tip))
    return marks


def _band(series: _Series, measure: str, x: Axis, y: Axis) -> list[Markup]:
    """The range of each size as a bar, and a line through the medians."""
    sizes: dict[int, list[float]] = {}
    for point in series.points:
        sizes.setdefault(point["n_edges"], []).append(point["test"][measure])
    middle = [(x.at(n), y.at(median(values))) for n, values in sorted(sizes.items())]
    line = "L".join(f"{at:.1f} {height:.1f}" for at, height in middle)
    marks = [el("path", d=f"M{line}", class_="e plain", stroke_width=2)]
    for n, values in sorted(sizes.items()):
        tip = f"{len(values)} random circuits of {n} edges\n{number(min(values))} to "
        tip += number(max(values))
        bar = f"M{x.at(n):.1f} {y.at(min(values)):.1f}V{y.at(max(values)):.1f}"
        marks.append(el("path", el("title", tip), d=bar, class_="e plain", stroke_width=5))
    return marks


def _level(value: float, y: Axis, what: str) -> Markup:
    path = f"M{LEFT:.0f} {y.at(value):.1f}H{WIDTH - RIGHT:.0f}"
    return el("path", el("title", f"{what}: {number(value, 4)}"), d=path, class_="limit")


def _dot(x: float, y: float, colour: str, tip: str) -> Markup:
    return el(
        "circle", el("title", tip), cx=round(x, 1), cy=round(y, 1), r=3, class_=f"dot {colour}"
    )


def _distinct(points: Sequence[Point], what: str) -> list[Point]:
    """One point for each place: the others would lie under it."""
    return list({(p[what]["fpr"], p[what]["tpr"]): p for p in points}.values())
