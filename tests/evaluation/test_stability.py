"""Stability: what is drawn, what is counted, and what is kept on disk."""

import itertools
import json

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.evaluation import jaccard
from edgewise.evaluation.inference import JaccardSpread, proportion_interval
from edgewise.evaluation.replicates import Finder, Replicate
from edgewise.methods.acdc import acdc
from edgewise.methods.settings import ACDCSettings
from edgewise.methods.steps import receiver_steps, shuffled_steps
from edgewise.progress import ignore_progress
from models import random_circuit, random_model, random_pairs


@pytest.fixture
def problem_of(small_problem):
    return lambda n=8, metric="kl", ablation="corrupted": small_problem(
        1, metric, ablation, n=n, n_layers=1
    )


def test_inclusion_is_the_share_of_bootstrap_circuits_drawn_by_hand(problem_of):
    problem = problem_of()
    found = ew.stability(problem, "acdc", threshold=0.03, n=16, seed=4)
    kept = []
    for index in range(16):
        rows = np.random.default_rng([4, index, 0]).integers(8, size=8).tolist()
        resampled = problem.with_(pairs=problem.pairs.taken(rows))
        kept.append(ew.acdc(resampled, threshold=0.03).circuit)
    assert [r.edges for r in found.replicates] == [Replicate.edges_of(c) for c in kept]
    assert torch.equal(found.inclusion, sum(c.keep.double() for c in kept) / 16)
    assert [r.loss for r in found.replicates] == [problem.loss(c) for c in kept]
    assert found.circuit == ew.acdc(problem, threshold=0.03).circuit
    assert found.split == "discovery"
    pairs = [jaccard(set(a.edges), set(b.edges)) for a, b in itertools.combinations(kept, 2)]
    assert found.jaccard.mean == pytest.approx(sum(pairs) / len(pairs))


def test_core_contingent_and_noise_are_by_interval_and_disjoint(problem_of):
    found = ew.stability(problem_of(), "exact", edges=8, n=24, core=0.7, noise=0.3)
    parts = [found.core, found.contingent, found.noise]
    assert all((a & b).n_edges == 0 for a, b in itertools.combinations(parts, 2))
    assert found.core.n_edges
    assert found.contingent.n_edges
    for row in found.table:
        low, high = proportion_interval(row.count, 24, 0.95)
        assert (row.low, row.high) == (low, high)
        expected = "core" if low >= 0.7 else "noise" if high <= 0.3 else "contingent"
        assert row.kind == (expected if row.count else "absent")
        assert row.in_circuit == (row.edge in found.circuit)
    counts = [row.count for row in found.table]
    assert counts == sorted(counts, reverse=True)
    assert found.of("input->logits").n == 24


@pytest.mark.parametrize(
    ("method", "settings", "ablation"),
    [
        ("eap-ig", {"edges": 9}, "corrupted"),
        ("eap", {"above": 0.001}, "zero"),
        ("exact", {"edges": 9}, "corrupted"),
        ("atp-star", {"edges": 9}, "corrupted"),
        ("clean-corrupted", {"share": 0.2}, "corrupted"),
        ("relp", {"edges": 5}, "corrupted"),
        ("eap-ig", {"edges": 9}, "mean"),
    ],
)
def test_scores_of_each_prompt_give_what_running_on_the_resample_gives(
    problem_of, method, settings, ablation
):
    problem = problem_of(6, "logit-diff", ablation)
    finder = Finder(problem, method, settings, ignore_progress)
    for rows in ([0, 0, 1, 4, 5, 5], [2, 3], None):
        on = problem if rows is None else problem.with_(pairs=problem.pairs.taken(rows))
        assert finder.circuit(rows) == ew.discover(on, method, **settings).circuit


def test_shuffled_heads_are_acdc_with_heads_renumbered():
    model = random_model(2, n_heads=3, d_head=2)
    graph = ew.Graph.of(model, split_embed=True, switches=True)
    problem = ew.Problem(model, random_pairs(model, 2), "kl", "corrupted", graph=graph)
    usual = [(step.receiver, step.edges) for step in receiver_steps(graph)]
    plans = []
    for seed in range(2):
        steps = shuffled_steps(graph, torch.Generator().manual_seed(seed))
        plans.append([edge for step in steps for edge in step.edges])
        assert sorted(e.name for e in plans[-1]) == sorted(e.name for _, c in usual for e in c)
        layers = [step.receiver.node.layer for step in steps]
        assert layers == [port.node.layer for port, _ in usual]
        fast, plain = (
            acdc(problem, ACDCSettings(threshold=0.05, engine=e), steps=steps)
            for e in ("incremental", "plain")
        )
        assert fast.circuit == plain.circuit
        assert [d.edge for d in fast.trace] == [d.edge for d in plain.trace]
    assert plans[0] != plans[1]


def test_shuffled_heads_are_the_same_at_every_span():
    graph = ew.Graph.build(2, 3, spans=["subject", "rest"])
    steps = shuffled_steps(graph, torch.Generator().manual_seed(1))
    edges = [edge for step in steps for edge in step.edges]
    assert len(edges) == len(set(edges)) == graph.n_edges
    ports = [s.receiver.node for s in steps if s.receiver.slot == "q"]
    orders = [
        [node.head for node in ports if (node.span, node.layer) == (span, 1)]
        for span in ("subject", "rest")
    ]
    assert orders[0] == orders[1]


