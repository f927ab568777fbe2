"""The incremental engine answers what the plain evaluator answers, on every kind of problem."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import edgewise as ew
from edgewise.engine import EdgeTest, Loss, ReceiverStep, Removals, SpeculativeEngine, Threshold
from edgewise.errors import SettingError, VerificationFailed
from edgewise.metrics import METRICS
from engine_problems import (
    ABLATIONS,
    assert_same_trace,
    check_against_plain,
    decisions,
    random_problem,
)
from models import SHAPES, random_model, random_pairs


def problem_of(dtype=torch.float64, metric="kl", **config):
    model = random_model(dtype=dtype, **config)
    return ew.Problem(model, random_pairs(model), metric, "corrupted")


@pytest.mark.parametrize("block", range(24))
def test_decisions_deltas_and_losses_are_the_plain_evaluators(block):
    """Ten problems a block, 240 in all, float64."""
    for seed in range(10 * block, 10 * block + 10):
        problem, settings = random_problem(seed)
        check_against_plain(problem, **settings)


def test_the_problems_above_are_worth_trying():
    """Every metric, ablation and kind of model occurs; circuits of every size come out."""
    shares, seen = [], set()
    for seed in range(0, 240, 7):
        problem, settings = random_problem(seed)
        seen |= {problem.metric.name, problem.ablation.kind, problem.model.config.norm}
        run = ew.acdc(problem, **settings)
        shares.append(run.circuit.n_edges / problem.graph.n_edges)
    assert set(METRICS) | set(ABLATIONS) <= seen
    assert sum(0.02 < share < 0.98 for share in shares) > len(shares) / 2


@pytest.mark.parametrize("ablation", ["corrupted", "zero"])
@pytest.mark.parametrize("shape", ["gpt2", "attention-only", "bidirectional"])
def test_float32_with_every_decision_verified(shape, ablation):
    model = random_model(4, dtype=torch.float32, **SHAPES[shape])
    problem = ew.Problem(model, random_pairs(model, 4), "kl", ablation)
    run = ew.acdc(problem, threshold=0.01, verify=True)
    assert run.circuit == ew.acdc(problem, threshold=0.01, engine="plain").circuit
    assert run.rungs == {"plain": run.cost.edge_tests}


def test_a_threshold_equal_to_a_delta_is_decided_by_the_plain_evaluator():
    """Strictly less: the edge whose delta is the threshold is kept, in both engines."""
    problem = problem_of()
    deltas = [d.delta for d in ew.acdc(problem, threshold=1e9, engine="plain").trace]
    threshold = next(delta for delta in deltas if delta > 1e-3)
    for engine in ("incremental", "plain"):
        run = ew.acdc(problem, threshold=threshold, engine=engine)
        decision = next(d for d in run.trace if abs(d.delta - threshold) < 1e-12)
        assert (decision.kept, decision.rung, run.margin) == (True, "plain", 0), engine


def test_verify_finds_a_wrong_loss(monkeypatch):
    """Also one that only the higher of two thresholds decides otherwise."""
    problem, thresholds = problem_of(), [1e-6, 1.0]
    runs = ew.sweep(problem, threshold=thresholds, verify=True)
    assert [r.circuit for r in runs] == [ew.acdc(problem, threshold=t).circuit for t in thresholds]
    true = Removals.losses

    def wrong(self, step, *batches):
        return [Loss(loss.value + 2) for loss in true(self, step, *batches)]

    monkeypatch.setattr(Removals, "losses", wrong)
    with pytest.raises(VerificationFailed, match=r"incrementally and by .* from scratch"):
        ew.acdc(problem, threshold=0.1, verify=True)
    with pytest.raises(VerificationFailed):
        ew.sweep(problem, threshold=thresholds, verify=True)


def test_a_metric_that_brings_its_own_labels():
    """It indexes by prompt, so it must see one circuit's rows at a time, as in the plain engine."""
    labels = torch.tensor([1, 5, 2, 7])

    def own(logits, rows):
        assert logits.shape == rows.clean_logits.shape
        rows.clean_logits.zero_()  # and what it writes to is a copy
        return -logits.log_softmax(dim=-1)[torch.arange(len(labels)), labels]

    problem = problem_of(metric=own)
    assert 0 < check_against_plain(problem, threshold=0.02).n_edges < problem.graph.n_edges


