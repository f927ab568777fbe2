"""What was measured: faithfulness with its spread, recovery of a known circuit, evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgewise.evaluation import Curve, Evaluation, Recovery
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.prompts import prompt_plot
from edgewise.reporting.scatter import chart_figure
from edgewise.reporting.tables import facts, table_section
from edgewise.run import Run
from edgewise.tables import number, percent


def faithfulness_section(run: Run) -> Markup | None:
    """The circuit between the empty circuit and the full model; None if it was not measured."""
    faith, right = run.measurements.get("faithfulness"), run.measurements.get("accuracy")
    if not faith:
        return None
    unit = f" ({faith['unit']})" if faith["unit"] else ""
    better = "higher is better" if faith["higher_is_better"] else "lower is better"
    heading = f"{faith['metric']}{unit}, {better}, mean over {run.problem.n_prompts:,} prompts"
    tables = el("div", _levels(faith), _spread(faith["spread"]), class_="side-by-side")
    return el(
        "section",
        el("h3", "Faithfulness"),
        el("p", heading, class_="note"),
        el("p", _accuracy(right), class_="note") if right else None,
        tables,
        prompt_plot(faith),
    )


def _accuracy(right: Mapping[str, Any]) -> str:
    share, n = percent(right["share"]), right["n_prompts"]
    return f"The full model is right on {share} of {n:,} prompts: {right['rule']}."


def _levels(faith: Mapping[str, Any]) -> Markup:
    share = faith["normalized"]
    effect = "not defined: full and empty are equal" if share is None else percent(share)
    return facts(
        [
            ("circuit", number(faith["circuit"], 4)),
            ("full model", number(faith["full"], 4)),
            ("empty circuit", number(faith["empty"], 4)),
            ("share of the effect", effect),
        ]
    )


def _spread(spread: Mapping[str, Any]) -> Markup:
    names = [("mean", "mean"), ("std", "standard deviation"), ("minimum", "minimum")]
    names += [("median", "median"), ("maximum", "maximum")]
    rows: list[tuple[str, str | Markup]] = [
        (label, number(spread[name], 4)) for name, label in names
    ]
    return facts([*rows, ("worst prompt", f"{spread['worst']:,}")])


def recovery_section(run: Run) -> Markup | None:
    """The circuit beside a published one; None if there is none."""
    document = run.measurements.get("recovery")
    if not document:
        return None
    (table,) = Recovery.from_json(document).tables()
    return table_section(replace(table, title="Recovery of the published circuit"))


def evaluation_section(run: Run) -> Markup | None:
    """What `ew.evaluate` found, on which prompts, and its tables; None without it."""
    document = run.measurements.get("evaluation")
    if not document:
        return None
    result = Evaluation.from_json(document)
    curve = None
    if document.get("curve"):
        curve = Curve.from_json(document["curve"])
    tables = [table for part in (result, curve) if part for table in part.tables()]
    charts = [chart_figure(chart) for chart in (curve.charts() if curve else ())]
    return el(
        "section",
        el("h3", "Evaluation"),
        el("p", f"{result.title}.", class_="note"),
        el("ul", *(el("li", sentence) for sentence in result.sentences())),
        *charts,
        *(table_section(table) for table in tables),
    )
