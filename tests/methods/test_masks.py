"""Learned masks: what a mask means on a run, its gradient, and the training loop."""

import re

import pytest
import torch

import edgewise as ew
from edgewise.circuit import Circuit
from edgewise.errors import FormatError, MetricError
from edgewise.methods import METHODS
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.edge_pruning import TargetSparsity
from edgewise.methods.node_masks import NodeMasking, circuit_of_activations
from edgewise.methods.session import Session
from edgewise.methods.settings import EdgePruningSettings
from edgewise.methods.training import INITIAL_THETA
from edgewise.work.store import Checkpoint
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


@torch.no_grad()
def masked(masking, masks):
    """The loss of every prompt with these masks."""
    problem = masking.problem
    n = len(problem.evaluator(problem.graph).batches)
    return torch.cat([masking.losses(i, masks) for i in range(n)])


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def assert_is(masking, masks, circuit):
    """With these masks every prompt has the circuit's loss."""
    problem = masking.problem
    expected = problem.metric.loss_sign * problem.per_prompt(circuit)
    assert_same(masked(masking, masks.double()), expected)


def hard_concrete(theta):
    """100,000 masks with this parameter."""
    thetas = torch.full((100_000,), theta, dtype=torch.float64)
    return TargetSparsity(thetas, EdgePruningSettings(sparsity=0))


def drawn_masks(n, seed=0):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_masks_start_where_the_papers_do():
    drawn = hard_concrete(INITIAL_THETA).draw(torch.Generator().manual_seed(0)).detach()
    assert float((drawn == 1).double().mean()) == pytest.approx(0.50, abs=0.01)
    assert float(drawn.mean()) == pytest.approx(0.81, abs=0.01)


@pytest.mark.parametrize("theta", [-4.0, 0.0, INITIAL_THETA, 2.5])
def test_mean_and_chance_are_those_of_samples(theta):
    masks = hard_concrete(theta)
    drawn = masks.draw(torch.Generator().manual_seed(1)).detach()
    assert float(drawn.mean()) == pytest.approx(float(masks.means()[0]), abs=0.005)
    on = float((drawn > 0).double().mean())
    assert on == pytest.approx(float(masks.chance()[0].detach()), abs=0.005)


# --- what masks mean


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_edge_masks_of_one_zero_and_both_are_that_circuit(shape, ablation):
    adds_positions = random_model(**SHAPES[shape]).config.adds_positions
    for options in GRANULARITIES:
        if options.get("split_embed") and not adds_positions:
            continue
        problem = make_problem(ablation, shape=shape, metric="l2", **options)
        graph, masking = problem.graph, EdgeMasking(problem)
        for circuit in (Circuit.full(graph), Circuit.empty(graph), random_circuit(graph, seed=3)):
            assert_is(masking, circuit.keep[graph.exists], circuit)


@pytest.mark.parametrize("shape", SHAPES)
def test_node_masks_of_zero_and_one_are_the_circuit_of_activations(shape):
    """With corrupted prompts a masked activation carries what its removed edges would give it."""
    for options in GRANULARITIES[:-1]:
        problem = make_problem(shape=shape, metric="l2", **options)
        masking = NodeMasking(problem)
        kept = drawn_masks(masking.n_masks, 5) < 0.5
        for on in (kept | True, kept & False, kept):
            assert_is(masking, on, circuit_of_activations(problem.graph, on))


def test_what_masked_activations_become():
    """Masks of one: the clean run. A mean over one prompt of one position: the value itself."""
    for ablation in ABLATIONS:
        masking = NodeMasking(make_problem(ablation, metric="l2"))
        ones = torch.ones(masking.n_masks, dtype=torch.float64)
        assert_same(masked(masking, ones), torch.zeros(3, dtype=torch.float64))
    zero = make_problem("zero")
    assert_is(NodeMasking(zero), 0 * ones, Circuit.of(zero.graph, ["input->logits"]))
    model = random_model()
    for kind in ("mean", "mean-positional"):
        problem = ew.Problem(model, random_pairs(model, lengths=[1]), "l2", kind)
        values = masked(NodeMasking(problem), drawn_masks(len(ones)))
        assert_same(values, torch.zeros(1, dtype=torch.float64))
    moved = make_problem(ew.Ablation("corrupted", position_permutation=(2, 0, 1, 3, 5, 4)))
    kept = torch.arange(len(ones)) % 2 == 0
    assert_is(NodeMasking(moved), kept, circuit_of_activations(moved.graph, kept))