def test_arguments_are_left_as_they_were():
    problem = problem_of()
    before = {name: tensor.clone() for name, tensor in problem.model.weights.items()}
    loss = problem.loss(ew.Circuit.full(problem.graph))
    ew.acdc(problem, threshold=0.05)
    assert torch.is_grad_enabled()
    assert all(torch.equal(problem.model.weights[name], t) for name, t in before.items())
    assert problem.loss(ew.Circuit.full(problem.graph)) == loss


def test_most_receivers_take_few_rounds():
    """Speculation pays: far fewer batches than tests, and few removals evaluated in vain."""
    problem = problem_of(n_layers=4, n_heads=4, d_model=16, d_head=4)
    run = ew.acdc(problem, threshold=0.02)
    assert run.cost.variants < 3 * run.cost.edge_tests


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("something else"),
    ],
)
def test_when_memory_runs_out_the_batch_is_halved_and_the_run_goes_on(error, monkeypatch):
    problem = problem_of()
    expected = ew.acdc(problem, threshold=0.02)
    true, sizes = Removals._losses, []

    def small(self, step, batches):
        sizes.append(sum(map(len, batches)))
        if sizes[-1] > 2:
            raise error
        return true(self, step, batches)

    monkeypatch.setattr(Removals, "_losses", small)
    if "else" in str(error):
        with pytest.raises(RuntimeError, match="something else"):
            ew.acdc(problem, threshold=0.02)
        return
    assert decisions(ew.acdc(problem, threshold=0.02)) == decisions(expected)
    assert max(sizes) > 2
    assert max(sizes[-10:]) <= 2, "what did not fit once is not tried again and again"


# --- speculation alone, against the sequential loop


class MadeUpLadder:
    """Losses with interactions between neighbours, so that early decisions change later ones."""

    def __init__(self, effects, pull, most):
        self._effects, self._pull, self._most = effects, pull, most
        self.removals = self

    def loss_of(self, removed):
        alone = sum(self._effects[index] for index in removed)
        return alone + sum(self._pull for index in removed if index + 1 in removed)

    def start(self, turn, loss):
        return loss

    def most_at_once(self, step):
        return self._most

    def losses(self, step, batch):
        removed, values = set(batch.removed), []
        for index, predicted in enumerate(batch.predicted, batch.start):
            values.append(Loss(self.loss_of(removed | {index})))
            removed |= {index} if predicted else set()
        return values

    def test(self, turn, edges, *, before, without):
        return EdgeTest.of(edges, before, without)

    def remove(self, step, removed):
        pass


@given(
    effects=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    pull=st.floats(-0.5, 0.5),
    threshold=st.floats(0.01, 0.8),
    most=st.integers(1, 12),
)
def test_speculation_is_the_sequential_loop(effects, pull, threshold, most):
    graph = ew.Graph.build(4, 2)
    edges = [edge for edge in graph.edges if edge.receiver.name == "logits"][: len(effects)]
    step = ReceiverStep(edges[0].receiver, tuple(edges))
    engine = object.__new__(SpeculativeEngine)
    engine.loss, engine._threshold = Loss(0.0), Threshold(threshold)
    engine._ladder = ladder = MadeUpLadder(effects, pull, most)
    removed, tested = set(), []
    for index, test in enumerate(engine.ablate_in_sequence(step, ew.Circuit.full(graph))):
        delta = ladder.loss_of(removed | {index}) - ladder.loss_of(removed)
        assert test.edges == (edges[index],)
        assert test.delta == pytest.approx(delta, abs=1e-12)
        engine.decide(keep=not test.delta < threshold)
        removed |= {index} if test.delta < threshold else set()
        tested.append(index)
        assert set(engine.turn.removed) == removed
    assert tested == list(range(len(effects)))


# --- estimates in bfloat16


@pytest.mark.parametrize("block", range(8))
def test_estimates_decide_as_full_precision(block):
    """Twenty problems a block, 160 in all: estimates never decide what they cannot."""
    for seed in range(20 * block, 20 * block + 20):
        problem, settings = random_problem(seed)
        problem = problem.with_(metric="kl")
        full, empty = problem.baselines()
        settings["threshold"] = max(abs(full - empty), 0.1) * (0.001, 0.01, 0.05)[seed % 3]
        reduced = ew.acdc(problem, precision="reduced", **settings)
        full_run = ew.acdc(problem, **settings)
        assert reduced.circuit == full_run.circuit, seed
        assert decisions(reduced) == decisions(full_run), seed


