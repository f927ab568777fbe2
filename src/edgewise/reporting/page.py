"""The page: head, overview, and one section per run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files

from edgewise.reporting.charts import trace_charts
from edgewise.reporting.details import details_section
from edgewise.reporting.drawing import drawing
from edgewise.reporting.groups import Given, groups_of
from edgewise.reporting.markup import Markup, el, join
from edgewise.reporting.measurements import (
    evaluation_section,
    faithfulness_section,
    recovery_section,
)
from edgewise.reporting.tables import data_table, decisions, groups_table, kept_edges, num
from edgewise.reporting.text import settings_line, verdict
from edgewise.run import Run
from edgewise.tables import count, measured, percent, seconds

# The browser itself refuses to load anything: the page holds all it needs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(runs: Sequence[Run], groups: Given | None = None) -> str:
    """The whole HTML document; `groups` label the nodes of every run that has them."""
    several = len(runs) > 1
    return document(
        runs[0].title if not several else f"{len(runs)} circuits compared",
        _overview(runs) if several else None,
        [_section(run, place, several, groups) for place, run in enumerate(runs, start=1)],
    )


def document(title: str, overview: Markup | None, sections: Sequence[Markup]) -> str:
    """An HTML document that needs nothing else: header, sections, our CSS and JavaScript."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        el("title", f"{title} · Edgewise"),
        el("style", _asset("style.css")),
    )
    body = el(
        "body",
        el(
            "main",
            el("header", el("p", "Edgewise report", class_="brand"), overview),
            *sections,
            el("footer", f"Made by Edgewise {version('edgewise')}. This file needs no network."),
        ),
        el("div", class_="tip", role="tooltip", hidden=""),
        el("script", _asset("page.js")),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _asset(name: str) -> Markup:
    """Our own CSS or JavaScript, which goes into the page as it is."""
    return Markup("\n" + files("edgewise.reporting").joinpath(name).read_text(encoding="utf-8"))


# --- several runs


def _overview(runs: Sequence[Run]) -> Markup:
    columns = [("run", ""), ("method", ""), ("settings", ""), ("edges", "num"), ("metric", "")]
    columns += [("circuit", "num"), ("full", "num"), ("empty", "num"), ("effect kept", "num")]
    columns += [("time", "num"), ("tests", "num")]
    same = _shared_settings(runs)
    rows = [_overview_row(run, place, same) for place, run in enumerate(runs, start=1)]
    shared = settings_line(runs[0], without=runs[0].settings.keys() - same)
    return join(
        el("h1", f"{len(runs)} circuits compared"),
        data_table(columns, rows, style="overview"),
        el("p", f"The same in every run: {shared}.", class_="note") if shared else None,
    )


def _shared_settings(runs: Sequence[Run]) -> frozenset[str]:
    """The settings that every run has, with one value."""
    first = runs[0].settings
    return frozenset(
        name
        for name, value in first.items()
        if all(name in run.settings and run.settings[name] == value for run in runs)
    )


def _overview_row(run: Run, place: int, same: frozenset[str]) -> Markup:
    kept, total, cost = run.circuit.n_edges, run.circuit.graph.n_edges, run.cost
    unit = f" ({run.problem.unit})" if run.problem.unit else ""
    return el(
        "tr",
        el("td", f"{place}. ", el("a", run.title, href=f"#run-{place}")),
        el("td", run.method),
        el("td", settings_line(run, without=same) or "–", class_="settings"),
        num(kept, f"{kept:,} of {total:,}"),
        el("td", f"{run.problem.metric}{unit}"),
        *_overview_metrics(run),
        num(cost.seconds, seconds(cost.seconds)),
        num(cost.edge_tests, f"{cost.edge_tests:,}"),
    )


def _overview_metrics(run: Run) -> list[Markup]:
    faith = run.measurements.get("faithfulness")
    if not faith:
        return [num(None)] * 4
    scale = max(abs(faith["full"]), abs(faith["empty"]))
    names = ("circuit", "full", "empty")
    cells = [num(faith[name], measured(faith[name], "", scale=scale)) for name in names]
    share = faith["normalized"]
    return [*cells, num(share, None if share is None else percent(share))]


# --- one run


def _section(run: Run, place: int, several: bool, given: Given | None) -> Markup:
    heading = el("h2", f"{place}. {run.title}") if several else el("h1", run.title)
    groups = groups_of(run, given)
    charts, table = trace_charts(run), kept_edges(run, groups)
    return el(
        "article",
        heading,
        el("p", _subtitle(run), class_="subtitle"),
        el("p", verdict(run), class_="verdict"),
        *(el("p", f"Note: {note}", class_="note") for note in run.notes),
        el("section", el("h3", "Circuit"), drawing(run, groups), groups_table(groups)),
        el("section", el("h3", f"Kept edges ({run.circuit.n_edges:,})"), table) if table else None,
        recovery_section(run),
        faithfulness_section(run),
        evaluation_section(run),
        el("section", el("h3", "How it was found"), charts, decisions(run)) if charts else None,
        el("section", details_section(run)),
        id=f"run-{place}",
    )


def _subtitle(run: Run) -> str:
    problem, took = run.problem, seconds(run.cost.seconds)
    parts = [
        settings_line(run),
        f"metric {problem.metric}",
        f"ablation {problem.ablation.get('kind', 'unknown')}",
        count(problem.n_prompts, "prompt"),
        f"{took} since it went on" if run.cost.taken_over else took,
    ]
    return " · ".join(part for part in parts if part)
