"""The incremental engine answers what the plain evaluator answers, on every kind of problem."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import edgewise as ew
from edgewise.engine import Estimate, Removals, decide
from edgewise.errors import SettingError, VerificationFailed
from edgewise.metrics import METRICS
from models import SHAPES, random_model, random_pairs

GRANULARITIES = (
    {},
    {"switches": True},
    {"split_qkv": False},
    {"split_qkv": False, "switches": True},
    {"split_heads": False},
    {"split_heads": False, "split_qkv": False, "switches": True},
    {"split_embed": True, "switches": True},
)
ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")


def random_problem(seed):
    """A problem that differs from its neighbours in every respect, and an ACDC call for it."""

    def pick(choices, stride):
        return list(choices)[seed // stride % len(choices)]

    shape = SHAPES[pick(SHAPES, 1)]
    model = random_model(seed, **shape)
    options = pick(GRANULARITIES, 2)
    if not model.config.adds_positions:
        options = {**options, "split_embed": False}
    lengths = pick(([6, 6, 6], [6, 3, 5], [4, 6, 2, 5]), 3)
    padding = pick(("right", "left"), 5)
    positions = pick((None, [0] * len(lengths), [[0, -1]] * len(lengths)), 7)
    pairs = random_pairs(model, seed, lengths=lengths, padding=padding, answer_positions=positions)
    metric = pick(METRICS, 1)
    problem = ew.Problem(
        model,
        pairs,
        metric,
        pick(ABLATIONS, 1),
        graph=ew.Graph.of(model, **options),
        batch_size=pick((None, 2), 11),
    )
    full, empty = problem.baselines()
    scale = max(abs(full - empty), 0.1)
    threshold = scale * pick((0.001, 0.01, 0.05, 0.3), 3)
    order = pick(("descending", "ascending"), 2)
    return problem, {"threshold": threshold, "head_order": order, "absolute": seed % 13 == 0}


@pytest.mark.parametrize("block", range(24))
def test_decisions_deltas_and_losses_are_the_plain_evaluators(block):
    """Ten problems a block, 240 in all, float64."""
    for seed in range(10 * block, 10 * block + 10):
        problem, settings = random_problem(seed)
        fast = ew.acdc(problem, **settings)
        slow = ew.acdc(problem, engine="plain", **settings)
        assert [(d.edge, d.kept) for d in fast.trace] == [(d.edge, d.kept) for d in slow.trace], (
            seed
        )
        assert fast.circuit == slow.circuit
        for ours, theirs in zip(fast.trace, slow.trace, strict=True):
            assert ours.delta == pytest.approx(theirs.delta, abs=1e-9), seed
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-9), seed
        assert fast.cost.edges_skipped == slow.cost.edges_skipped


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
    slow = ew.acdc(problem, threshold=0.01, engine="plain")
    assert run.circuit == slow.circuit


def test_a_threshold_equal_to_a_delta_is_decided_by_the_plain_evaluator():
    """Strictly less: the edge whose delta is the threshold is kept, in both engines."""
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    deltas = [d.delta for d in ew.acdc(problem, threshold=1e9, engine="plain").trace]
    threshold = next(delta for delta in deltas if delta > 1e-3)
    for engine in ("incremental", "plain"):
        run = ew.acdc(problem, threshold=threshold, engine=engine)
        decision = next(d for d in run.trace if abs(d.delta - threshold) < 1e-12)
        assert decision.kept, engine
        assert run.margin == 0


def test_verify_finds_a_wrong_loss(monkeypatch):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    true = Removals.losses

    def wrong(self, receiver, candidates, path):
        return [Estimate(loss + 1) for loss, _ in true(self, receiver, candidates, path)]

    monkeypatch.setattr(Removals, "losses", wrong)
    with pytest.raises(VerificationFailed, match=r"incrementally and by .* from scratch"):
        ew.acdc(problem, threshold=0.1, verify=True)


def test_a_metric_that_fails_in_the_middle_says_so():
    def fails(logits, rows):
        moved = (logits - rows.clean_logits).abs().amax(dim=-1) > 1e-9
        return torch.where(moved, torch.nan, logits[:, 0])

    model = random_model()
    problem = ew.Problem(model, random_pairs(model), fails, "corrupted")
    problem._baselines[problem.graph] = (0.0, 1.0)  # as if full and empty had been fine
    with pytest.raises(ew.EdgewiseError, match="'fails' is nan"):
        ew.acdc(problem, threshold=100.0)


def test_a_metric_that_brings_its_own_labels():
    """It indexes by prompt, so it must see one circuit's rows at a time, as in the plain engine."""
    model = random_model()
    labels = torch.tensor([1, 5, 2, 7])

    def own(logits, rows):
        assert logits.shape == rows.clean_logits.shape
        rows.clean_logits.zero_()  # and what it writes to is a copy
        return -logits.log_softmax(dim=-1)[torch.arange(len(labels)), labels]

    problem = ew.Problem(model, random_pairs(model), own, "corrupted")
    fast, slow = (ew.acdc(problem, threshold=0.02, engine=e) for e in ("incremental", "plain"))
    assert fast.circuit == slow.circuit
    assert 0 < fast.circuit.n_edges < model.graph.n_edges
    for ours, theirs in zip(fast.trace, slow.trace, strict=True):
        assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)


