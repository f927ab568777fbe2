"""Certified decisions: the theorem against every deletion there is, and its confidence."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgewise as ew
from edgewise.evaluation.certified import worst_vote


def share(winning, rows, size):
    """The share of all subsamples of these prompts for which something holds."""
    every = list(itertools.combinations(rows, size))
    return sum(map(winning, every)) / len(every)


def test_certified_decisions_survive_every_deletion_there_is(small_problem):
    """Exactly simulated: all subsamples of 7 prompts, and of what any deletion leaves."""
    n, size, checked = 7, 2, 0
    problem = small_problem(1, "kl", n=n, n_layers=1)
    found = ew.certify(problem, "acdc", threshold=0.1, n=21, size=size)
    assert found.exact
    circuits = {
        rows: ew.acdc(problem.with_(pairs=problem.pairs.taken(rows)), threshold=0.1).circuit
        for rows in itertools.combinations(range(n), size)
    }
    for edge in problem.graph.edges:
        vote = found.of(edge)
        agreeing = [rows for rows, c in circuits.items() if (edge in c) == vote.kept]
        own = share(agreeing.__contains__, range(n), size)
        assert max(vote.count, 21 - vote.count) / 21 == pytest.approx(own)
        for deleted in range(1, vote.deletions + 1):
            bound = worst_vote(own, n_prompts=n, size=size, deleted=deleted)
            for left in itertools.combinations(range(n), n - deleted):
                after = share(agreeing.__contains__, left, size)
                assert after > 0.5
                assert after >= bound - 1e-12
                checked += 1
    assert checked > 100


@given(st.integers(2, 9), st.data())
def test_the_bound_holds_of_any_rule_and_any_change_of_prompts(n, data):
    """Any set of winning subsamples, not one that a method makes; deletions and additions."""
    size = data.draw(st.integers(1, n - 1))
    deleted, added = data.draw(st.integers(0, n - size)), data.draw(st.integers(0, 3))
    world = list(itertools.combinations(range(n + added), size))
    wins = set(data.draw(st.lists(st.sampled_from(world), unique=True)))
    before = share(wins.__contains__, range(n), size)
    after = share(wins.__contains__, range(deleted, n + added), size)
    change = {"n_prompts": n, "size": size, "deleted": deleted, "added": added}
    assert after >= worst_vote(before, **change) - 1e-12


def test_the_bound_is_tight():
    """The worst rule: of the subsamples without the deleted prompt as many lose as can."""
    with_first = {rows for rows in itertools.combinations(range(6), 2) if 0 in rows}
    wins = with_first | {(1, 2), (3, 4), (1, 5)}
    p = share(wins.__contains__, range(6), 2)
    after = share(wins.__contains__, range(1, 6), 2)
    assert after == pytest.approx(worst_vote(p, n_prompts=6, size=2, deleted=1))


def test_votes_of_random_subsamples_bound_the_true_share(small_problem):
    """All bounds at once hold in at least `level` of the draws: here in each of three."""
    problem = small_problem(1, "kl", n=7, n_layers=1)
    exact = ew.certify(problem, "eap-ig", edges=5, n=math.comb(7, 3), size=3)
    for seed in range(3):
        found = ew.certify(problem, "eap-ig", edges=5, n=30, size=3, seed=seed)
        assert not found.exact
        for edge in problem.graph.edges:
            vote, truth = found.of(edge), exact.of(edge).count / exact.n
            assert vote.vote <= (truth if vote.kept else 1 - truth)


def test_close_votes_abstain_and_sets_partition_the_graph(small_problem):
    problem = small_problem(1, "kl", n=8, n_layers=1)
    found = ew.certify(problem, "eap-ig", edges=5, n=56, size=3)
    for deletions in (0, 1, 2, 5):
        parts = [found.kept(deletions), found.removed(deletions), found.abstained(deletions)]
        assert sum(part.n_edges for part in parts) == problem.graph.n_edges
    assert found.kept(2).n_edges <= found.kept(1).n_edges
    assert found.withstands(found.kept(1).edges[0], 1)
    assert not found.withstands(found.kept(1).edges[0], 1, added=50)
    few = ew.certify(problem, "eap-ig", edges=5, n=5, size=3)  # five votes show nothing
    assert few.kept(0).n_edges == 0
    assert few.table[0].deletions == -1


def test_files_journals_and_refusals(small_problem, tmp_path):
    problem = small_problem(1, "kl", n=6, n_layers=1)
    settings = {"threshold": 0.1, "size": 2, "n": 15, "journal": tmp_path / "j.jsonl"}
    found = ew.certify(problem, **settings)
    assert ew.certify(problem, **settings).to_json() == found.to_json()
    assert ew.Certified.load(found.save(tmp_path / "c.json")).to_json() == found.to_json()
    for change, words in (
        ({"counts": found.counts[1:]}, "votes for each of"),
        ({"size": 6}, "not less than its prompts"),
    ):
        with pytest.raises(ew.EdgewiseError, match=words):
            ew.Certified.from_json(found.to_json() | change)
    with pytest.raises(ew.EdgewiseError, match="a subsample of 6 prompts must be smaller"):
        ew.certify(problem, threshold=0.1, size=6)
    with pytest.raises(ew.EdgewiseError, match="there is only 1"):
        ew.certify(small_problem(1, "kl", n=1), threshold=0.1)
