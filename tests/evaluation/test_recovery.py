"""Recovery: the paper's area, counts by hand and by sets, the paper's nodes, orders of edges."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.circuit import Circuit, EdgeScores
from edgewise.errors import SettingError, UnknownName
from edgewise.evaluation import paper_nodes, pessimistic_auc, recovery, score_recovery
from edgewise.evaluation.curves import area
from edgewise.evaluation.recovery import Confusion
from edgewise.graph import Graph
from edgewise.tasks import published_circuit
from models import random_circuit

fixed = settings(derandomize=True, deadline=None, max_examples=50)
RATE = st.integers(0, 8).map(lambda n: n / 8)  # eighths: many ties, and exact sums
SMALL, SWITCHED = Graph.build(2, 2), Graph.build(2, 2, switches=True)
PUBLISHED = Circuit.of(SMALL, ["input->m0", "m0->a1.h0.q", "a1.h0->logits", "m0->logits"])
FOUND = Circuit.of(SMALL, ["input->m0", "m0->logits", "m0->m1", "m1->logits", "input->a0.h0.k"])


@fixed
@given(st.lists(st.tuples(RATE, RATE), max_size=8))
def test_the_area_is_that_under_the_best_so_far(points):
    """At each FPR the best TPR of any point up to there, in strips an eighth wide."""
    strips = [max([0.0, *(tpr for fpr, tpr in points if fpr <= n / 8)]) for n in range(8)]
    assert pessimistic_auc(points) == pytest.approx(sum(strips) / 8, abs=1e-12)


def test_counts_by_hand():
    result = recovery(FOUND, PUBLISHED)
    assert result.edges == Confusion(2, 3, n_true=4, n_false=42)
    assert (result.edges.tpr, result.edges.fpr, result.edges.precision) == (0.5, 3 / 42, 0.4)
    # Published: input, m0, a1.h0, logits. Found: input, m0, m1, a0.h0, logits. Of 8 nodes.
    assert result.nodes == Confusion(3, 2, n_true=4, n_false=4)
    assert "2 of the 4 known edges, and 3 others" in result.sentences()[0]
    assert ew.Recovery.from_json(result.to_json()) == result
    assert result.to_json()["points"][0]["edges"]["tpr"] == 0.5
    assert result.edge_auc == pytest.approx((1 - 3 / 42) * 0.5)
    assert result.node_auc == pytest.approx((1 - 2 / 4) * 0.75)


def test_runs_lists_and_single_circuits():
    run, ends = SimpleNamespace(circuit=FOUND), [Circuit.full(SMALL), Circuit.empty(SMALL)]
    assert recovery(run, PUBLISHED) == recovery([FOUND], PUBLISHED) == recovery(FOUND, PUBLISHED)
    several = recovery([run, PUBLISHED, *ends], PUBLISHED)
    assert [point.n_edges for point in several.points] == [5, 4, 46, 0]
    assert (several.edge_auc, recovery(ends, PUBLISHED).edge_auc) == (1.0, 0.0)
    empty = several.points[-1].edges
    assert (empty.tpr, empty.fpr, empty.precision) == (0.0, 0.0, 1.0)
    assert len(several.charts()[0].series) == 2
    for name in ("edges", "nodes"):
        with pytest.raises(SettingError, match="look at `points`"):
            getattr(several, name)


# --- the paper's nodes (spec 1.4)


@pytest.mark.parametrize(
    ("graph", "n"),
    [
        (Graph.build(12, 12, switches=True), 1022),  # GPT-2 small
        (Graph.build(4, 8, mlps=False, switches=True), 226),  # docstring
        (Graph.build(4, 1, split_embed=True, switches=True), 35),  # tracr-reverse
    ],
)
def test_the_paper_counts_so_many_nodes(graph, n):
    assert len(paper_nodes(Circuit.full(graph))) == n
    assert not paper_nodes(Circuit.empty(graph))


def test_the_papers_node_rates():
    """Published: 3 of tracr-reverse's 15 edges are an edge AUC of 0.200, a node AUC of 0.312."""
    published = published_circuit("tracr-reverse")
    found = Circuit.of(published.graph, ["a3.h0->logits", "tok_embed->a3.h0.v", "a3.h0.v->a3.h0"])
    result = recovery(found, published, nodes="paper")
    assert (result.edge_auc, result.node_auc) == (pytest.approx(0.2), pytest.approx(0.3125))
    assert (result.nodes.n_true, result.nodes.n_false) == (16, 19)
    assert recovery(found, published).nodes.n_true == 8


def test_an_mlp_counts_where_it_sends():
    into = Circuit.of(SWITCHED, ["input->m0"])
    assert paper_nodes(into) == {"input"}
    both = into | Circuit.of(SWITCHED, ["m0->logits"])
    assert paper_nodes(both) == {"input", "m0", "logits"}
    port = {"a1.h0.k:input"}
    assert paper_nodes(Circuit.of(SWITCHED, ["m0->a1.h0.k"])) == port | {"m0"}
    assert paper_nodes(Circuit.of(SWITCHED, ["a1.h0.k->a1.h0"])) == port | {"a1.h0.k:vector"}


# --- scores against a known circuit


@pytest.mark.parametrize("by", ["absolute", "signed"])
def test_areas_of_scores_are_those_of_their_order(random_scores, by):
    """The chance that a true edge scores higher than a false one, ties counting half."""
    published = random_circuit(SWITCHED, 3, share=0.3)
    scores = (2 * random_scores(SWITCHED, 3).values).round()
    found = score_recovery(EdgeScores(SWITCHED, scores, "made up", "ties"), published, by=by)
    values, truth = scores[SWITCHED.exists], published.keep[SWITCHED.exists]
    values = values.abs() if by == "absolute" else values
    wins = [(a > b) + (a == b) / 2 for a in values[truth] for b in values[~truth]]
    assert found.roc_auc == pytest.approx(float(sum(wins) / len(wins)))
    assert found.roc_auc == pytest.approx(area(found.fpr, found.tpr))
    assert found.average_precision == pytest.approx(
        float(sum(truth[values >= v].double().mean() for v in values[truth]) / truth.sum())
    )
    assert (found.n_true, found.n_false) == (published.n_edges, (~truth).sum())


def test_refusals(unchecked, random_scores):
    scores, full = random_scores(SMALL), Circuit.full(SMALL)
    joined = Circuit.full(Graph.build(2, 2, split_qkv=False))
    for call, words in (
        (lambda: recovery([FOUND, joined], PUBLISHED), r"different graphs:\n.*joined.*\n.*split"),
        (lambda: score_recovery(scores, joined), "different graphs"),
        (lambda: score_recovery(scores, full), "has 46 of 46 edges"),
        (lambda: score_recovery(scores, None), "pass a Circuit"),
        (lambda: score_recovery(full, full), "found a Circuit; pass edge scores, or a run"),
        (lambda: score_recovery(scores, full, by="rank"), "no ranking named 'rank'"),
        (lambda: recovery([], full), "no circuits to compare"),
        (lambda: recovery(full, full, nodes="papers"), "no node counting named 'papers'"),
        (lambda: recovery(full, full, nodes="paper"), "split q/k/v and switches"),
        (lambda: recovery(joined, joined, nodes="paper"), "split q/k/v and switches"),
        (lambda: pessimistic_auc([(0.5, 0.5), (1.1, 0.5)]), "not a point of two rates"),
        (lambda: pessimistic_auc([(0.5, float("nan"))]), "not a point of two rates"),
    ):
        with pytest.raises((SettingError, UnknownName), match=words):
            call()