def test_arguments_are_left_as_they_were():
    model = random_model()
    pairs = random_pairs(model)
    problem = ew.Problem(model, pairs, "kl", "corrupted")
    before = {name: tensor.clone() for name, tensor in model.weights.items()}
    loss = problem.loss(ew.Circuit.full(model.graph))
    ew.acdc(problem, threshold=0.05)
    assert torch.is_grad_enabled()
    assert all(torch.equal(model.weights[name], tensor) for name, tensor in before.items())
    assert problem.loss(ew.Circuit.full(model.graph)) == loss


def test_most_receivers_take_few_rounds():
    """Speculation pays: far fewer batches than tests, and few removals evaluated in vain."""
    model = random_model(n_layers=4, n_heads=4, d_model=16, d_head=4)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    run = ew.acdc(problem, threshold=0.02)
    assert run.cost.variants < 3 * run.cost.edge_tests


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_when_memory_runs_out_the_batch_is_halved_and_the_run_goes_on(error, monkeypatch):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    expected = ew.acdc(problem, threshold=0.02)
    true, sizes = Removals._losses, []

    def small(self, receiver, candidates, paths):
        sizes.append(sum(map(len, paths)))
        if sizes[-1] > 2:
            raise error
        return true(self, receiver, candidates, paths)

    monkeypatch.setattr(Removals, "_losses", small)
    run = ew.acdc(problem, threshold=0.02)
    assert [(d.edge, d.kept) for d in run.trace] == [(d.edge, d.kept) for d in expected.trace]
    assert max(sizes) > 2
    assert max(sizes[-10:]) <= 2, "what did not fit once is not tried again and again"


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(self, receiver, candidates, paths):
        raise RuntimeError("something else")

    monkeypatch.setattr(Removals, "_losses", broken)
    with pytest.raises(RuntimeError, match="something else"):
        ew.acdc(ew.load_task("tracr-reverse").problem, threshold=0.02)


# --- speculation alone, against the sequential loop


@given(
    effects=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    pull=st.floats(-0.5, 0.5),
    threshold=st.floats(0.01, 0.8),
    most=st.integers(1, 12),
)
def test_speculation_is_the_sequential_loop(effects, pull, threshold, most):
    """Losses with interactions between neighbours, so that early decisions change later ones."""

    def loss_of(row):
        alone = sum(effect for effect, gone in zip(effects, row, strict=True) if gone)
        together = sum(pull for a, b in itertools.pairwise(row) if a and b)
        return alone + together

    n = len(effects)
    expected, removed, loss = [], [0] * n, 0.0
    for index in range(n):
        removed[index] = 1
        without = loss_of(removed)
        delta = without - loss
        kept = not delta < threshold
        if kept:
            removed[index] = 0
        else:
            loss = without
        expected.append((index, delta, kept, loss))

    class Threshold:
        def decide(self, index, before, without, gone):
            delta = without.loss - before.loss
            return delta, self.guess(delta)

        def guess(self, delta):
            return not delta < threshold

    def losses_of(path):
        rows = []
        for i in range(len(path)):
            row = [index in path.gone for index in range(n)]
            row[path.start + i] = True
            for before in range(i):
                row[path.start + before] = path.goes[before]
            rows.append(row)
        return [Estimate(loss_of(row)) for row in rows]

    outcomes = decide(n, Estimate(0.0), losses_of=losses_of, rule=Threshold(), most=lambda: most)
    assert [(o.index, o.delta, o.kept, o.loss) for o in outcomes] == expected


# --- estimates in bfloat16


@pytest.mark.parametrize("block", range(12))
def test_reduced_precision_decides_as_full(block):
    """Twenty problems a block, 240 in all: estimates never decide what they cannot."""
    for seed in range(20 * block, 20 * block + 20):
        problem, settings = random_problem(seed)
        problem = problem.with_(metric=("kl", "logit-diff")[seed % 2])
        full, empty = problem.baselines()
        settings["threshold"] = max(abs(full - empty), 0.1) * (0.001, 0.01, 0.05)[seed % 3]
        reduced = ew.acdc(problem, precision="reduced", **settings)
        full_run = ew.acdc(problem, **settings)
        assert reduced.circuit == full_run.circuit, seed
        assert [(d.edge, d.kept) for d in reduced.trace] == [
            (d.edge, d.kept) for d in full_run.trace
        ], seed
        # Some of these models are wilder than any real one: losses of 10, widths of 8.
        assert reduced.worst_error is not None
        assert reduced.worst_error < 3, seed


