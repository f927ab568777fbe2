"""Pages about how sure a circuit is: its stability, and what hypothesis tests say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.evaluation import HypothesisTests, Stability
from edgewise.evaluation.stability import Inclusion
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.page import document
from edgewise.reporting.scatter import Dot, Series, scatter
from edgewise.reporting.tables import data_table, facts, num
from edgewise.reporting.text import ablation_words
from edgewise.tables import number, percent, plain

_BAR = 180.0  # pixels of a probability of 1
_MOST = 1_000  # rows


def stability_page(found: Stability) -> str:
    """The HTML document of a stability analysis."""
    core, contingent, noise = found.core, found.contingent, found.noise
    agree = found.jaccard
    settings = ", ".join(f"{name} {plain(value)}" for name, value in found.settings.items())
    body = el(
        "article",
        el("h1", f"Stability of {found.method}"),
        el("p", f"{_source(found.about)} · {settings}", class_="subtitle"),
        el("p", found.verdict, class_="verdict"),
        facts(
            [
                ("varied", ", ".join(found.over)),
                ("replicates", f"{found.n:,}, seed {found.seed}"),
                ("core", f"{core.n_edges:,} edges, inclusion shown to be ≥ {found.core_at:g}"),
                ("contingent", f"{contingent.n_edges:,} edges, neither"),
                ("noise", f"{noise.n_edges:,} edges, inclusion shown to be ≤ {found.noise_at:g}"),
                ("Jaccard of two replicates", f"{number(agree.mean)} on average"),
            ]
        ),
        el("section", el("h3", "Edges"), _inclusions(found)),
        el("section", el("h3", "Replicates"), _replicates(found)),
    )
    return document(f"Stability of {found.method}", None, [body])


def _source(about: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in about.items() if name != "pairs_sha256"}
    if isinstance(shown.get("ablation"), Mapping):
        shown["ablation"] = ablation_words(shown["ablation"])
    return " · ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in shown.items())


def _inclusions(found: Stability) -> Markup:
    columns = [("edge", ""), ("kind", ""), ("inclusion", "num"), ("", "bar"), ("in all", "")]
    note = (
        f"Inclusion: the share of {found.n:,} replicates that have the edge, with its "
        f"{percent(found.level)} interval ({found.interval}). In all: whether the circuit found "
        "without variation has it."
    )
    rows = [_inclusion(one) for one in found.table[:_MOST]]
    return el("div", el("p", note, class_="note"), data_table(columns, rows, searchable=True))


def _inclusion(one: Inclusion) -> Markup:
    interval = f"{number(one.low)} to {number(one.high)}"
    bar = el(
        "svg",
        el("rect", x=0, y=3, width=round(_BAR * one.share, 1), height=8, rx=2),
        el("path", d=f"M{_BAR * one.low:.1f} 7H{_BAR * one.high:.1f}"),
        viewBox=f"0 0 {_BAR:.0f} 14",
        width=_BAR,
        height=14,
        class_=f"inclusion {one.kind}",
    )
    return el(
        "tr",
        el("td", el("code", one.edge.name)),
        el("td", one.kind),
        num(one.share, f"{one.count:,} of {one.n:,} ({interval})"),
        el("td", bar),
        el("td", "yes" if one.in_circuit else "no"),
        data_name=one.edge.name,
    )


def _replicates(found: Stability) -> Markup | None:
    dots = [
        Dot(r.circuit.n_edges, r.loss, f"replicate {r.index}: {r.circuit.n_edges:,} edges")
        for r in found.replicates
        if r.loss is not None
    ]
    caption = f"Every dot is a circuit found again, judged on the {found.split} prompts."
    return scatter("Size and loss", ("edges", "loss"), [Series("replicates", dots)], caption)


def tests_page(found: HypothesisTests) -> str:
    """The HTML document of a circuit's hypothesis tests."""
    passed = [test.passed for test in found.tests if test.passed is not None]
    summary = f"{sum(passed)} of {len(passed)} tests speak for the circuit"
    body = el(
        "article",
        el("h1", "Hypothesis tests of a circuit"),
        el("p", _source(found.about), class_="subtitle"),
        el(
            "p",
            f"{summary}, at an error rate of {found.alpha:g} for all together.",
            class_="verdict",
        ),
        el("section", el("h3", "Tests"), _tests(found)),
        el("section", el("h3", "Edges"), _edges(found)) if found.edges else None,
    )
    return document("Hypothesis tests of a circuit", None, [body])


def _tests(found: HypothesisTests) -> Markup:
    columns = [("test", ""), ("verdict", ""), ("null hypothesis", ""), ("statistic", "num")]
    columns += [("p", "num"), ("corrected", "num"), ("n", "num")]
    rows = [
        el(
            "tr",
            el("td", test.name),
            el("td", test.verdict),
            el("td", test.null),
            num(test.statistic),
            num(test.p_value),
            num(test.adjusted),
            num(test.n, f"{test.n:,} {test.n_of}"),
        )
        for test in found.tests
    ]
    note = (
        f"On {found.split} prompts, seed {found.seed}; corrected for several tests: "
        f"{found.correction}. Shi et al. 2024, arXiv 2410.13032; see docs/stability.md."
    )
    return el("div", data_table(columns, rows), el("p", note, class_="note"))


def _edges(found: HypothesisTests) -> Markup:
    columns = [("edge", ""), ("moves the loss by", "num"), ("more than so many random", "num")]
    columns += [("p", "num"), ("corrected", "num")]
    rows = [
        el(
            "tr",
            el("td", el("code", test.edge.name)),
            num(test.effect),
            num(test.larger_than, f"{test.larger_than:,} of {test.n:,}"),
            num(test.p_value),
            num(test.adjusted),
            data_name=test.edge.name,
        )
        for test in sorted(found.edges, key=lambda test: -abs(test.effect))[:_MOST]
    ]
    return data_table(columns, rows, searchable=len(rows) > 12)
