"""The report: whole, honest and safe for every granularity, from real runs on small models."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.errors import EdgewiseError, FormatError, SettingError, UnknownName
from edgewise.graph import Edge, Graph
from edgewise.methods.method_result import Decision
from edgewise.reporting.groups import checked
from edgewise.reporting.layout import lay_out
from edgewise.reporting.markup import Markup, el
from edgewise.reporting.page import page
from edgewise.reporting.prompts import prompt_plot
from edgewise.reporting.routing import Router
from edgewise.reporting.scales import axis
from edgewise.reporting.tables import MOST_DECISIONS
from edgewise.reporting.text import thresholds, verdict
from edgewise.tables import percent
from models import random_circuit, random_model, random_pairs

VOID = {"br", "col", "input", "meta"}


def make_run(
    graph_options: dict[str, bool] | None = None, threshold: float = 0.02, **config
) -> ew.Run:
    model = random_model(3, **config)
    graph = Graph.of(model, **(graph_options or {}))
    problem = ew.Problem(model, random_pairs(model, n=3), "kl", graph=graph)
    return ew.discover(problem, "acdc", threshold=threshold)


@pytest.fixture(scope="module")
def run() -> ew.Run:
    return make_run()


@pytest.fixture(scope="module")
def text(run) -> str:
    return page([run])


def with_circuit(run: ew.Run, graph: Graph, share: float = 0.4, *, signed: bool = False) -> ew.Run:
    """A run of another shape: a random circuit with random scores, and no trace."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(graph.exists.shape, generator=generator, dtype=torch.float64)
    scores = ew.EdgeScores(graph, values if signed else values.abs(), "eap", "an estimate")
    return replace(run, circuit=random_circuit(graph, 1, share), scores=scores, trace=())


def drawn_edges(text: str) -> list[str]:
    """What the curves' hover texts name."""
    return re.findall(r"<path[^>]*data-rank[^>]*><title>([^\n<]+)\n", text)


def names_in_rows(text: str) -> set[str]:
    return {name.replace("&gt;", ">") for name in re.findall(r'<tr data-name="([^"]+)">', text)}


class Balance(HTMLParser):
    """Checks that every element is closed, in order, and collects addresses and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text: str) -> Balance:
    balance = Balance()
    balance.feed(text)
    balance.close()
    assert balance.open == []
    return balance


def svgs(text: str) -> list[ET.Element]:
    """Every SVG, parsed as XML, which forgives nothing."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)]


# --- the file


def test_report_writes_one_file_and_returns_its_path(run, tmp_path):
    with pytest.raises(SettingError, match="no runs to report on"):
        ew.report([], tmp_path / "report.html")
    path = ew.report(run, str(tmp_path / "report.html"))
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_is_well_formed_and_needs_nothing_else(run):
    text = page([run, run])
    balance = parsed(text)
    assert all(address.startswith("#") for address in balance.addresses)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not {"link", "iframe", "img", "object"} & set(balance.tags)
    assert len(svgs(text)) > 4


def test_the_same_runs_give_the_same_bytes(run, tmp_path):
    run.save(tmp_path / "run")
    first = ew.report([run], tmp_path / "1.html").read_bytes()
    assert ew.report([run], tmp_path / "2.html").read_bytes() == first
    assert ew.report([ew.Run.load(tmp_path / "run")], tmp_path / "3.html").read_bytes() == first


def test_a_saved_run_of_format_1_can_be_reported(tmp_path):
    old = ew.Run.load(Path(__file__).parents[1] / "fixtures" / "run-v1")
    assert old.title in ew.report(old, tmp_path / "report.html").read_text(encoding="utf-8")


def test_hostile_text_stays_text(run):
    evil = '<script>alert("1")</script>&\'<svg onload=x>'
    problem = replace(run.problem, model=evil, source=evil, metric=evil, unit=evil, processing=evil)
    faith = {**run.measurements["faithfulness"], "metric": evil, "unit": evil}
    hostile = replace(
        run,
        method=evil,
        problem=problem,
        settings={**run.settings, evil: evil},
        settings_given={evil: evil},
        environment={evil: evil},
        started=evil,
        scores=replace(run.scores, meaning=evil, method=evil),
        measurements={"faithfulness": faith, evil: {evil: evil}},
        request={"task": evil, evil: [evil]},
    )
    text = page([hostile, hostile])
    assert escape(evil, quote=False) in text
    assert "<script>alert" not in text
    assert "<svg onload" not in text
    assert parsed(text).tags.count("script") == 1
    svgs(text)