def test_most_decisions_are_taken_by_estimates_within_their_bounds():
    problem = problem_of(torch.float32, n_layers=3, n_heads=4, d_model=32, d_head=8)
    reduced = ew.acdc(problem, threshold=0.01, precision="reduced")
    assert reduced.rungs["estimate"] > 0.7 * reduced.cost.edge_tests
    full = ew.acdc(problem, threshold=0.01)
    off = [abs(a.delta - b.delta) for a, b in zip(reduced.trace, full.trace, strict=True)]
    assert 0 < max(off) < 0.002
    bounds = [a.bound + b.bound for a, b in zip(reduced.trace, full.trace, strict=True)]
    assert all(error <= bound for error, bound in zip(off, bounds, strict=True))


def test_estimates_that_were_poor_are_trusted_less(monkeypatch):
    """Bounds grow when what happened was near them or beyond."""
    monkeypatch.setattr("edgewise.engine.losses._ROUNDING", 1e-9)
    problem = problem_of(torch.float32, n_layers=3, n_heads=4, d_model=32, d_head=8)
    slack, true = [], Removals.rebase

    def rebase(self, expected):
        loss = true(self, expected)
        slack.append(self._slack)
        return loss

    monkeypatch.setattr(Removals, "rebase", rebase)
    ew.acdc(problem, threshold=0.005, precision="reduced")
    assert slack[-1] > 1


@pytest.mark.parametrize("metric", ["l2", "accuracy", "logit-diff"])
def test_estimates_are_refused_where_there_are_none(metric):
    problem = problem_of(metric=metric)
    with pytest.raises(SettingError, match=r"estimates the kl .* and nothing else"):
        ew.acdc(problem, threshold=0.05, precision="reduced")
    with pytest.raises(SettingError, match="engine 'plain' has no precision"):
        ew.acdc(problem, threshold=0.05, precision="reduced", engine="plain")


# --- thresholds side by side


@pytest.mark.parametrize("seed", range(30))
def test_a_sweep_is_its_runs(seed):
    """Every threshold of a sweep gives the decisions, deltas and skips of a run of its own."""
    problem, settings = random_problem(seed)
    threshold = settings.pop("threshold")
    thresholds = [threshold * factor for factor in (1, 0.1, 3, 0.5, 1.0001, 30)]
    if problem.metric.name == "kl":
        settings["precision"] = "reduced"
    if seed % 5 == 0:
        settings = {"engine": "plain"}
    runs = ew.sweep(problem, threshold=thresholds, **settings)
    for threshold, run in zip(thresholds, runs, strict=True):
        alone = ew.acdc(problem, threshold=threshold, **settings)
        assert run.settings == alone.settings
        if "precision" in settings:  # estimates depend on what they are estimated beside
            assert decisions(run) == decisions(alone)
            continue
        assert_same_trace(run, alone)
        assert run.margin == pytest.approx(alone.margin, abs=1e-9)


def test_what_thresholds_decide_alike_is_done_once():
    problem = problem_of(n_layers=3, n_heads=4, d_model=16, d_head=4)
    once = ew.acdc(problem, threshold=0.02)
    low, high = once.threshold_interval
    inside = [low + (high - low) * part for part in (0.2, 0.5, 0.9, 0.99)]
    runs = ew.sweep(problem, threshold=inside)
    assert all(run.circuit == once.circuit for run in runs)
    assert runs[0].cost.variants <= 1.5 * once.cost.variants


@pytest.mark.parametrize("seed", range(20))
def test_the_interval_of_thresholds_is_exact(seed):
    """Any threshold in (low, high] gives the same circuit; just outside, another decision falls."""
    problem, settings = random_problem(seed)
    run = ew.acdc(problem, **settings)
    low, high = run.threshold_interval
    assert low < settings["threshold"] <= high
    settings.pop("threshold")
    for threshold in (low + min(high - low, 1.0) * 1e-6, high * (1 - 1e-9)):
        if 0 < threshold < float("inf"):
            again = ew.acdc(problem, threshold=threshold, **settings)
            assert again.circuit == run.circuit
    if low > 1e-9:
        below = ew.acdc(problem, threshold=low * (1 - 1e-9), **settings)
        assert [d.kept for d in below.trace] != [d.kept for d in run.trace]
