"""The page of a comparison: what it says, its tables, and the circuits side by side."""

from __future__ import annotations

from edgewise.evaluation import Comparison
from edgewise.reporting.markup import el, join
from edgewise.reporting.page import document
from edgewise.reporting.side_by_side import side_by_side
from edgewise.reporting.tables import table_section


def comparison_page(comparison: Comparison) -> str:
    """The whole HTML document."""
    verdict, *sentences = comparison.sentences()
    heading = join(
        el("h1", comparison.title),
        el("p", verdict, class_="verdict"),
        *(el("p", sentence, class_="note") for sentence in sentences),
    )
    pictures = el("section", el("h3", "Circuits side by side"), side_by_side(comparison))
    tables = [table_section(table) for table in comparison.tables()]
    return document(comparison.title, heading, [pictures, *tables])
