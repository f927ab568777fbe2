"""Learned masks: what a mask means on a run, its gradient, and the training loop."""

import re

import pytest
import torch

import edgewise as ew
from edgewise.circuit import Circuit
from edgewise.errors import FormatError, MetricError
from edgewise.methods import METHODS
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.hard_concrete import (
    INITIAL_THETA,
    HardConcrete,
    chance_on,
    mean_mask,
    sample,
)
from edgewise.methods.node_masks import (
    NodeMasking,
    circuit_of_activations,
)
from edgewise.methods.run_journal import NO_JOURNAL, FileJournal
from edgewise.methods.settings import TrainingSettings
from edgewise.methods.training import loss_and_gradient, masked_losses, parameters_at, train
from models import SHAPES, random_circuit, random_model, random_pairs

ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")
GRANULARITIES = (
    {},
    {"switches": True},
    {"split_qkv": False},
    {"split_qkv": False, "switches": True},
    {"split_heads": False},
    {"split_heads": False, "split_qkv": False, "switches": True},
    {"split_embed": True, "switches": True},
)
TRAINED = [name for name, row in METHODS.items() if row.trains]
MASKINGS = {"edges": EdgeMasking, "nodes": NodeMasking}


def make_problem(ablation="corrupted", metric="logit-diff", shape="gpt2", **options):
    model = random_model(**SHAPES[shape])
    pairs = random_pairs(model, lengths=[6, 3, 5], padding="left")
    batch_size = options.pop("batch_size", None)
    graph = ew.Graph.of(model, **options)
    return ew.Problem(model, pairs, metric, ablation, graph=graph, batch_size=batch_size)


def masked(problem, masking, masks):
    """The loss of every prompt with these masks."""
    with torch.no_grad():
        n = len(problem.evaluator(problem.graph).batches)
        return torch.cat([masked_losses(problem, masking, masks, batch=i) for i in range(n)])


def losses(problem, circuit):
    return problem.metric.loss_sign * problem.per_prompt(circuit)


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def some_masks(n, seed=0):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- hard concrete


def test_masks_start_where_the_papers_do():
    assert pytest.approx(1.609, abs=1e-3) == INITIAL_THETA
    theta = torch.full((200_000,), INITIAL_THETA, dtype=torch.float64)
    drawn = sample(theta, torch.Generator().manual_seed(0))
    assert float((drawn == 1).double().mean()) == pytest.approx(0.50, abs=0.01)
    assert float((drawn == 0).double().mean()) == pytest.approx(0.04, abs=0.005)
    assert float(drawn.mean()) == pytest.approx(0.81, abs=0.01)
    assert float(chance_on(theta[:1])) == pytest.approx(0.961, abs=1e-3)


@pytest.mark.parametrize("theta", [-4.0, -1.0, 0.0, 2.5])
def test_mean_and_chance_are_those_of_samples(theta):
    drawn = sample(
        torch.full((100_000,), theta, dtype=torch.float64), torch.Generator().manual_seed(1)
    )
    one = torch.tensor([theta])
    assert float(drawn.mean()) == pytest.approx(float(mean_mask(one)), abs=0.005)
    assert float((drawn > 0).double().mean()) == pytest.approx(float(chance_on(one)), abs=0.005)


def test_the_regulariser_is_a_mean_of_means_and_empty_groups_count():
    group = torch.tensor([0, 0, 0, 1])
    theta = torch.tensor([0.0, 1.0, 2.0, -3.0], dtype=torch.float64)
    p = chance_on(theta)
    sizes = [float(HardConcrete(theta, group, n, weight=2.0).penalty(0)) for n in (2, 3)]
    assert sizes == pytest.approx([float(p[:3].mean() + p[3]), float(p[:3].mean() + p[3]) * 2 / 3])


# --- what masks mean


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_edge_masks_of_one_zero_and_both(shape, ablation):
    """All ones: the clean run. All zeros: the empty circuit. Zeros and ones: that circuit."""
    for options in GRANULARITIES:
        if options.get("split_embed") and not random_model(**SHAPES[shape]).config.adds_positions:
            continue
        problem = make_problem(ablation, shape=shape, metric="l2", **options)
        graph, masking = problem.graph, EdgeMasking(problem)
        some = random_circuit(graph, seed=3)
        for circuit in (Circuit.full(graph), Circuit.empty(graph), some):
            masks = circuit.keep[graph.exists].double()
            assert_same(masked(problem, masking, masks), losses(problem, circuit))


