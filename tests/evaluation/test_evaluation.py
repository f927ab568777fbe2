"""Evaluation: the paper's area, confusion counts by hand, spreads, faithfulness at both ends."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.errors import SettingError
from edgewise.evaluation import Confusion, Recovery, Spread, faithfulness, pessimistic_auc, recovery
from edgewise.graph import Graph
from edgewise.model import load_model
from edgewise.problem import Problem

fixed = settings(derandomize=True, deadline=None, max_examples=100)
RATE = st.integers(0, 8).map(lambda n: n / 8)  # eighths: many ties, and exact sums
POINTS = st.lists(st.tuples(RATE, RATE), max_size=8)
SMALL = Graph.build(2, 2)


# --- the pessimistic area


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(0.0, 0.0), (1.0, 1.0)], 0.0),
        ([(0.5, 0.5)], 0.25),
        ([(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], 0.25),
        ([(0.25, 0.25)], 0.1875),
        ([(0.25, 0.25), (0.5, 0.5)], 5 / 16),
        ([(0.25, 0.25), (0.75, 0.5)], 4 / 16),
        ([(0.0, 1.0)], 1.0),
        ([(1.0, 0.0)], 0.0),
        ([(0.0, 0.2)], 0.2),  # the paper's tracr-reverse: 3 of 15 edges, none false
        ([(0.25, 0.75), (0.5, 0.25)], 0.75 * 0.75),  # the second is worse in both
        ([(0.25, 0.5), (0.25, 0.75)], 0.75 * 0.75),
        ([(0.25, 0.5), (0.75, 0.5)], 0.75 * 0.5),
    ],
)
def test_areas_by_hand(points, area):
    assert pessimistic_auc(points) == pytest.approx(area, abs=1e-15)


def area_by_definition(points: list[tuple[float, float]]) -> float:
    """At each FPR the best TPR of any point up to there, in strips an eighth wide."""
    strips = range(8)
    return sum(max([0.0, *(tpr for fpr, tpr in points if fpr <= n / 8)]) for n in strips) / 8


@fixed
@given(POINTS)
def test_the_area_is_that_under_the_best_so_far(points):
    assert pessimistic_auc(points) == pytest.approx(area_by_definition(points), abs=1e-12)


@pytest.mark.parametrize(
    "point", [(1.1, 0.5), (0.5, -0.1), (float("nan"), 0.5), (0.5, float("nan"))]
)
def test_a_point_is_two_rates(point):
    with pytest.raises(SettingError, match="is not a point of two rates between 0 and 1"):
        pessimistic_auc([(0.5, 0.5), point])


# --- confusion, recovery


def test_rates_by_hand():
    counts = Confusion(true_positives=3, false_positives=1, n_true=4, n_false=8)
    assert (counts.tpr, counts.fpr, counts.precision) == (0.75, 0.125, 0.75)
    expected = {"true_positives": 3, "false_positives": 1, "n_true": 4, "n_false": 8}
    assert counts.to_json() == expected | {"tpr": 0.75, "fpr": 0.125, "precision": 0.75}


PUBLISHED = Circuit.of(SMALL, ["input->m0", "m0->a1.h0.q", "a1.h0->logits", "m0->logits"])
FOUND = Circuit.of(SMALL, ["input->m0", "m0->logits", "m0->m1", "m1->logits", "input->a0.h0.k"])


def test_counts_by_hand():
    result = recovery(FOUND, PUBLISHED)
    assert result.edges == Confusion(2, 3, n_true=4, n_false=42)
    # Published: input, m0, a1.h0, logits. Found: input, m0, m1, a0.h0, logits. Of 8 nodes.
    assert result.nodes == Confusion(3, 2, n_true=4, n_false=4)
    assert result.points[0].n_edges == 5
    assert result.sentences() == ("It finds 2 of the 4 known edges, and 3 others.",)
    assert Recovery.from_json(result.to_json()) == result
    assert result.edge_auc == pytest.approx((1 - 3 / 42) * 0.5)
    assert result.node_auc == pytest.approx((1 - 2 / 4) * 0.75)


def test_the_full_and_the_empty_circuit_recover_nothing():
    ends = [Circuit.full(SMALL), Circuit.empty(SMALL)]
    for circuit in ends:
        assert recovery(circuit, PUBLISHED).edge_auc == 0.0
    full, empty = recovery(ends, PUBLISHED).points
    assert (full.edges.tpr, full.edges.fpr) == (full.nodes.tpr, full.nodes.fpr) == (1.0, 1.0)
    assert (empty.edges.tpr, empty.edges.fpr, empty.edges.precision) == (0.0, 0.0, 1.0)


@fixed
@given(st.integers(0, 10**6))
def test_counts_are_those_of_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    graph = Graph.build(2, 2, switches=True)
    found, published = (
        Circuit(graph, (torch.rand(graph.exists.shape, generator=generator) < 0.3) & graph.exists)
        for _ in range(2)
    )
    result = recovery(found, published)
    for counts, a, b, every in (
        (result.edges, found.edges, published.edges, graph.edges),
        (result.nodes, found.nodes, published.nodes, graph.nodes),
    ):
        mine, theirs = set(a), set(b)
        assert counts.true_positives == len(mine & theirs)
        assert counts.false_positives == len(mine - theirs)
        assert counts.n_true == len(theirs)
        assert counts.n_false == len(set(every) - theirs)


def test_runs_lists_and_single_circuits():
    run = SimpleNamespace(circuit=FOUND)
    one = recovery(FOUND, PUBLISHED)
    assert recovery(run, PUBLISHED) == recovery([FOUND], PUBLISHED) == one
    several = recovery([run, PUBLISHED, Circuit.empty(SMALL)], PUBLISHED)
    assert [point.n_edges for point in several.points] == [5, 4, 0]
    assert several.edge_auc == 1.0
    with pytest.raises(SettingError, match="there are 3 circuits; look at `points`"):
        several.edges  # noqa: B018
    with pytest.raises(SettingError, match="look at `points`"):
        several.nodes  # noqa: B018


def test_circuits_of_another_graph_are_refused():
    other = Circuit.full(Graph.build(2, 2, split_qkv=False))
    with pytest.raises(SettingError, match=r"different graphs:\n.*joined q/k/v.*\n.*split q/k/v"):
        recovery(other, PUBLISHED)
    with pytest.raises(SettingError, match="different graphs"):
        recovery([FOUND, other], PUBLISHED)


# --- spread


@fixed
@given(st.lists(st.integers(-100, 100).map(float), min_size=1, max_size=9), st.booleans())
def test_a_spread_is_what_statistics_says(values, higher_is_better):
    spread = Spread.of(torch.tensor(values), higher_is_better=higher_is_better)
    assert spread.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    assert spread.std == pytest.approx(std, abs=1e-9)
    assert (spread.minimum, spread.maximum) == (min(values), max(values))
    assert values[spread.worst] == (min(values) if higher_is_better else max(values))


# --- faithfulness, on the bundled OR gate: 1 - ReLU(1 - (h0 + h1)), so one head is enough


def or_gate() -> Problem:
    return Problem(load_model("or-gate"), PromptPairs.from_tokens([[0]]), "l2", "zero")


def test_the_ends_of_the_scale():
    problem = or_gate()
    full = faithfulness(problem, Circuit.full(problem.graph))
    empty = faithfulness(problem, Circuit.empty(problem.graph))
    assert (full.circuit, full.full, full.normalized) == (0.0, 0.0, 1.0)
    assert (empty.circuit, empty.empty, empty.normalized) == (1.0, 1.0, 0.0)
    assert (full.n_edges, empty.n_edges, empty.n_edges_total) == (13, 0, 13)


def test_one_head_of_the_or_gate_is_enough():
    problem = or_gate()
    names = ["input->a0.h0.v", "a0.h0->m0", "m0->logits"]
    result = faithfulness(problem, Circuit.of(problem.graph, names))
    assert result.normalized == 1.0
    assert result.loss == result.loss_full == 0.0
    assert result.loss_empty == 1.0


def test_where_full_and_empty_agree_there_is_no_scale():
    problem = or_gate().with_(metric=lambda logits, rows: 0 * logits[:, 0] + 2.0)
    result = faithfulness(problem, Circuit.full(problem.graph))
    assert result.normalized is None
    assert result.circuit == 2.0


def test_losses_are_the_metric_with_lower_made_better():
    problem = or_gate().with_(pairs=PromptPairs.from_tokens([[0]], answers=[0]), metric="accuracy")
    result = faithfulness(problem, Circuit.full(problem.graph))
    assert (result.circuit, result.loss, result.loss_full) == (1.0, -1.0, -1.0)
