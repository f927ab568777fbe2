"""What stands above a circuit drawing: the key to colours and widths, and its controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgewise.graph import SLOTS, Graph
from edgewise.reporting.groups import NodeGroups
from edgewise.reporting.markup import Markup, el
from edgewise.tables import number

_SLIDER_FROM = 30  # fewer curves need no slider
_SLOT_NAMES = {"q": "query", "k": "key", "v": "value"}
_ZOOMS = (("−", "smaller", "out"), ("+", "larger", "in"), ("fit", "fit the window", "fit"))


@dataclass(frozen=True)
class Drawn:
    """What the legend must know of a drawing; the scores are its curves', strongest first."""

    graph: Graph
    scores: Sequence[float]
    slots: frozenset[str | None]
    n_kept: int  # edges that could be curves, drawn or not
    line_width: Callable[[float], float]
    groups: NodeGroups


def legend(drawn: Drawn) -> Markup:
    """The key and the controls of a drawing. The controls are hidden without JavaScript."""
    return el("div", _key(drawn), _controls(drawn), _groups(drawn.groups), class_="drawing-head")


def _key(drawn: Drawn) -> Markup:
    plain = "MLP, logits" if drawn.graph.split_qkv else "edge"
    items = [_toggle(slot, _SLOT_NAMES[slot]) for slot in SLOTS if slot in drawn.slots]
    items += [_toggle("plain", plain)] if None in drawn.slots else []
    items += _widths(drawn)
    if any(score < 0 for score in drawn.scores):
        items.append(key_entry(line_sample("plain", 2.5, " negative"), "negative score"))
    if drawn.graph.switches:
        items.append(key_entry(_dot(""), "switch kept"))
        items.append(key_entry(_dot(" hollow"), "switch removed"))
    return el("div", *items, class_="legend")


def _groups(groups: NodeGroups) -> Markup | None:
    """The colours of the groups of nodes, and how many nodes each has here."""
    items = [
        el(
            "span",
            el("i", class_=f"box {groups.colour(name)}"),
            f"{name} ({len(nodes)})",
            class_="key",
        )
        for name, nodes in groups.members.items()
    ]
    return el("div", *items, class_="legend groups") if items else None


def _toggle(colour: str, label: str) -> Markup:
    """A legend entry that shows or hides its edges."""
    box = el("input", type="checkbox", checked="", class_="show scripted", data_slot=colour)
    return el("label", box, line_sample(colour, 3.0), label, class_="key")


def _widths(drawn: Drawn) -> list[Markup]:
    """Sample lines of the largest and the smallest |score|."""
    sizes = [abs(score) for score in drawn.scores]
    if not any(sizes):
        return []
    samples = [sizes[0], *([sizes[-1]] if sizes[-1] < 0.7 * sizes[0] else [])]
    lines = [key_entry(line_sample("plain", drawn.line_width(s)), number(s, 2)) for s in samples]
    return [el("span", "|score|", class_="key muted"), *lines]


def _controls(drawn: Drawn) -> Markup:
    n = len(drawn.scores)
    slider = el(
        "label",
        "strongest ",
        el("input", type="range", min=1, max=n, value=n, class_="strongest"),
        el("output", f"{n:,}"),
        f" of {drawn.n_kept:,}",
    )
    buttons = [
        el("button", label, type="button", title=title, data_zoom=zoom)
        for label, title, zoom in _ZOOMS
    ]
    return el(
        "div",
        slider if n > _SLIDER_FROM else None,
        el("span", *buttons, class_="zoom"),
        class_="controls scripted",
    )


def key_entry(sample: Markup, label: str) -> Markup:
    """A sample and what it means."""
    return el("span", sample, label, class_="key")


def line_sample(colour: str, width: float, extra: str = "") -> Markup:
    """A short line of a style of the drawings: q, k, v or plain."""
    style = f"e {colour}{extra}"
    path = el("path", d="M1 6H25", class_=style, stroke_width=round(width, 2))
    return el("svg", path, viewBox="0 0 26 12", width=26, height=12, aria_hidden="true")


def _dot(state: str) -> Markup:
    circle = el("circle", cx=6, cy=6, r=3.8, class_=f"dot plain{state}")
    return el("svg", circle, viewBox="0 0 12 12", width=12, height=12, aria_hidden="true")
