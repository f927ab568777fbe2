"""How a run came about: settings, problem, cost, environment, folded away at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgewise.reporting.markup import Markup, el
from edgewise.reporting.tables import data_table, facts
from edgewise.reporting.text import ablation_words, thresholds
from edgewise.run import Run
from edgewise.tables import number, plain, seconds

_SHOWN_ELSEWHERE = ("accuracy", "evaluation", "faithfulness", "recovery", "groups")


def details_section(run: Run) -> Markup:
    """Everything that identifies and repeats a run."""
    return el(
        "details",
        el("summary", "Settings, problem, cost, environment"),
        el("h4", "Settings"),
        _settings(run),
        el(
            "div",
            _block("Problem", _problem(run)),
            el("div", _block("Cost", _cost(run)), _closeness(run)),
            class_="side-by-side",
        ),
        el(
            "div",
            _block("Environment", _rows(run.environment)),
            _block("Model", _rows(run.problem.model_config)),
            class_="side-by-side",
        ),
        _block("Request", _rows(run.request)) if run.request else None,
        _others(run),
    )


def _block(title: str, rows: list[tuple[str, str | Markup]]) -> Markup:
    return el("div", el("h4", title), facts(rows))


def _settings(run: Run) -> Markup:
    names = [*run.settings, *(name for name in run.settings_given if name not in run.settings)]
    rows = [
        el(
            "tr",
            el("td", el("code", name)),
            el("td", plain(run.settings_given[name]) if name in run.settings_given else "default"),
            el("td", plain(run.settings[name]) if name in run.settings else "–"),
        )
        for name in names
    ]
    return data_table([("setting", ""), ("given", ""), ("used", "")], rows)


def _problem(run: Run) -> list[tuple[str, str | Markup]]:
    problem = run.problem
    better = "higher is better" if problem.higher_is_better else "lower is better"
    return [
        ("model", problem.model),
        ("processing", problem.processing),
        ("prompts", f"{problem.n_prompts:,} pairs from {problem.source}"),
        ("sha256 of the pairs", el("code", problem.pairs_sha256, class_="hash")),
        ("metric", f"{problem.metric} ({problem.unit}, {better})"),
        ("removed edges carry", ablation_words(problem.ablation)),
        (
            "batch size",
            "all prompts at once" if problem.batch_size is None else plain(problem.batch_size),
        ),
        ("graph", run.circuit.graph.describe()),
        ("circuit id", el("code", run.circuit.id)),
    ]


def _cost(run: Run) -> list[tuple[str, str | Markup]]:
    cost = run.cost
    tested = f"{cost.edge_tests:,}"
    if cost.taken_over:
        tested += f", {cost.taken_over:,} of them before a stop; time and passes are since then"
    peak = f"{cost.peak_memory_bytes / 1e6:,.0f} MB" if cost.peak_memory_bytes else "not known"
    return [
        ("time", seconds(cost.seconds)),
        ("forward passes", f"{cost.forward_passes:,}"),
        ("backward passes", f"{cost.backward_passes:,}"),
        ("edges tested", tested),
        ("edges removed untested", f"{cost.edges_skipped:,}"),
        ("peak memory", peak),
        ("started", run.started),
    ]


_RUNGS = {
    "estimate": "by estimates",
    "engine": "in full precision",
    "plain": "from scratch",
}


def _closeness(run: Run) -> Markup | None:
    """How far the decisions are from falling the other way; None for a method without any."""
    rows: list[tuple[str, str | Markup]] = []
    if run.margin is not None:
        rows.append(("closest decision", f"{number(run.margin)} from the threshold"))
    same = thresholds(run)
    if same is not None:
        rows.append(("same circuit for thresholds in", same))
    for rung, label in _RUNGS.items():
        if rung in run.rungs and len(run.rungs) > 1:
            rows.append((f"decisions {label}", f"{run.rungs[rung]:,}"))
    return _block("Close decisions", rows) if rows else None


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str | Markup]]:
    return [(name.replace("_", " "), _shortened(value)) for name, value in values.items()]


def _shortened(value: object) -> str:
    """A setting; a list of one number, such as a scale per layer, is said once."""
    if isinstance(value, list | tuple) and len(value) > 1 and len(set(map(repr, value))) == 1:
        return f"{plain(value[0])} (all {len(value)})"
    return plain(value)


def _others(run: Run) -> Markup | None:
    """Measurements that have no section of their own, as they are in run.json."""
    others = {k: v for k, v in run.measurements.items() if k not in _SHOWN_ELSEWHERE}
    if not others:
        return None
    text = json.dumps(others, indent=1, default=str)
    return el("div", el("h4", "Other measurements"), el("pre", text))