@pytest.mark.parametrize("shape", SHAPES)
def test_node_masks_of_zero_and_one_are_the_circuit_of_activations(shape):
    """With corrupted prompts a masked activation carries what its removed edges would give it."""
    for options in GRANULARITIES[:-1]:
        problem = make_problem(shape=shape, metric="l2", **options)
        masking = NodeMasking(problem)
        generator = torch.Generator().manual_seed(5)
        some = torch.rand(masking.n_masks, generator=generator) < 0.5
        ones = torch.ones_like(some)
        for kept in (ones, ~ones, some):
            circuit = circuit_of_activations(problem.graph, kept)
            assert_same(masked(problem, masking, kept.double()), losses(problem, circuit))


def test_what_masked_activations_become():
    """Masks of one: the clean run. A mean over one prompt of one position: the value itself."""
    for ablation in ABLATIONS:
        problem = make_problem(ablation, metric="l2")
        masking = NodeMasking(problem)
        ones = torch.ones(masking.n_masks, dtype=torch.float64)
        assert_same(masked(problem, masking, ones), torch.zeros(3, dtype=torch.float64))
    zero = make_problem("zero")
    alone = Circuit.of(zero.graph, ["input->logits"])
    assert_same(masked(zero, NodeMasking(zero), 0 * ones), losses(zero, alone))
    model = random_model()
    for kind in ("mean", "mean-positional"):
        problem = ew.Problem(model, random_pairs(model, lengths=[1]), "l2", kind)
        nothing = torch.zeros(1, dtype=torch.float64)
        assert_same(masked(problem, NodeMasking(problem), some_masks(len(ones))), nothing)
    order = ew.Ablation("corrupted", position_permutation=(2, 0, 1, 3, 5, 4))
    problem = ew.Problem(model, random_pairs(model), "logit-diff", order)
    kept = torch.arange(len(ones)) % 2 == 0
    circuit = circuit_of_activations(problem.graph, kept)
    assert_same(masked(problem, NodeMasking(problem), kept.double()), losses(problem, circuit))


