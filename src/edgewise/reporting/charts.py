"""Charts of a run's trace: the running loss, and every decision beside the threshold."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.methods.method_result import Decision
from edgewise.reporting.markup import Markup, coordinate, el
from edgewise.reporting.scales import Axis, axis
from edgewise.reporting.text import loss_label, threshold, thresholds
from edgewise.run import Run
from edgewise.tables import count, number

WIDTH, HEIGHT = 540.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 30.0, 46.0
_MOST_POINTS = 1_500  # more than there are pixels to show them


def trace_charts(run: Run) -> Markup | None:
    """The charts of the trace, or None for a method that leaves none."""
    if not run.trace:
        return None
    return el("div", _loss_chart(run), _decision_chart(run), class_="charts")


def _loss_chart(run: Run) -> Markup:
    limit = threshold(run)
    first = run.trace[0]
    start = first.loss if first.kept else first.loss - first.delta
    losses = [start, *(d.loss for d in run.trace)]
    # The threshold gives the scale: without it, a flat line of float noise would fill the chart.
    x = _steps_axis(run)
    y = axis([*losses, min(losses) + (limit or 0.0)], HEIGHT - BOTTOM, TOP)
    kept = [i for i, d in enumerate(run.trace, start=1) if d.kept]
    rug = "".join(
        f"M{coordinate(x.at(i))} {HEIGHT - BOTTOM:.0f}v-7" for i in _thinned(kept, _MOST_POINTS)
    )
    note = f"{count(len(kept), 'tested edge')} kept, {len(run.trace) - len(kept):,} removed"
    caption = "The running loss rises where a removed edge is missed. "
    caption += f"Ticks on the axis: kept edges ({note}). "
    if limit is not None:
        caption += f"An edge stays if its removal alone would raise the loss by {limit:g} or more."
    return chart(
        "Running loss",
        (x, y),
        [el("path", d=rug, class_="rug"), el("path", d=_staircase(losses, x, y), class_="curve")],
        caption=caption,
        y_label=loss_label(run),
    )


def _staircase(losses: list[float], x: Axis, y: Axis) -> str:
    """A step line; runs of equal pixels become one segment, so long traces stay small."""
    path, level = f"M{coordinate(x.at(0))} {y.at(losses[0]):.1f}", y.at(losses[0])
    for step, loss in enumerate(losses):
        height = y.at(loss)
        if abs(height - level) >= 0.25:
            path += f"H{x.at(step):.1f}V{height:.1f}"
            level = height
    return path + f"H{x.at(len(losses) - 1):.1f}"


def _decision_chart(run: Run) -> Markup | None:
    limit = threshold(run)
    if limit is None or limit <= 0:
        return None
    two_sided = run.settings.get("absolute") is True
    lines = [limit, -limit] if two_sided else [limit]
    deltas = [d.delta for d in run.trace]
    x = _steps_axis(run)
    y = axis([*deltas, *lines, 0.0, 2 * limit], HEIGHT - BOTTOM, TOP, knee=limit / 10)
    shown = _telling(run.trace, limit)
    marks = [
        el("path", d=f"M{LEFT:.0f} {y.at(v):.1f}H{WIDTH - RIGHT:.0f}", class_="limit")
        for v in lines
    ]
    marks += [_decision_point(i, d, x, y) for i, d in shown]
    label = f"- - threshold {'±' if two_sided else ''}{limit:g}"
    marks.append(el("text", label, x=WIDTH - RIGHT, y=14, class_="limit-label"))
    caption = "Each dot is one tested edge: blue is kept, grey removed. "
    caption += "The scale is linear near zero and logarithmic beyond. "
    if run.margin is not None:
        caption += f"The closest decision was {number(run.margin)} from the threshold. "
    same = thresholds(run)
    if same is not None:
        caption += f"Any threshold in {same} gives the same circuit. "
    if len(shown) < len(run.trace):
        caption += f"Shown: {len(shown):,} of {len(run.trace):,}, the closest and the kept first."
    unit = f" ({run.problem.unit})" if run.problem.unit else ""
    y_label = f"rise of the loss{unit}"
    return chart("Decisions", (x, y), marks, caption=caption, y_label=y_label)


def _telling(trace: tuple[Decision, ...], limit: float) -> list[tuple[int, Decision]]:
    """The decisions worth a dot, in order: all, or the kept and the closest calls first."""
    numbered = list(enumerate(trace, start=1))
    if len(numbered) > _MOST_POINTS:
        by_interest = sorted(numbered, key=lambda p: (not p[1].kept, abs(p[1].delta - limit)))
        numbered = sorted(by_interest[:_MOST_POINTS], key=lambda p: p[0])
    return numbered


def _decision_point(place: int, decision: Decision, x: Axis, y: Axis) -> Markup:
    fate = "kept" if decision.kept else "removed"
    tip = f"{decision.edge.name}\n{fate}; change of the loss {number(decision.delta, 4)}"
    centre = {"cx": round(x.at(place), 1), "cy": round(y.at(decision.delta), 1)}
    return el("circle", el("title", tip), **centre, r=3, class_=f"pt {fate}")


def _steps_axis(run: Run) -> Axis:
    return Axis(0.0, float(max(1, len(run.trace))), LEFT, WIDTH - RIGHT)


def _thinned(values: list[int], most: int) -> list[int]:
    stride = -(-len(values) // most) or 1
    return values[::stride]


def chart(
    title: str,
    axes: tuple[Axis, Axis],
    marks: Sequence[Markup],
    *,
    caption: str,
    y_label: str,
    x_label: str = "edges tested",
    whole: bool = True,
) -> Markup:
    """Axes, grid and marks, with a caption below; `whole` leaves out x ticks that are fractions."""
    x, y = axes
    grid = [_y_tick(y.at(value), label) for value, label in y.ticks()]
    steps = [(v, label) for v, label in x.ticks() if v == round(v) or not whole]
    below = [_x_tick(x.at(value), label) for value, label in steps]
    middle = (LEFT + WIDTH - RIGHT) / 2
    svg = el(
        "svg",
        el("text", y_label, x=8, y=14, class_="axis-label"),
        *grid,
        *below,
        el("text", x_label, x=middle, y=HEIGHT - 8, class_="axis-label middle"),
        *marks,
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label=title,
        class_="chart",
    )
    return el("figure", el("h4", title), el("div", svg, class_="canvas"), el("figcaption", caption))


def _y_tick(y: float, label: str) -> Markup:
    line = el("path", d=f"M{LEFT:.0f} {y:.1f}H{WIDTH - RIGHT:.0f}")
    return el("g", line, el("text", label, x=LEFT - 8, y=y + 4), class_="tick y")


def _x_tick(x: float, label: str) -> Markup:
    line = el("path", d=f"M{x:.1f} {HEIGHT - BOTTOM:.1f}v4")
    return el("g", line, el("text", label, x=x, y=HEIGHT - BOTTOM + 18), class_="tick x")