# --- one run


def test_every_kept_edge_is_drawn_and_listed(run, text):
    names = {edge.name for edge in run.circuit.edges}
    assert names
    assert names_in_rows(text) == names | {d.edge.name for d in run.trace}
    assert {name.replace("&gt;", ">") for name in drawn_edges(text)} == names


def test_widths_are_in_proportion_to_scores(run, text):
    figure = next(svg for svg in svgs(text) if svg.get("class") == "circuit")
    curves = [p for p in figure.iter("path") if p.get("data-rank")]
    widths = {p.find("title").text.split("\n")[0]: float(p.get("stroke-width")) for p in curves}
    scores = {name: abs(run.scores.of(name)) for name in widths}
    top = max(scores.values())
    for name, width in widths.items():
        assert width == pytest.approx(1 + 6 * scores[name] / top, abs=0.01)
    # Strong edges are drawn last, so that weak ones do not cover them.
    order = [scores[p.find("title").text.split("\n")[0]] for p in curves]
    assert order == sorted(order)


def test_what_a_run_has_not_is_not_drawn(run):
    empty = make_run(threshold=1e6)
    text = page([empty])
    assert empty.circuit.n_edges == 0
    assert "The circuit is empty" in text
    assert 'class="circuit"' not in text
    assert "None of the" in verdict(empty)
    parsed(text)
    bare = replace(run, trace=(), measurements={}, margin=None, settings={}, settings_given={})
    text = page([bare, bare])
    assert "Running loss" not in text
    assert "Faithfulness" not in text
    parsed(text)


def test_a_long_trace_is_cut_and_says_so(run):
    n = MOST_DECISIONS + 500
    edge = run.trace[0].edge
    long = tuple(Decision(edge, 0.001 * (i % 40), i % 40 >= 20, 0.01 * i) for i in range(n))
    text = page([replace(run, trace=long)])
    assert f"First {MOST_DECISIONS:,} of {n:,}; the full trace is in trace.jsonl." in text
    assert text.count("<circle") < 2 * MOST_DECISIONS
    assert len(text) < 1_500_000


def chart(text: str, label: str) -> ET.Element:
    return next(svg for svg in svgs(text) if svg.get("aria-label") == label)


def test_charts_show_the_loss_rise_and_the_threshold_between_kept_and_removed(run, text):
    curve = next(p for p in chart(text, "Running loss").iter("path") if p.get("class") == "curve")
    heights = [float(y) for y in re.findall(r"(?:^M\S+ |V)([\d.]+)", curve.get("d"))]
    # The circuit's loss is higher than the full model's, and up is less y.
    assert heights[0] > heights[-1]
    decisions = chart(text, "Decisions")
    line = next(p for p in decisions.iter("path") if p.get("class") == "limit")
    limit = float(re.search(r" ([\d.]+)H", line.get("d")).group(1))
    for dot in decisions.iter("circle"):
        sign = 1 if dot.get("class") == "pt kept" else -1
        assert sign * float(dot.get("cy")) <= sign * limit + 0.1


def test_settings_are_shown_as_given_and_as_used(text):
    assert "<tr><td><code>threshold</code></td><td>0.02</td><td>0.02</td></tr>" in text
    assert "<tr><td><code>prune</code></td><td>default</td><td>no</td></tr>" in text


def test_how_close_the_decisions_were(run, text):
    same = thresholds(run)
    assert f"from the threshold. Any threshold in {same} gives the same circuit." in text
    assert f'<th scope="row">same circuit for thresholds in</th><td>{same}</td>' in text
    assert "decisions by estimates" not in text
    first, *rest = run.trace
    estimated = page([replace(run, trace=(replace(first, rung="estimate"), *rest))])
    assert '<th scope="row">decisions by estimates</th><td>1</td>' in estimated


def test_notes_stand_under_the_verdict():
    model = random_model(3)
    pairs = random_pairs(model, n=3)
    problem = ew.Problem(model, pairs, lambda logits, rows: torch.ones(len(logits)))
    text = page([ew.exact(problem, edges=5)])
    assert text.index("No edge changed") < text.index("Kept edges")


