"""The section about a run's evaluation: the verdict, and the tables behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.scatter import Dot, Level, Series, scatter
from edgewise.reporting.tables import data_table, facts, num
from edgewise.run import Run
from edgewise.tables import count, number, percent

_SETS = 10  # of nodes knocked out: the worst ones
_EDGES = 500


def evaluation_section(run: Run) -> Markup | None:
    """How the circuit was judged (`ew.evaluate`); None if it was not."""
    found = run.measurements.get("evaluation")
    if not found:
        return None
    prompts = count(found["n_prompts"], f"{found['split']} prompt")
    about = (
        f"On {prompts} of {found['source']}, {found['ablation']} ablation, seed {found['seed']}."
    )
    rest, small = found["completeness"], found["minimality"]
    return el(
        "section",
        el("h3", "Evaluation"),
        el("p", about, class_="note"),
        el("ul", *(el("li", sentence) for sentence in found["sentences"])),
        _random(found["faithfulness"], found["random"]) if found["random"] else None,
        _curve(found["curve"]) if found.get("curve") else None,
        _knock_outs(rest) if rest and rest["knock_outs"] else None,
        _edges(small) if small and small["effects"] else None,
    )


def _random(faith: Mapping[str, Any], bands: Sequence[Mapping[str, Any]]) -> Markup:
    columns = [("circuits", ""), ("drawn", "num"), ("mean", "num"), ("95 % interval", "num")]
    columns += [("5 %", "num"), ("median", "num"), ("95 %", "num")]
    rows = [
        el("tr", el("td", "this one"), num(1, "–"), num(faith["circuit"]), *[num(None)] * 4),
        *(_band(band) for band in bands),
    ]
    unit = f" ({faith['unit']})" if faith["unit"] else ""
    return el("div", el("h4", f"{faith['metric']}{unit} beside chance"), data_table(columns, rows))


def _band(band: Mapping[str, Any]) -> Markup:
    interval = band["interval"]
    between = None if interval is None else " to ".join(number(end, 4) for end in interval)
    return el(
        "tr",
        el("td", f"random, {band['kind']}, seed {band['seed']}"),
        num(band["n"], f"{band['n']:,}"),
        num(band["mean"]),
        num(None if interval is None else interval[0], between),
        *(num(value) for value in band["quantiles"].values()),
    )


def _knock_outs(rest: Mapping[str, Any]) -> Markup:
    columns = [("nodes knocked out", ""), ("how", ""), ("circuit", "num"), ("model", "num")]
    columns += [("difference", "num")]
    ranked = sorted(rest["knock_outs"], key=lambda k: -k["incompleteness"])
    rows = [
        el(
            "tr",
            el("td", ", ".join(k["nodes"]) or "none"),
            el("td", f"{k['how']} {k['name']}"),
            *(num(k[name]) for name in ("circuit", "model", "incompleteness")),
        )
        for k in ranked[:_SETS]
    ]
    title = f"Completeness: the worst of {count(len(ranked), 'set')}"
    alone = rest["complement"]
    share = alone["normalized"]
    left = "not defined" if share is None else percent(share)
    table = facts([(f"effect kept by the {alone['n_edges']:,} other edges", left)])
    return el("div", el("h4", title), table, data_table(columns, rows))


def _edges(small: Mapping[str, Any]) -> Markup:
    columns = [("edge", ""), ("rise of the loss without it", "num")]
    rows = [
        el("tr", el("td", el("code", name)), num(effect), data_name=name)
        for name, effect in islice(small["effects"].items(), _EDGES)
    ]
    text = (
        f"Minimality: {small['needed']:,} of {small['n_edges']:,} edges needed, "
        f"{small['idle']:,} idle, {small['harmful']:,} harmful"
    )
    table = data_table(columns, rows, searchable=len(rows) > 12)
    return el("details", el("summary", text), table)


def _curve(found: Mapping[str, Any]) -> Markup | None:
    """Loss against size of `Curve.to_json()`: the paper's Pareto plot."""
    dots = [
        Dot(p["n_edges"], p["value"], f"{p['n_edges']:,} edges: {number(p['value'], 4)}")
        for p in found["points"]
    ]
    unit = f" ({found['unit']})" if found["unit"] else ""
    levels = [Level("full model", found["full"]), Level("empty circuit", found["empty"])]
    caption = f"Circuits chosen by {found['selection']} from the scores of {found['source']}."
    if found.get("cpr") is not None:
        caption += f" CPR {number(found['cpr'])}, CMD {number(found['cmd'])} (MIB)."
    return scatter(
        f"Size and {found['metric']}",
        ("edges", f"{found['metric']}{unit}"),
        [Series(found["source"], dots, line=True)],
        caption,
        levels=levels,
    )
