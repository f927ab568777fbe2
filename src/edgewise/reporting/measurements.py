"""What was measured: faithfulness with its spread, and the recovery of a published circuit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.prompts import prompt_plot
from edgewise.reporting.tables import data_table, facts, num
from edgewise.reporting.text import recovery_points
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
    points = recovery_points(run)
    if not points:
        return None
    columns = [("", ""), ("found", "num"), ("missed", "num"), ("others", "num")]
    columns += [("recall", "num"), ("precision", "num"), ("false positive rate", "num")]
    rows = [_recovery_row(what, point[what]) for point in points for what in ("edges", "nodes")]
    found = run.measurements["recovery"]
    note = (
        f"Pessimistic area under the curve: edges {number(found['edge_auc'])}, "
        f"nodes {number(found['node_auc'])}."
    )
    return el(
        "section",
        el("h3", "Recovery of the published circuit"),
        data_table(columns, rows),
        el("p", note, class_="note"),
    )


def _recovery_row(what: str, confusion: Mapping[str, Any]) -> Markup:
    found, total = confusion["true_positives"], confusion["n_true"]
    return el(
        "tr",
        el("td", what),
        num(found, f"{found:,} of {total:,}"),
        num(total - found, f"{total - found:,}"),
        num(confusion["false_positives"], f"{confusion['false_positives']:,}"),
        num(confusion["tpr"], percent(confusion["tpr"])),
        num(confusion["precision"], percent(confusion["precision"])),
        num(confusion["fpr"], percent(confusion["fpr"])),
    )
