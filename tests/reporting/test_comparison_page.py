"""The page of a comparison: whole, honest, safe, and every edge where it belongs."""

import re

import pytest
from test_report import names_in_rows, parsed, svgs

import edgewise as ew
from edgewise.reporting.comparison import comparison_page
from models import random_circuit, random_model, random_pairs

GRAPH = ew.Graph.build(2, 2)
THREE = {name: random_circuit(GRAPH, i, 0.4) for i, name in enumerate(("a", "b", "c"))}


@pytest.fixture(scope="module")
def problem():
    model = random_model()
    return ew.Problem(model, random_pairs(model), "logit-diff")


def test_the_page_is_well_formed_and_needs_nothing_else(problem):
    each = {kind: problem.with_(ablation=kind) for kind in ("corrupted", "zero", "mean")}
    runs = ew.discover_each(each, "eap", edges=8)
    groups = {"early": ["a0.h0", "a0.h1"], "<late>": ["m1"]}
    found = ew.compare(runs, problems=each, cross=True, groups=groups)
    text = comparison_page(found)
    balance = parsed(text)
    assert balance.addresses == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert len(svgs(text)) == 3
    for heading in ("Jaccard of nodes", "on the problem of", "Groups", "side by side"):
        assert heading in text
    assert "&lt;late&gt;" in text
    assert comparison_page(found) == text, "the same comparison gives the same bytes"


def test_every_edge_is_in_the_table_with_those_that_have_it():
    found = ew.compare(THREE)
    text = comparison_page(found)
    assert names_in_rows(text) == {edge.name for edge in found.union.edges}
    for edge, holders in found.presence():
        row = text.partition(f'<tr data-name="{edge.name.replace(">", "&gt;")}">')[2]
        marks = re.findall(r"<td>(yes|)</td>", row.partition("</tr>")[0])
        assert marks == ["yes" if name in holders else "" for name in THREE]


def test_pictures_show_each_circuits_edges_by_who_else_has_them():
    found = ew.compare(THREE)
    figures = re.findall(r"<svg.*?</svg>", comparison_page(found), flags=re.DOTALL)
    for figure, (name, circuit) in zip(figures, THREE.items(), strict=True):
        names = re.findall(r"<title>([^\n<]+)\nin ", figure)
        assert {n.replace("&gt;", ">") for n in names} == {e.name for e in circuit.edges}
        only = re.findall(r"<title>([^\n<]+)\nin this one only", figure)
        assert {n.replace("&gt;", ">") for n in only} == {e.name for e in found.only(name).edges}


def test_what_cannot_be_drawn_is_said():
    full = ew.Circuit.full(ew.Graph.build(6, 6))
    text = comparison_page(ew.compare([full, full]))
    assert svgs(text) == []
    assert "too much for pictures" in text
    empty = ew.Circuit.empty(GRAPH)
    text = comparison_page(ew.compare({"<script>": empty, "b": empty}))
    assert "All the circuits are empty." in text
    assert "<script>" not in text.partition("<main>")[2].partition("</main>")[0]
    parsed(text)


@pytest.mark.parametrize("options", [{"switches": True}, {"split_heads": False}])
def test_switches_and_whole_layers(options):
    circuits = [random_circuit(ew.Graph.build(2, 2, **options), seed) for seed in (0, 1)]
    text = comparison_page(ew.compare(circuits))
    parsed(text)
    assert len(svgs(text)) == 2
