"""The page of a result: what it says in sentences, then its tables and charts."""

from __future__ import annotations

from edgewise.reporting.markup import el, join
from edgewise.reporting.page import document
from edgewise.reporting.scatter import chart_figure
from edgewise.reporting.tables import table_section
from edgewise.tables import Result


def result_page(result: Result) -> str:
    """The whole HTML document; it needs no other file."""
    verdict, *sentences = result.sentences()
    charts = [chart_figure(chart) for chart in result.charts()]
    sections = [el("p", sentence, class_="note") for sentence in sentences]
    sections += [table_section(table) for table in result.tables()]
    if charts:
        sections.append(el("section", el("h3", "Charts"), el("div", *charts, class_="charts")))
    heading = join(el("h1", result.title), el("p", verdict, class_="verdict"))
    return document(result.title, heading, sections)