def test_reduced_precision_really_estimates(monkeypatch):
    """Most deltas are off by a little, none by much, and few are computed in full."""
    model = random_model(n_layers=3, n_heads=4, d_model=32, d_head=8, dtype=torch.float32)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    exact, estimated = [], []
    losses, estimates = Removals.losses, Removals.estimates

    def count_losses(self, receiver, candidates, *paths):
        exact.append(sum(map(len, paths)))
        return losses(self, receiver, candidates, *paths)

    def count_estimates(self, receiver, candidates, path):
        estimated.append(len(path))
        return estimates(self, receiver, candidates, path)

    monkeypatch.setattr(Removals, "losses", count_losses)
    monkeypatch.setattr(Removals, "estimates", count_estimates)
    reduced = ew.acdc(problem, threshold=0.01, precision="reduced")
    assert sum(exact) < 0.3 * sum(estimated)
    full = ew.acdc(problem, threshold=0.01)
    off = [abs(a.delta - b.delta) for a, b in zip(reduced.trace, full.trace, strict=True)]
    assert 0 < max(off) < 0.002


def test_estimates_that_were_poor_are_trusted_less(monkeypatch):
    """The bound grows when what happened was near it or beyond."""
    from edgewise.engine import kl

    monkeypatch.setattr(kl, "rounding", lambda slope: slope.norm(dim=-1) * 1e-9)
    monkeypatch.setattr(kl, "_SECOND_ORDER_ROUNDING", 1e-9)
    model = random_model(n_layers=3, n_heads=4, d_model=32, d_head=8, dtype=torch.float32)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    sure = ew.acdc(problem, threshold=0.005, precision="reduced")
    assert sure.worst_error > 1


@pytest.mark.parametrize("metric", ["l2", "accuracy"])
def test_reduced_precision_is_refused_where_its_error_is_unknown(metric):
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), metric, "corrupted")
    with pytest.raises(SettingError, match=r"knows the rounding of 'kl' and 'logit-diff' only"):
        ew.acdc(problem, threshold=0.05, precision="reduced")
    with pytest.raises(SettingError, match="engine 'plain' has no precision"):
        ew.acdc(problem, threshold=0.05, precision="reduced", engine="plain")


# --- thresholds side by side


@pytest.mark.parametrize("seed", range(40))
def test_a_sweep_is_its_runs(seed):
    """Every threshold of a sweep gives the decisions, deltas and skips of a run of its own."""
    problem, settings = random_problem(seed)
    threshold = settings.pop("threshold")
    thresholds = [threshold * factor for factor in (1, 0.1, 3, 0.5, 1.0001, 30)]
    if seed % 4 == 0 and problem.metric.name in ("kl", "logit-diff"):
        settings["precision"] = "reduced"
    if seed % 5 == 0:
        settings = {"engine": "plain"}
    runs = ew.acdc_sweep(problem, thresholds, **settings)
    for threshold, run in zip(thresholds, runs, strict=True):
        alone = ew.acdc(problem, threshold=threshold, **settings)
        assert run.settings == alone.settings
        assert run.circuit == alone.circuit, threshold
        assert [(d.edge, d.kept) for d in run.trace] == [(d.edge, d.kept) for d in alone.trace]
        assert run.cost.edges_skipped == alone.cost.edges_skipped
        if "precision" in settings:
            continue  # estimates depend on what they are estimated beside
        for ours, theirs in zip(run.trace, alone.trace, strict=True):
            assert ours.delta == pytest.approx(theirs.delta, abs=1e-9)
        assert run.margin == pytest.approx(alone.margin, abs=1e-9)


def test_what_thresholds_decide_alike_is_done_once():
    model = random_model(n_layers=3, n_heads=4, d_model=16, d_head=4)
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    once = ew.acdc(problem, threshold=0.02)
    low, high = once.threshold_interval
    inside = [low + (high - low) * part for part in (0.2, 0.5, 0.9, 0.99)]
    runs = ew.acdc_sweep(problem, inside)
    assert all(run.circuit == once.circuit for run in runs)
    assert runs[0].cost.variants <= 1.5 * once.cost.variants


@pytest.mark.parametrize("seed", range(30))
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


def test_a_sweep_without_thresholds():
    problem = ew.load_task("tracr-reverse").problem
    with pytest.raises(SettingError, match="at least one threshold"):
        ew.acdc_sweep(problem, [])
    with pytest.raises(SettingError, match="must be a positive number"):
        ew.acdc_sweep(problem, [0.1, -1])


def test_verify_holds_for_every_threshold_of_a_sweep(monkeypatch):
    """A wrong delta that only the higher threshold decides otherwise is found too."""
    model = random_model()
    problem = ew.Problem(model, random_pairs(model), "kl", "corrupted")
    thresholds = [1e-6, 1.0]
    runs = ew.acdc_sweep(problem, thresholds, verify=True)
    assert [r.circuit for r in runs] == [ew.acdc(problem, threshold=t).circuit for t in thresholds]
    true = Removals.losses

    def wrong(self, receiver, candidates, *paths):
        return [Estimate(e.loss + 2) for e in true(self, receiver, candidates, *paths)]

    monkeypatch.setattr(Removals, "losses", wrong)
    with pytest.raises(VerificationFailed):
        ew.acdc_sweep(problem, thresholds, verify=True)