# --- gradients


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        *(("edges", "gpt2", options) for options in GRANULARITIES),
        *(("edges", s, {"switches": True}) for s in ("parallel", "attention-only")),
        *(("nodes", "gpt2", options) for options in ({}, {"split_qkv": False})),
    ],
)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_gradients_of_masks_are_finite_differences(kind, shape, options, ablation):
    """Along one direction of all masks, and along one mask; micro-batches add up to the same."""
    whole, parts = (
        MASKINGS[kind](make_problem(ablation, "kl", shape, batch_size=size, **options))
        for size in (None, 2)
    )
    masks, direction = drawn_masks(whole.n_masks), drawn_masks(whole.n_masks, 1) - 0.5
    loss, gradient = whole.loss_and_gradient(masks)
    assert_same(parts.loss_and_gradient(masks)[1], gradient)
    assert loss == pytest.approx(float(masked(whole, masks).mean()))
    single = torch.zeros_like(masks).index_fill(0, torch.tensor(3), 1.0)
    for toward in (direction, single):
        up, down = (masked(whole, masks + h * toward).mean() for h in (1e-6, -1e-6))
        slope = float(up - down) / 2e-6
        assert float(gradient @ toward) == pytest.approx(slope, rel=1e-5, abs=1e-8)


# --- training


def needs(method):
    return {"sparsity": 0.7} if method == "edge-pruning" else {"regularisation": 0.05}


@pytest.mark.parametrize("method", TRAINED)
def test_a_stopped_training_resumes_as_if_it_had_not_been_stopped(method, tmp_path, monkeypatch):
    task = ew.load_task("tracr-xproportion", data="paper")
    settings = {**needs(method), "steps": 12, "learning_rate": 0.1}
    monkeypatch.setattr("edgewise.work.store.STATE_SECONDS", 0.0)

    def stop(progress):
        if progress.done == 7:
            raise KeyboardInterrupt

    folder, seen = tmp_path / "work", []
    with pytest.raises(KeyboardInterrupt):
        ew.discover(task.problem, method, journal=folder, on_progress=stop, **settings)
    run = ew.discover(task.problem, method, journal=folder, on_progress=seen.append, **settings)
    assert [p.done for p in seen] == [7, 8, 9, 10, 11, 12]  # the state of six steps was kept
    assert re.match(r"loss .* of \d+ masks on", seen[0].message)
    state = torch.get_rng_state()
    assert run.scores.values.equal(ew.discover(task.problem, method, **settings).scores.values)
    assert torch.get_rng_state().equal(state)
    assert all(tensor.grad is None for tensor in task.problem.model.weights.values())


def test_a_state_that_was_changed_is_not_resumed_from(tmp_path, monkeypatch):
    monkeypatch.setattr("edgewise.work.store.STATE_SECONDS", 0.0)
    state, problem = tmp_path / "j" / "state.safetensors", make_problem()
    theta, of_another = torch.rand(3), {"theta": torch.zeros(3), "generator": torch.zeros(3)}
    settings = METHODS["sp-edges"].resolve({"regularisation": 0.1, "steps": 6})
    with Checkpoint(tmp_path / "j", {"identity": 1}) as journal:
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
        with pytest.raises(FormatError, match="not those of this work"):
            METHODS["sp-edges"].load()(problem, settings, Session(checkpoint=journal))


# --- errors


@pytest.mark.parametrize("method", TRAINED)
def test_masks_that_no_gradient_reaches(method):
    """and-gate with zero ablation: at 1/2 its relu is off, and learning starts well above."""
    settings = {"steps": 3, **needs(method)}
    with pytest.raises(MetricError, match=r"'accuracy' has no gradient.* kl"):
        ew.discover(make_problem(metric="accuracy"), method, **settings)
    with pytest.raises(MetricError, match=r"at 1/2 or at 0\.9, metric .* does not change"):
        ew.discover(make_problem(metric=lambda logits, rows: 0 * logits[:, 0]), method, **settings)
    off_at_half = ew.load_task("and-gate", ablation="zero").problem
    ew.discover(off_at_half, method, **settings)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_what_is_no_number_names_the_step_the_prompt_and_the_edge(batch_size):
    """One metric is steep on the second of three prompts, the other breaks after some calls."""
    problem, calls = make_problem(batch_size=batch_size), []
    second = problem.pairs.answers[1, 0]
    assert (problem.pairs.answers[:, 0] == second).sum() == 1

    def steep(logits, rows):
        values, bad = logits[:, 0].clone(), rows.answers[:, 0] == second
        values[bad] = (logits[bad, 0] - logits[bad, 0].detach()).abs().sqrt()
        return values

    def breaks(logits, rows):
        calls.append(1)
        return logits[:, 0] * (float("nan") if len(calls) > 18 else 1)

    for metric, message in (
        (steep, r"nan before the first step on prompt 1 for \d+ of \d+ masks \(input->a0"),
        (breaks, r"the loss is nan in step \d+ on prompt 0\. Check"),
    ):
        with pytest.raises(MetricError, match=message):
            ew.sp_edges(problem.with_(metric=metric), regularisation=1, steps=40)