def test_each_thing_varied_has_random_numbers_of_its_own(problem_of):
    problem, more = problem_of(5), {"core": 0.4, "n": 4}
    alone = ew.stability(problem, threshold=0.05, over="threshold", spread=3, **more)
    both = ew.stability(problem, threshold=0.05, over=["prompts", "threshold"], spread=3, **more)
    drawn = [r.drawn["threshold"] for r in alone.replicates]
    assert drawn == [r.drawn["threshold"] for r in both.replicates]
    assert all(0.05 / 3 <= t <= 0.15 for t in drawn)
    assert both.over == ("prompts", "threshold")
    orders = ew.stability(problem, threshold=0.05, over="head-order", **more)
    assert len({r.drawn["head_order_seed"] for r in orders.replicates}) == 4
    seeds = ew.stability(problem, "random", edges=5, over="seed", **more)
    assert len({r.drawn["seed"] for r in seeds.replicates}) == 4
    assert seeds.jaccard.mean < 1
    sizes = ew.stability(problem, "random", edges=8, over="threshold", **more)
    assert [r.n_edges for r in sizes.replicates] == [r.drawn["edges"] for r in sizes.replicates]
    assert max(r.n_edges for r in sizes.replicates) <= problem.graph.n_edges


def test_a_stopped_call_goes_on_and_finds_the_same(problem_of, tmp_path):
    problem, journal = problem_of(5), tmp_path / "replicates.jsonl"
    settings = {"threshold": 0.05, "n": 6, "core": 0.4}
    whole = ew.stability(problem, **settings)

    class Stop(Exception):
        pass

    def stop(step):
        if step.done == 3:
            raise Stop

    with pytest.raises(Stop):
        ew.stability(problem, **settings, journal=journal, on_progress=stop)
    lines = journal.read_text().splitlines()
    assert len(lines) == 4
    journal.write_text("\n".join(lines) + '\n{"index": 3, "dra')  # killed in the middle of a line
    with pytest.warns(UserWarning, match="half a line, .* its work done again"):
        again = ew.stability(problem, **settings, journal=journal)
    assert again.to_json() == whole.to_json()
    assert len(journal.read_text().splitlines()) == 7
    with pytest.raises(ew.EdgewiseError, match="other work: threshold was"):
        ew.stability(problem, **settings | {"threshold": 0.06}, journal=journal)


def test_files_round_trip(problem_of, tmp_path):
    found = ew.stability(problem_of(5), threshold=0.05, n=4, core=0.4)
    loaded = ew.Stability.load(found.save(tmp_path / "s.json"))
    assert loaded.to_json() == json.loads(json.dumps(found.to_json()))
    assert loaded.core == found.core
    broken = found.to_json()
    broken["replicates"][0]["edges"] = [found.circuit.graph.n_edges]
    with pytest.raises(ew.EdgewiseError, match="there is no edge"):
        ew.Stability.from_json(broken)
    del broken["replicates"]
    with pytest.raises(ew.EdgewiseError, match="not a complete edgewise-stability file"):
        ew.Stability.from_json(broken)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 10, "threshold": 0.1}, "even an edge that all of them have"),
        ({"over": "weather", "threshold": 0.1}, "no variation named 'weather'"),
        ({"over": [], "threshold": 0.1}, "nothing to vary"),
        ({"over": "seed", "threshold": 0.1}, "acdc draws nothing"),
        ({"method": "eap", "over": "head-order"}, "eap has no order of heads"),
        ({"method": "hisp", "activations": 0, "over": "threshold"}, "above 0 to vary"),
        ({"threshold": 0.1, "core": 0.2, "noise": 0.3}, "below core"),
        ({"threshold": 0.1, "spread": 0.5}, "spread must be at least 1"),
        ({"treshold": 0.1}, "Did you mean 'threshold'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_work(problem_of, settings, words):
    with pytest.raises(ew.EdgewiseError, match=words):
        ew.stability(problem_of(3), **settings)


def test_a_single_prompt_cannot_be_resampled():
    gate = ew.load_task("or-gate").problem
    with pytest.raises(ew.EdgewiseError, match="there is only 1"):
        ew.stability(gate, threshold=0.5)
    assert ew.stability(gate, threshold=0.5, over="head-order", n=4, core=0.4).n == 4


def test_intervals_count_circuits_not_pairs_and_are_the_standard_ones():
    graph = ew.Graph.build(2, 2)
    same = JaccardSpread.of([Replicate.edges_of(random_circuit(graph, 0))] * 5, 0.95)
    assert (same.low, same.mean, same.high) == (1, 1, 1)
    covered = 0
    for seed in range(40):
        circuits = [random_circuit(graph, 1000 + 12 * seed + i) for i in range(12)]
        found = JaccardSpread.of([Replicate.edges_of(circuit) for circuit in circuits], 0.9)
        covered += found.low <= 0.4335 <= found.high
    assert 28 <= covered < 40  # of 36 expected
    low, high = proportion_interval(8, 10, 0.95, kind="clopper-pearson")
    assert (low, high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert proportion_interval(8, 10, 0.95) == pytest.approx((0.4902, 0.9433), abs=1e-4)