@pytest.mark.parametrize(
    ("removed", "kept", "own", "text"),
    [
        (0.0049611, 0.0050134, 0.005, "(0.00497, 0.00501]"),
        (0.00499991, 0.00500012, 0.005, "(0.00499991, 0.00500012]"),
        (-1e-3, 0.00500012, 0.005, "(0, 0.005]"),
        (0.0012345, None, 0.005, "(0.00124, ∞]"),
        (1e-7, 12345.6, 0.005, "(1e-07, 1.23e+04]"),
        (0.1, 0.3, 0.3, "(0.1, 0.3]"),
        (0.1 + 0.2, 0.5, 0.4, "(0.301, 0.5]"),
    ],
)
def test_an_interval_of_thresholds_holds_as_it_is_written(removed, kept, own, text, run):
    edge = run.trace[0].edge
    trace = (Decision(edge, removed, False, 0.0),)
    if kept is not None:
        trace += (Decision(edge, kept, True, 0.0),)
    shown = thresholds(replace(run, trace=trace, settings={"threshold": own}))
    assert shown == text
    reduced = {"threshold": own, "precision": "reduced"}
    assert thresholds(replace(run, trace=trace, settings=reduced)) == f"about {text}"


def test_a_run_that_was_stopped_says_what_its_time_is_of(run):
    text = page([replace(run, cost=replace(run.cost, taken_over=40))])
    assert "40 of them before a stop; time and passes are since then" in text


# --- several runs


def test_several_runs_get_an_overview_and_a_section_each(run):
    other = make_run(threshold=0.2)
    text = page([run, other])
    balance = parsed(text)
    assert balance.tags.count("article") == 2
    assert balance.addresses == ["#run-1", "#run-2"]
    overview = text[text.index('class="sortable overview"') : text.index("<article")]
    for each in (run, other):
        assert f"{each.circuit.n_edges:,} of {each.circuit.graph.n_edges:,}" in overview
        assert f"threshold {each.settings['threshold']:g}" in overview
    assert "The same in every run: head order descending" in overview
    assert "sortable overview" not in page([run])


# --- granularities

GRANULARITIES = {
    "joined": ({"split_qkv": False}, {}),
    "whole attention layers": ({"split_heads": False}, {}),
    "whole and joined": ({"split_heads": False, "split_qkv": False, "switches": True}, {}),
    "switches, split embeddings": ({"switches": True, "split_embed": True}, {}),
    "parallel": ({}, {"parallel": True}),
    "no MLPs": ({"switches": True}, {"attention_only": True}),
}


@pytest.mark.parametrize("kind", GRANULARITIES)
def test_every_granularity_is_drawn_whole(kind):
    options, config = GRANULARITIES[kind]
    run = make_run(options, **config)
    text = page([run])
    parsed(text)
    curves = {edge.name for edge in run.circuit.edges if not edge.is_switch}
    assert curves
    assert {name.replace("&gt;", ">") for name in drawn_edges(text)} == curves
    figure = next(svg for svg in svgs(text) if svg.get("class") == "circuit")
    drawn = [g.get("data-n") for g in figure.iter("g") if g.get("data-n")]
    assert sorted(drawn) == sorted(node.name for node in run.circuit.graph.nodes)
    faint = {g.get("data-n") for g in figure.iter("g") if "absent" in (g.get("class") or "")}
    assert set(drawn) - faint == {node.name for node in run.circuit.nodes}


def test_switches_are_dots_filled_when_kept():
    run = make_run({"switches": True})
    figure = next(svg for svg in svgs(page([run])) if svg.get("class") == "circuit")
    kept_nodes = {node.name for node in run.circuit.nodes}
    for group in figure.iter("g"):
        name = group.get("data-n")
        if not name or not name.startswith("a") or name not in kept_nodes:
            continue
        states = [c.get("class").split() for c in group.iter("circle")]
        assert len(states) == 3
        for _, slot, *hollow in states:
            assert (f"{name}.{slot}->{name}" in run.circuit) is (not hollow)


# --- layout and routing