# --- gradients


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("kind", MASKINGS)
def test_gradients_of_masks_are_finite_differences(kind, ablation):
    options = {"switches": True, "split_embed": True} if kind == "edges" else {}
    problem = make_problem(ablation, metric="kl", **options)
    masking = MASKINGS[kind](problem)
    masks = some_masks(masking.n_masks)
    loss, gradient = loss_and_gradient(problem, masking, masks)
    parts = make_problem(ablation, metric="kl", batch_size=2, **options)
    assert_same(loss_and_gradient(parts, MASKINGS[kind](parts), masks)[1], gradient)
    assert loss == pytest.approx(float(masked(problem, masking, masks).mean()))
    h = 1e-6
    for i in range(0, masking.n_masks, 7):
        step = torch.zeros_like(masks)
        step[i] = h
        up, down = (masked(problem, masking, masks + s * step).mean() for s in (1, -1))
        assert float(gradient[i]) == pytest.approx(float(up - down) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("shape", ["parallel", "attention-only", "bidirectional"])
@pytest.mark.parametrize("options", GRANULARITIES[:-1])
def test_gradients_of_edge_masks_at_every_granularity(shape, options):
    problem = make_problem(shape=shape, **options)
    masking = EdgeMasking(problem)
    masks, direction = some_masks(masking.n_masks), some_masks(masking.n_masks, 1) - 0.5
    _, gradient = loss_and_gradient(problem, masking, masks)
    h = 1e-6
    up, down = (masked(problem, masking, masks + s * h * direction).mean() for s in (1, -1))
    slope = float(up - down) / (2 * h)
    assert float(gradient @ direction) == pytest.approx(slope, rel=1e-6, abs=1e-9)


# --- training


def trained(problem, steps=6, seed=0, journal=NO_JOURNAL, on_progress=lambda progress: None):
    masking = EdgeMasking(problem)
    group = torch.zeros(masking.n_masks, dtype=torch.int64)
    masks = HardConcrete(
        parameters_at(problem, masking.n_masks, INITIAL_THETA), group, 1, weight=0.1
    )
    settings = TrainingSettings(steps=steps, learning_rate=0.05, seed=seed)
    train(problem, masking, masks, settings=settings, on_progress=on_progress, journal=journal)
    return masks.theta.detach()


def needs(method):
    return {"sparsity": 0.7} if method == "edge-pruning" else {"regularisation": 0.05}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("method", TRAINED)
def test_a_stopped_training_goes_on_as_if_it_had_not_been_stopped(method, tmp_path, monkeypatch):
    task = ew.load_task("tracr-xproportion", data="paper")
    settings = {**needs(method), "steps": 12, "learning_rate": 0.1}
    monkeypatch.setattr("edgewise.work.store.STATE_SECONDS", 0.0)

    def stop(progress):
        if progress.done == 7:
            raise Stopped

    folder, seen = tmp_path / "work", []
    with pytest.raises(Stopped):
        ew.discover(task.problem, method, journal=folder, on_progress=stop, **settings)
    run = ew.discover(task.problem, method, journal=folder, on_progress=seen.append, **settings)
    assert [p.done for p in seen] == [7, 8, 9, 10, 11, 12]  # the state of six steps was kept
    assert re.match(r"loss .* of \d+ masks on", seen[0].message)
    state = torch.get_rng_state()
    assert run.scores.values.equal(ew.discover(task.problem, method, **settings).scores.values)
    assert torch.get_rng_state().equal(state)
    assert all(tensor.grad is None for tensor in task.problem.model.weights.values())
    with pytest.raises(ew.EdgewiseError, match="other work: steps"):
        ew.discover(task.problem, method, journal=folder, **{**settings, "steps": 13})


def test_a_state_that_was_changed_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr("edgewise.work.store.STATE_SECONDS", 0.0)
    state = tmp_path / "j" / "state.safetensors"
    theta, of_another = torch.rand(3), {"theta": torch.zeros(3), "generator": torch.zeros(3)}
    with FileJournal(tmp_path / "j", {"identity": 1}) as journal:
        journal.save_state({"theta": theta}, {"step": 2})
        tensors, numbers = journal.state()
        assert tensors["theta"].equal(theta)
        assert numbers == {"step": 2}
        whole = state.read_bytes()
        for place in range(8, len(whole), 5):
            state.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.warns(UserWarning, match=r"state.safetensors is no state: .* starts anew"):
                assert journal.state() is None
        journal.save_state(of_another, {"step": 2})
        with pytest.raises(FormatError, match=r"masks kept are not those of this work"):
            trained(make_problem(), journal=journal)


# --- errors


def constant(logits, rows):
    return 0 * logits[:, 0]


@pytest.mark.parametrize("method", TRAINED)
def test_masks_that_no_gradient_reaches(method):
    """and-gate with zero ablation: at 1/2 its relu is off, and learning starts well above."""
    settings = {"steps": 3, **needs(method)}
    with pytest.raises(MetricError, match=r"no gradient reaches the masks: .*accuracy.* kl"):
        ew.discover(make_problem(metric="accuracy"), method, **settings)
    with pytest.raises(MetricError, match=r"at 1/2 or at 0\.9, metric 'constant' does not change"):
        ew.discover(make_problem(metric=constant), method, **settings)
    off_at_half = ew.load_task("and-gate", ablation="zero").problem
    assert ew.discover(off_at_half, method, **settings).scores.values.isfinite().all()


def test_a_loss_that_is_no_number_names_the_step():
    calls = []

    def breaks(logits, rows):
        calls.append(1)
        return logits[:, 0] * (float("nan") if len(calls) > 6 else 1)

    with pytest.raises(MetricError, match=r"the loss is nan in step \d+ on prompt 0\. Check"):
        ew.discover(make_problem(metric=breaks), "sp-edges", regularisation=1, steps=20)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_gradient_that_is_no_number_names_the_step_the_prompt_and_the_edge(batch_size):
    """The metric is steep on the second of three prompts."""
    problem = make_problem(batch_size=batch_size)
    second = problem.pairs.answers[1, 0]
    assert (problem.pairs.answers[:, 0] == second).sum() == 1

    def steep(logits, rows):
        values, bad = logits[:, 0].clone(), rows.answers[:, 0] == second
        values[bad] = (logits[bad, 0] - logits[bad, 0].detach()).abs().sqrt()
        return values

    message = r"nan before the first step on prompt 1 for \d+ of \d+ masks \(input->a0"
    with pytest.raises(MetricError, match=message):
        ew.discover(problem.with_(metric=steep), "sp-edges", regularisation=1, steps=20)
