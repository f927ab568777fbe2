"""Attribution equals independent implementations, exact patching in the limit, definitions."""

from dataclasses import MISSING, fields, replace

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, ScoreError, SettingError
from edgewise.methods import method_of
from edgewise.methods.execution import run_method
from edgewise.methods.gradients import clean_run
from edgewise.model.blocks import Norm
from edgewise.model.config import ACTIVATIONS, NORMS
from edgewise.model.outputs import SenderOutputs
from models import SHAPES, random_model, random_pairs
from peers import load_peers

METHODS = (
    *("eap", "eap-ig", "clean-corrupted", "exact", "atp-star", "relp"),
    *("information-flow", "magnitude", "random"),
)
HYBRIDS = ("acdc-ordered", "acdc-screened", "acdc-bisect")
ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")


def find(problem, method, **settings):
    chosen = method_of(method)
    return run_method(chosen, problem, chosen.resolve(settings))


def scores_of(problem, method, **settings):
    return find(problem, method, **settings).scores.values


def small_problem(seed=0, metric="logit-diff", ablation="corrupted", shape="gpt2", **options):
    model = random_model(seed, **SHAPES[shape])
    options = {"split_embed": model.config.adds_positions, **options}
    graph = ew.Graph.of(model, **options)
    return ew.Problem(model, random_pairs(model, seed), metric, ablation, graph=graph)


def nearly_clean(problem, step=1e-6):
    """The problem with ablations that lie a small step from the clean values."""
    evaluator, near = problem.evaluator(problem.graph), []
    generator = torch.Generator().manual_seed(0)

    def moved(x):
        return x + step * torch.randn(x.shape, generator=generator, dtype=torch.float64)

    for batch in evaluator.batches:
        clean = clean_run(problem, batch.pairs)
        parts = moved(clean.senders.dense()).split([len(part) for part in clean.senders.parts])
        vectors = {site: moved(v) for site, v in clean.vectors.items() if problem.graph.switches}
        ablation = replace(batch.ablation, senders=SenderOutputs(parts), vectors=vectors)
        near.append(replace(batch, ablation=ablation))
    evaluator.__dict__["batches"] = tuple(near)
    return problem


# --- independent implementations


@pytest.fixture(scope="module")
def independent():
    """EAP-IG 2.0.0 divides gradient scores by the number of prompts once more than a mean needs."""
    hf, tokens, data = load_peers()
    prompts = [tokens[name] for name in ("clean", "corrupted")]
    pairs = ew.PromptPairs.from_tokens(*prompts, answers=tokens["answers"], wrong=tokens["wrong"])
    known = {"auto-circuit": (data["auto_circuit"]["eap_logitdiff_mask0"], 1)}
    for name, scores in data["eap_ig"].items():
        known[name] = scores, 1 if name.startswith("exact") else len(pairs)
    return ew.load_model(hf), pairs, known


@pytest.mark.parametrize(
    ("theirs", "method", "settings"),
    [
        ("auto-circuit", "eap", {}),
        ("eap_logitdiff", "eap", {}),
        ("eapig_inputs5_kl", "eap-ig", {"steps": 5}),
        ("eapig_inputs5_logitdiff", "eap-ig", {"steps": 5}),
        ("eapig_activations5_logitdiff", "eap-ig", {"steps": 5, "over": "activations"}),
        ("clean_corrupted_kl", "clean-corrupted", {}),
        ("clean_corrupted_logitdiff", "clean-corrupted", {}),
        ("exact_kl", "exact", {}),
        ("exact_logitdiff", "exact", {}),
    ],
)
def test_scores_are_the_independent_implementations(theirs, method, settings, independent):
    metric = "kl" if theirs.endswith("kl") else "logit-diff"
    model, pairs, known = independent
    scores, factor = known[theirs]
    expected = torch.tensor(list(scores.values()), dtype=torch.float64) * factor
    found = find(ew.Problem(model, pairs, metric), method, **settings).scores
    ours = torch.tensor([found.of(edge) for edge in scores], dtype=torch.float64)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# --- exact patching


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_exact_is_the_plain_evaluator_edge_by_edge(shape, ablation):
    for options in (
        {"switches": True},
        {"split_qkv": False, "switches": True},
        {"split_heads": False},
        {"split_heads": False, "split_qkv": False, "switches": True},
    ):
        problem = small_problem(3, "kl", ablation, shape, **options)
        found = scores_of(problem, "exact")
        full = ew.Circuit.full(problem.graph)
        loss = problem.loss(full)
        for edge in problem.graph.edges[::5]:
            expected = problem.loss(full.without(edge)) - loss
            assert found[problem.graph.index(edge)] == pytest.approx(expected, abs=1e-10), edge.name


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize(
    "options",
    [{"switches": True}, {"split_heads": False, "switches": True}, {"split_qkv": False}],
)
def test_attribution_is_exact_as_the_perturbation_shrinks(shape, options):
    """Ablation = clean + a small step: first-order scores are then what exact patching gives."""
    near = nearly_clean(small_problem(1, shape=shape, **options))
    exact = scores_of(near, "exact")
    for method in ("eap", "atp-star") if options.get("split_qkv", True) else ("eap",):
        ours = scores_of(near, method)
        torch.testing.assert_close(ours, exact, rtol=2e-4, atol=2e-5 * float(exact.abs().max()))


