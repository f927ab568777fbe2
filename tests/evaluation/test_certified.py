"""Certified decisions: the theorem against every deletion there is, and its confidence."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgewise as ew
from edgewise.evaluation.certified import worst_vote
from models import random_model, random_pairs


def problem(n, seed=1):
    model = random_model(seed, n_layers=1)
    return ew.Problem(model, random_pairs(model, 3, n=n), "kl", "corrupted")


def share(circuits, rows, size, edge):
    """The share of all subsamples of these prompts whose circuit has an edge."""
    every = list(itertools.combinations(rows, size))
    return sum(edge in circuits[some] for some in every) / len(every)


def test_certified_decisions_survive_every_deletion_there_is():
    """Exactly simulated: all subsamples of 8 prompts, and of what any deletion leaves."""
    n, size = 7, 2
    checked = 0
    for seed in (1,):
        of = problem(n, seed)
        found = ew.certify(of, "acdc", threshold=0.1, n=21, size=size)
        assert found.exact
        circuits = {
            rows: ew.acdc(of.with_(pairs=of.pairs.taken(rows)), threshold=0.1).circuit
            for rows in itertools.combinations(range(n), size)
        }
        for edge in of.graph.edges:
            vote = found.of(edge)
            pi = share(circuits, range(n), size, edge)
            assert vote.count / vote.n == pytest.approx(pi)
            for deleted in range(1, vote.deletions + 1):
                for gone in itertools.combinations(range(n), deleted):
                    left = [row for row in range(n) if row not in gone]
                    after = share(circuits, left, size, edge)
                    agree = after if vote.kept else 1 - after
                    own = pi if vote.kept else 1 - pi
                    assert agree > 0.5
                    assert agree >= worst_vote(own, n_prompts=n, size=size, deleted=deleted) - 1e-12
                    checked += 1
    assert checked > 100


@given(st.integers(2, 9), st.data())
def test_the_bound_holds_of_any_rule_and_any_change_of_prompts(n, data):
    """Any set of winning subsamples, not one that a method makes; deletions and additions."""
    size = data.draw(st.integers(1, n - 1))
    deleted = data.draw(st.integers(0, n - size))
    added = data.draw(st.integers(0, 3))
    world = list(itertools.combinations(range(n + added), size))
    wins = set(data.draw(st.lists(st.sampled_from(world), unique=True)))

    def vote(rows):
        every = list(itertools.combinations(rows, size))
        return sum(some in wins for some in every) / len(every)

    before = vote(range(n))
    after = vote(range(deleted, n + added))
    assert after >= worst_vote(before, n_prompts=n, size=size, deleted=deleted, added=added) - 1e-12


def test_the_bound_is_tight():
    """The worst rule: of the subsamples without the deleted prompt as many lose as can."""
    n, size = 6, 2
    every = list(itertools.combinations(range(n), size))
    with_first = [some for some in every if 0 in some]
    wins = set(with_first) | {(1, 2), (3, 4), (1, 5)}
    left = [some for some in every if 0 not in some]
    after = sum(some in wins for some in left) / len(left)
    p = len(wins) / len(every)
    assert after == pytest.approx(worst_vote(p, n_prompts=n, size=size, deleted=1))


def test_votes_of_random_subsamples_bound_the_true_share():
    """All bounds at once hold in at least `level` of the draws: here in every one of three."""
    of, size = problem(7), 3
    exact = ew.certify(of, "eap-ig", edges=5, n=math.comb(7, 3), size=size)
    broken = 0
    for seed in range(3):
        found = ew.certify(of, "eap-ig", edges=5, n=30, size=size, seed=seed)
        assert not found.exact
        for edge in of.graph.edges:
            vote, truth = found.of(edge), exact.of(edge).count / exact.n
            broken += vote.vote > (truth if vote.kept else 1 - truth)
    assert broken == 0


def test_close_votes_abstain_and_sets_partition_the_graph():
    of = problem(8)
    found = ew.certify(of, "eap-ig", edges=5, n=56, size=3)
    for deletions in (0, 1, 2, 5):
        parts = [found.kept(deletions), found.removed(deletions), found.abstained(deletions)]
        assert sum(part.n_edges for part in parts) == of.graph.n_edges
    assert found.kept(2).n_edges <= found.kept(1).n_edges
    assert found.withstands(found.kept(1).edges[0], 1)
    assert not found.withstands(found.kept(1).edges[0], 1, added=50)
    few = ew.certify(of, "eap-ig", edges=5, n=5, size=3)  # five votes show nothing
    assert few.kept(0).n_edges == 0
    assert few.table[0].deletions == -1


def test_files_journals_and_refusals(tmp_path):
    of = problem(6)
    found = ew.certify(of, threshold=0.1, size=2, n=15, journal=tmp_path / "j.jsonl")
    again = ew.certify(of, threshold=0.1, size=2, n=15, journal=tmp_path / "j.jsonl")
    assert again.to_json() == found.to_json()
    assert ew.Certified.load(found.save(tmp_path / "c.json")).to_json() == found.to_json()
    with pytest.raises(ew.EdgewiseError, match="a subsample of 6 prompts must be smaller"):
        ew.certify(of, threshold=0.1, size=6)
    with pytest.raises(ew.EdgewiseError, match="there is only 1"):
        ew.certify(problem(1), threshold=0.1)