SHAPES = {
    "small": Graph.build(3, 4),
    "one head": Graph.build(1, 1, mlps=False, split_qkv=False),
    "GPT-2 small": Graph.build(12, 12),
    "wide": Graph.build(2, 40),
    "parallel": Graph.build(4, 4, parallel=True),
    "split embeddings": Graph.build(4, 1, split_embed=True, switches=True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_lie_inside_the_picture_and_apart(shape):
    layout = lay_out(random_circuit(SHAPES[shape], share=0.3))
    boxes = list(layout.boxes.values())
    for box in boxes:
        assert box.width >= 7 * len(box.node.name) + 8  # the name fits
        assert box.width / 2 < box.x < layout.width - box.width / 2
        assert box.top >= 0
        assert box.bottom <= layout.height
    for a, b in combinations(boxes, 2):
        apart = abs(a.x - b.x) >= (a.width + b.width) / 2 or a.bottom <= b.top or b.bottom <= a.top
        assert apart, (a.node.name, b.node.name)


@pytest.mark.parametrize("shape", ["small", "parallel"])
def test_data_flows_upwards_from_sender_to_port(shape):
    layout = lay_out(ew.Circuit.full(SHAPES[shape]))
    router = Router(layout)
    for edge in SHAPES[shape].edges:
        x, y = router.curve(edge).points(11)
        sender, receiver = layout.boxes[edge.sender], layout.boxes[edge.receiver.node]
        end = receiver.port_x(edge.receiver.slot), receiver.bottom
        assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((sender.x, sender.top, *end))
        assert (np.diff(y) < 0).all()


def test_a_curve_goes_around_the_boxes_between_its_ends():
    graph = Graph.build(4, 1)
    names = ["m0->m3", "m0->m1", "m1->m2", "m2->m3", "input->a0.h0.q", "m3->logits"]
    layout = lay_out(ew.Circuit.of(graph, names))
    x, y = Router(layout).curve(Edge.parse("m0->m3")).points(200)
    for name in ("m1", "m2"):
        box = next(b for b in layout.boxes.values() if b.node.name == name)
        beside, above = abs(x - box.x) > box.width / 2, abs(y - box.y) > box.height / 2
        assert (beside | above).all()


def test_a_large_graph_shows_the_circuit_only_and_a_dense_circuit_is_capped(run):
    graph = SHAPES["GPT-2 small"]
    sparse = with_circuit(run, graph, 0.002, signed=True)
    text = page([sparse])
    figure = next(svg for svg in svgs(text) if svg.get("class") == "circuit")
    drawn = {g.get("data-n") for g in figure.iter("g") if g.get("data-n")}
    assert drawn - {"input", "logits"} <= {node.name for node in sparse.circuit.nodes}
    assert "negative score" in text
    dense = with_circuit(run, graph, 0.08)
    text = page([dense])
    assert len(drawn_edges(text)) == 1_500
    assert f"Only the 1,500 strongest of {dense.circuit.n_edges:,} edges are drawn." in text


# --- words and numbers


def test_the_verdict_says_what_was_measured(run):
    faith = run.measurements["faithfulness"]
    said = verdict(run)
    assert said.startswith(f"{run.circuit.n_edges} of {run.circuit.graph.n_edges} edges are kept (")
    assert "With every other edge carrying its value on the corrupted prompt, kl is" in said
    assert f"keeps {percent(faith['normalized'])} of the effect." in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"normalized": None}, "no effect to keep a share of"),
        ({"normalized": 1.25}, "does better than the full model: 125 % of the effect"),
        ({"normalized": -0.2}, "does worse than the empty one: −20 % of the effect"),
        ({"full": 3.0, "empty": 1.0}, "Without any edge the model does better"),
        ({"higher_is_better": True}, "Without any edge the model does better"),
        ({"circuit": 1e-12, "empty": 0.333}, "kl is 0 nats; the full model has 0 and"),
    ],
)
def test_the_verdict_is_careful(run, changes, expected):
    faith = {**run.measurements["faithfulness"], **changes}
    assert expected in verdict(replace(run, measurements={"faithfulness": faith}))


def test_the_verdict_tells_recovery_and_loose_ends(run):
    published = run.circuit.without(run.circuit.edges[0])
    compared = run.with_(measurements={"recovery": ew.recovery(run, published).to_json()})
    n = published.n_edges
    assert f"It finds {n} of the {n} published edges, and 1 other." in verdict(compared)
    assert "Recovery of the published circuit" in page([compared])
    graph = run.circuit.graph
    loose = replace(run, circuit=ew.Circuit.of(graph, ["a0.h0->a1.h0.q", "a0.h1->a1.h0.q"]))
    assert "None of them lies on a path from an embedding to the logits." in verdict(loose)
    assert "All" in verdict(replace(run, circuit=ew.Circuit.full(graph)))


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.0, 3.0], [0.0, 0.0], [-2.0, 5e-9], [1e5, 1.1e5]])
def test_axes_hold_their_values_and_label_ticks_apart(values):
    scale = axis(values, 0.0, 100.0)
    assert all(scale.low <= value <= scale.high for value in values)
    labels = [label for _, label in scale.ticks()]
    assert len(labels) >= 2
    assert len(set(labels)) == len(labels)
    assert scale.at(scale.low) == 0
    assert scale.at(scale.high) == 100