def test_corrected_queries_and_keys_see_through_saturation():
    """A saturated softmax has no gradient, but patching its query moves the pattern."""
    model = random_model(2, **SHAPES["attention-only"])
    weights = {
        name: tensor * (12 if name.endswith(("W_Q", "W_K")) else 1)
        for name, tensor in model.weights.items()
    }
    sharp = ew.Model(model.config, weights)
    problem = ew.Problem(sharp, random_pairs(sharp, 2), "logit-diff", "corrupted")
    exact, eap, atp = (scores_of(problem, m) for m in ("exact", "eap", "atp-star"))
    at = [c for c, port in enumerate(problem.graph.receivers) if port.slot in ("q", "k")]
    error = [float((found - exact)[:, at].abs().sum()) for found in (eap, atp)]
    assert error[1] < error[0]


# --- definitions


def test_relp_holds_norms_and_activations_constant():
    """Equal to EAP where neither is there, and to a model with both replaced by constants."""
    plain = random_model(1, attention_only=True, norm="none")
    problem = ew.Problem(plain, random_pairs(plain, 1), "logit-diff")
    torch.testing.assert_close(scores_of(problem, "relp"), scores_of(problem, "eap"))
    assert ew.relp(problem).cost.backward_passes == 1
    bent = small_problem(1)
    assert not torch.allclose(scores_of(bent, "relp"), scores_of(bent, "eap"))
    model, linear = bent.model, bent.model.linearised()
    torch.testing.assert_close(linear(bent.pairs.clean), model(bent.pairs.clean))
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    for name in ("relu", "gelu", "gelu_new"):
        y = ACTIVATIONS[f"{name}-linearised"](x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(slope, (ACTIVATIONS[name](x) / x).detach())
    y = Norm(NORMS["layernorm-linearised"], 1e-5)(x)
    (slope,) = torch.autograd.grad((y * y.detach()).sum(), x)
    scale = (x.var(dim=-1, correction=0, keepdim=True) + 1e-5).rsqrt().detach()
    torch.testing.assert_close(slope, y.detach() * scale)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("metric", ["kl", "logit-diff", "l2"])
def test_integrated_gradients_are_complete(ablation, metric):
    """Scores leaving the input sum to the loss's change; the error falls with the steps."""
    problem = small_problem(2, metric, ablation, split_embed=False)
    keep = problem.graph.exists.clone()
    keep[0] = False  # the embeddings are the ablation's, everything else is live
    circuits = (ew.Circuit(problem.graph, keep), ew.Circuit.full(problem.graph))
    ablated, clean = map(problem.loss, circuits)
    change, row = ablated - clean, problem.graph.row[problem.graph.senders[0]]
    errors = []
    for steps in (5, 40, 200):
        scores = scores_of(problem, "eap-ig", steps=steps, points="midpoints")
        errors.append(abs(float(scores[row].sum()) - change))
    # From a zero input a norm jumps at once to what it divides by: no smooth way to integrate over.
    allowed = 0.1 if ablation == "zero" else 1e-3
    assert errors[2] < allowed * max(abs(change), 1e-3)
    assert errors[2] <= errors[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_micro_batches_change_nothing(method, ablation):
    model = random_model(5)
    pairs = random_pairs(model, 5, lengths=[6, 3, 5, 6, 2], padding="left")
    graph = ew.Graph.of(model, switches=True)
    problem = ew.Problem(model, pairs, "logit-diff", ablation, graph=graph)
    whole, parts = (scores_of(problem.with_(batch_size=size), method) for size in (None, 2))
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", [*METHODS, *HYBRIDS])
def test_weights_and_switches_of_torch_are_left_alone(method):
    problem = small_problem()
    before = {name: tensor.clone() for name, tensor in problem.model.weights.items()}
    state = torch.get_rng_state()
    find(problem, method, **({"threshold": 0.05} if method in HYBRIDS else {}))
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in problem.model.weights.items():
        assert torch.equal(before[name], tensor)
        assert tensor.grad is None
        assert not tensor.requires_grad


# --- selection


def test_selection():
    problem = small_problem()
    n, scores = problem.graph.n_edges, find(problem, "eap").scores
    for settings, circuit in (
        ({}, scores.top(round(0.1 * n), absolute=True)),
        ({"share": 0.5, "by": "signed"}, scores.top(round(0.5 * n))),
        ({"edges": 7, "select": "greedy"}, scores.greedy(7, absolute=True)),
        ({"above": 0.01, "by": "signed"}, scores.above(0.01)),
        ({"nodes": 3}, scores.top_nodes(3, absolute=True)),
        ({"nodes": 3, "by": "signed"}, scores.top_nodes(3)),
    ):
        assert find(problem, "eap", **settings).circuit == circuit


# --- what cannot be


@pytest.mark.parametrize("ablation", ["corrupted", "mean"])
@pytest.mark.parametrize("method", ["eap", "eap-ig", "atp-star", "acdc-ordered", "hisp"])
def test_a_score_that_is_no_number_names_its_edge_and_its_prompt(method, ablation):
    model = random_model()
    pairs = random_pairs(model, lengths=[6, 3, 5, 6])
    first, _, third, _ = (int(answer) for answer in pairs.answers[:, 0])
    assert first != third

    def steep(logits, rows):
        values, bad = logits[:, 0].clone(), rows.answers[:, 0] == third
        values[bad] = (logits[bad, 0] - logits[bad, 0].detach()).abs().sqrt()
        return values

    needs = {"threshold": 0.1} if method in HYBRIDS else {}
    for batch_size in (None, 3):
        problem = ew.Problem(model, pairs, steep, ablation, batch_size=batch_size)
        with pytest.raises(ScoreError, match=r"score of \S+->\S+ is nan on prompt 2; .*dtype") as e:
            ew.discover(problem, method, **needs)
        assert problem.graph.index(e.value.edge)
        assert e.value.prompt == 2


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("eap", {"share": 1.2}, "between 0 and 1"),
        ("eap", {"edges": 3, "share": 0.5}, "only once"),
        ("eap", {"above": float("nan")}, "must be a number"),
        ("eap", {"nodes": 3, "select": "greedy"}, "grows to a number of edges"),
        ("random", {"seed": -1}, "between 0 and"),
        ("ugs", {"start": 1}, "start is 1; it must be above 0 and below 1"),
        ("sp", {"regularisation": -1}, "regularisation is -1; .* at least 0"),
        ("edge-pruning", {"learning_rate": 0}, "learning_rate is 0; .* a positive number"),
        ("acdc", {"engine": "plain", "precision": "reduced"}, "no precision 'reduced'"),
        ("acdc-test", {"first": 1}, "at least 2"),
    ],
)
def test_settings_that_cannot_be(method, settings, message):
    required = {"threshold": 1, "regularisation": 1, "sparsity": 0.5}
    row = method_of(method)
    needs = {f.name: required[f.name] for f in fields(row.settings) if f.default is MISSING}
    with pytest.raises(ew.EdgewiseError, match=message):
        row.resolve({**needs, **settings})


@pytest.mark.parametrize(
    ("method", "options", "settings", "message"),
    [
        ("eap", {}, {"edges": 10_000}, "the graph has"),
        ("atp-star", {"split_qkv": False}, {}, "split_qkv"),
        ("eap", {"metric": "kl"}, {}, "gradient of 'kl' is zero where eap.*eap-ig.*logit-diff"),
        ("atp-star", {"metric": "kl"}, {}, "gradient of 'kl' is zero where atp-star takes it"),
        ("eap-ig", {"metric": "accuracy"}, {}, "has no gradient .* acdc, exact"),
    ],
)
def test_what_a_problem_does_not_have_is_refused(method, options, settings, message):
    with pytest.raises((SettingError, MetricError), match=message):
        find(small_problem(**options), method, **settings)


def test_a_gradient_that_does_not_vanish_is_not_refused():
    problem = small_problem(metric="kl")
    for method in ("eap-ig", "clean-corrupted", "exact"):
        assert find(problem, method).notes == ()
    assert find(problem.with_(target=ew.reset_network(problem.model, seed=1)), "eap").notes == ()