def test_the_prompt_plot_has_a_dot_per_prompt_and_rings_the_worst(run):
    faith = run.measurements["faithfulness"]
    plot = next(iter(svgs(prompt_plot(faith))))
    dots = [c.get("class") for c in plot.iter("circle")]
    assert len(dots) == run.problem.n_prompts
    assert [i for i, dot in enumerate(dots) if "worst" in dot] == [faith["spread"]["worst"]]


def test_elements_escape_what_is_not_markup():
    assert el("p", "a<b", Markup("<b>c</b>"), None, title='"x"', id=None) == (
        '<p title="&quot;x&quot;">a&lt;b<b>c</b></p>'
    )


# --- groups of nodes


def test_nodes_are_labelled_with_given_groups(run, tmp_path):
    names = [node.name for node in run.circuit.nodes if node.kind == "head"]
    groups = {"first <group>": names[:1], "others": names[1:], "elsewhere": ["a0.h0"]}
    groups["elsewhere"] = [n.name for n in run.circuit.graph.nodes if n not in run.circuit.nodes]
    text = ew.report(run, tmp_path / "groups.html", groups=groups).read_text()
    assert f"<title>{names[0]}: first &lt;group&gt;" in text
    assert f"others ({len(names) - 1})" in text
    assert "elsewhere" not in text, "none of its nodes is in the circuit"
    assert text.count('class="n head g1"') == 1
    assert text.count('class="n head g2"') == len(names) - 1
    assert "Groups of nodes (2)" in text
    assert "first &lt;group&gt; →" in text or "→ first &lt;group&gt;" in text


def test_groups_kept_with_a_run_are_shown(run, tmp_path):
    node = next(n.name for n in run.circuit.nodes if n.kind == "head")
    head = {"head": node, "role": "mover", "attention": 0.93, "effect": -1.5}
    kept = {"groups": {"mover": [node]}, "source": "The rule.", "heads": [head]}
    run.with_(measurements={"groups": kept}).save(tmp_path / "run")
    text = page([ew.Run.load(tmp_path / "run")])
    assert f"{node}: mover" in text
    assert "The rule." in text
    assert "93 %" in text or "93%" in text
    assert "-1.50" in text
    assert "Other measurements" not in text


def test_published_groups_label_the_papers_model_alone(run):
    graph = Graph.build(12, 12, switches=True)
    shown = with_circuit(run, graph, 0.02)
    there = {**run.request, "task": "ioi"}
    for model, labelled in (("openai-community/gpt2", True), ("gpt-neo-125m", False)):
        summary = replace(run.problem, model=model)
        text = page([replace(shown, request=there, problem=summary)])
        assert ("S-inhibition (" in text) == labelled
        assert ("Wang et al." in text) == labelled


def test_groups_are_refused_with_what_is_wrong(run, tmp_path):
    out = tmp_path / "page.html"
    for groups, error, message in (
        ([], FormatError, "groups are a list"),
        ({"x": "a0.h0"}, FormatError, "group 'x' is 'a0.h0'"),
        ({"x": 3}, FormatError, "group 'x' is 3"),
        ({"x": ["a9.h9"]}, UnknownName, r"node \(of group 'x'\).*a9.h9"),
        ({"x": ["nobody"]}, EdgewiseError, "nobody"),
        ({"x": ["m0"], "y": ["m0"]}, SettingError, "m0 is in two groups, 'x' and 'y'"),
    ):
        with pytest.raises(error, match=message):
            checked(groups, [run])
    with pytest.raises(SettingError, match="two groups"):
        ew.report(run, out, groups={"x": ["m0"], "y": ["m0"]})
    assert not out.exists()
    other = ew.compare({"a": run, "b": run})
    with pytest.raises(SettingError, match="a comparison has those of compare"):
        ew.report(other, out, groups={"x": ["m0"]})
