"""Attribution equals independent implementations, exact patching in the limit, definitions."""

from dataclasses import MISSING, fields

import pytest
import torch

import edgewise as ew
from edgewise.errors import MetricError, ScoreError, SettingError
from edgewise.methods import method_of
from edgewise.methods.execution import run_method
from edgewise.model.blocks import Norm
from edgewise.model.config import ACTIVATIONS, NORMS
from edgewise.model.outputs import SenderOutputs
from models import SHAPES, random_model, random_pairs
from peers import load_peers

ATTRIBUTIONS = ("eap", "eap-ig", "clean-corrupted", "exact", "atp-star", "relp")
BASELINES = ("information-flow", "magnitude", "random")
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


@pytest.fixture(scope="module")
def fixture_problem():
    hf, tokens, data = load_peers()
    pairs = ew.PromptPairs.from_tokens(**{k: tokens[k] for k in ("clean", "corrupted")},
        answers=tokens["answers"], wrong=tokens["wrong"])  # fmt: skip
    return ew.load_model(hf), pairs, data


@pytest.mark.parametrize(
    ("theirs", "method", "settings"),
    [
        ("eap", "eap", {}),
        ("eapig_inputs5", "eap-ig", {"steps": 5}),
        ("eapig_activations5", "eap-ig", {"steps": 5, "over": "activations"}),
        ("clean_corrupted", "clean-corrupted", {}),
        ("exact", "exact", {}),
    ],
)
@pytest.mark.parametrize(("metric", "suffix"), [("kl", "kl"), ("logit-diff", "logitdiff")])
def test_scores_are_eap_igs(theirs, method, settings, metric, suffix, fixture_problem):
    """EAP-IG 2.0.0 divides gradient scores by the number of prompts once more than a mean needs."""
    model, pairs, data = fixture_problem
    known = data["eap_ig"].get(f"{theirs}_{suffix}")
    if known is None:  # activations were computed for logit difference only
        assert (theirs, metric) == ("eapig_activations5", "kl")
        return
    if (theirs, metric) == ("eap", "kl"):  # theirs are rounding noise
        return
    found = find(ew.Problem(model, pairs, metric), method, **settings)
    expected = torch.tensor(list(known.values()), dtype=torch.float64)
    if theirs != "exact":
        expected *= len(pairs)
    ours = torch.tensor([found.scores.of(edge) for edge in known], dtype=torch.float64)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_eap_is_auto_circuits(fixture_problem):
    model, pairs, data = fixture_problem
    known = data["auto_circuit"]["eap_logitdiff_mask0"]
    found = find(ew.Problem(model, pairs, "logit-diff"), "eap")
    ours = torch.tensor([found.scores.of(edge) for edge in known], dtype=torch.float64)
    expected = torch.tensor(list(known.values()), dtype=torch.float64)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {"switches": True},
        {"split_qkv": False, "switches": True},
        {"split_heads": False},
        {"split_heads": False, "split_qkv": False, "switches": True},
    ],
)
def test_exact_is_the_plain_evaluator_edge_by_edge(shape, ablation, options):
    problem = small_problem(3, "kl", ablation, shape, **options)
    found = scores_of(problem, "exact")
    full = ew.Circuit.full(problem.graph)
    loss = problem.loss(full)
    for edge in problem.graph.edges[::3]:
        expected = problem.loss(full.without(edge)) - loss
        assert found[problem.graph.index(edge)] == pytest.approx(expected, abs=1e-10), edge.name


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("method", ["eap", "atp-star"])
@pytest.mark.parametrize("options", [{"switches": True}, {"split_heads": False, "switches": True}])
def test_attribution_is_exact_as_the_perturbation_shrinks(shape, method, options):
    """Ablation = clean + a small step: first-order scores are then what exact patching gives."""
    model = random_model(1, **SHAPES[shape])
    graph = ew.Graph.of(model, **options)
    pairs = random_pairs(model, 1)
    problem = ew.Problem(model, pairs, "logit-diff", "zero", graph=graph)
    near = _nearly_clean(problem, 1e-6)
    ours, exact = scores_of(near, method), scores_of(near, "exact")
    torch.testing.assert_close(ours, exact, rtol=2e-4, atol=2e-5 * float(exact.abs().max()))


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


def _nearly_clean(problem, step):
    """The problem with ablations that lie a small step from the clean values."""
    evaluator = problem.evaluator(problem.graph)
    from dataclasses import replace

    from edgewise.methods.gradients import clean_run

    near = []
    generator = torch.Generator().manual_seed(0)
    for batch in evaluator.batches:
        clean = clean_run(problem, batch.pairs)
        dense = clean.senders.dense()
        noise = torch.randn(dense.shape, generator=generator, dtype=torch.float64)
        vectors = {
            site: v + step * torch.randn(v.shape, generator=generator, dtype=torch.float64)
            for site, v in clean.vectors.items()
            if problem.graph.switches
        }
        parts = (dense + step * noise).split([len(part) for part in clean.senders.parts])
        ablation = replace(batch.ablation, senders=SenderOutputs(parts), vectors=vectors)
        near.append(replace(batch, ablation=ablation))
    evaluator.__dict__["batches"] = tuple(near)
    return problem


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("metric", ["kl", "logit-diff", "l2"])
def test_integrated_gradients_are_complete(ablation, metric):
    """Scores leaving the input sum to the loss's change; the error falls with the steps."""
    problem = small_problem(2, metric, ablation, split_embed=False)
    clean = problem.loss(ew.Circuit.full(problem.graph))
    change = _loss_with_ablation_input(problem) - clean
    row = problem.graph.row[problem.graph.senders[0]]
    errors = []
    for steps in (5, 40, 200):
        scores = scores_of(problem, "eap-ig", steps=steps, points="midpoints")
        errors.append(abs(float(scores[row].sum()) - change))
    # From a zero input a norm jumps at once to what it divides by: no smooth way to integrate over.
    allowed = 0.1 if ablation == "zero" else 1e-3
    assert errors[2] < allowed * max(abs(change), 1e-3)
    assert errors[2] <= errors[0]
    if ablation == "zero":
        return  # the first published point is that jump
    published = scores_of(problem, "eap-ig", steps=200)
    assert float(published[row].sum()) == pytest.approx(change, rel=0.05, abs=1e-4)


def _loss_with_ablation_input(problem):
    """The loss when the embeddings are the ablation's and everything else is live."""
    graph = problem.graph
    keep = graph.exists.clone()
    keep[0] = False
    return problem.loss(ew.Circuit(graph, keep))


@pytest.mark.parametrize("method", [*ATTRIBUTIONS, *BASELINES])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_micro_batches_change_nothing(method, ablation):
    model = random_model(5)
    pairs = random_pairs(model, 5, lengths=[6, 3, 5, 6, 2], padding="left")
    graph = ew.Graph.of(model, switches=True)
    whole, parts = (
        scores_of(
            ew.Problem(model, pairs, "logit-diff", ablation, graph=graph, batch_size=size), method
        )
        for size in (None, 2)
    )
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("ablation", ["corrupted", "mean"])
@pytest.mark.parametrize(
    "method", ["eap", "eap-ig", "clean-corrupted", "atp-star", "relp", "acdc-ordered"]
)
def test_a_score_that_is_no_number_names_its_edge_and_its_prompt(method, ablation):
    model = random_model()
    pairs = random_pairs(model, lengths=[6, 3, 5, 6])
    first, _, third, _ = (int(answer) for answer in pairs.answers[:, 0])
    assert first != third

    def steep(logits, rows):
        values, bad = logits[:, 0].clone(), rows.answers[:, 0] == third
        values[bad] = (logits[bad, 0] - logits[bad, 0].detach()).abs().sqrt()
        return values

    needs = {"threshold": 0.1} if method.startswith("acdc") else {}
    for batch_size in (None, 3):
        problem = ew.Problem(model, pairs, steep, ablation, batch_size=batch_size)
        with pytest.raises(ScoreError, match=r"score of \S+->\S+ is nan on prompt 2; .*dtype") as e:
            ew.discover(problem, method, **needs)
        assert problem.graph.index(e.value.edge)
        assert e.value.prompt == 2


@pytest.mark.parametrize("method", ["eap", "eap-ig", "clean-corrupted", "relp"])
def test_joined_ports_and_layers_add_up(method):
    """To first order a joined port's effect is the sum of its parts'; so is a layer's."""
    split, joined, layers = (
        small_problem(6, "logit-diff", "corrupted", split_embed=False, **options)
        for options in ({}, {"split_qkv": False}, {"split_heads": False, "split_qkv": False})
    )
    fine, coarse, whole = (scores_of(p, method) for p in (split, joined, layers))
    for edge in joined.graph.edges:
        at = joined.graph.index(edge)
        parts = [e for e in split.graph.edges
                 if e.sender == edge.sender and e.receiver.node == edge.receiver.node]  # fmt: skip
        total = sum(float(fine[split.graph.index(e)]) for e in parts)
        assert float(coarse[at]) == pytest.approx(total, abs=1e-9), edge.name
    assert float(whole.sum()) == pytest.approx(float(coarse.sum()), abs=1e-9)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("eap-ig", {"steps": 0}, "whole number of at least 1"),
        ("eap", {"share": 1.2}, "between 0 and 1"),
        ("eap", {"edges": -1}, "at least 0"),
        ("eap", {"edges": 3, "share": 0.5}, "only once"),
        ("eap", {"above": float("nan")}, "must be a number"),
        ("eap", {"above": 0.1, "select": "greedy"}, "grows to a number of edges"),
        ("eap", {"nodes": 3, "select": "greedy"}, "grows to a number of edges"),
        ("eap", {"nodes": 3, "above": 0.1}, "above and nodes are given; .* only once"),
        ("eap", {"nodes": -1}, "nodes is -1; .* at least 0"),
        ("eap", {"threshold": 0.1}, "setting of eap"),
        ("random", {"seed": -1}, "between 0 and"),
        ("hisp", {"activations": 3, "activation_share": 0.5}, "only once"),
        ("hisp", {"activation_share": 1.5}, "activation_share is 1.5"),
        ("ugs", {"start": 1}, "start is 1; it must be above 0 and below 1"),
        ("ugs", {"draws": 0}, "draws is 0; .* at least 1"),
        ("sp", {"regularisation": -1}, "regularisation is -1; .* at least 0"),
        ("sp-edges", {"steps": 0}, "steps is 0; it must be a whole number of at least 1"),
        ("edge-pruning", {"learning_rate": 0}, "learning_rate is 0; .* a positive number"),
        ("edge-pruning", {"sparsity": float("nan")}, "sparsity is .* between 0 and 1"),
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
        ("eap", {}, {"nodes": 99}, "asked for 99 nodes; the graph has 6 beside"),
        ("hisp", {}, {"activations": 99}, "99 activations are to be kept; the graph has 14"),
        ("atp-star", {"split_qkv": False}, {}, "split_qkv"),
        ("eap", {"metric": "kl"}, {}, "gradient of 'kl' is zero where eap.*eap-ig.*logit-diff"),
        ("relp", {"metric": "l2"}, {}, "gradient of 'l2' is zero where relp takes it"),
        ("atp-star", {"metric": "kl"}, {}, "gradient of 'kl' is zero where atp-star takes it"),
        ("eap-ig", {"metric": "accuracy"}, {}, "has no gradient .* acdc, exact"),
        ("relp", {"metric": "accuracy"}, {}, "has no gradient .* acdc, exact"),
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


@pytest.mark.parametrize("method", ["eap", "exact", "information-flow"])
def test_selection(method):
    problem = small_problem()
    n = problem.graph.n_edges
    assert find(problem, method).circuit.n_edges == round(0.1 * n)
    assert find(problem, method, share=0.5).circuit.n_edges == round(0.5 * n)
    assert find(problem, method, edges=7, select="greedy").circuit.n_edges == 7
    scores = find(problem, method).scores
    above = find(problem, method, above=0.01, by="signed").circuit
    assert above == scores.above(0.01)
    for by in ("absolute", "signed"):
        nodes = find(problem, method, nodes=3, by=by).circuit
        assert nodes == scores.top_nodes(3, absolute=by == "absolute")


def test_the_nodes_score_is_what_replacing_its_output_does():
    """Ablation = clean + a small step: a node's score is the loss's rise when all its edges go."""
    problem = _nearly_clean(small_problem(split_embed=False), 1e-6)
    scores = find(problem, "eap").scores
    full = ew.Circuit.full(problem.graph)
    for node, score in scores.of_nodes().items():
        out = [edge for edge in problem.graph.edges if edge.sender == node]
        rise = problem.loss(full.without(*out)) - problem.loss(full)
        assert score == pytest.approx(rise, rel=1e-3, abs=1e-9), node.name


def test_information_flow_shares_sum_to_one():
    problem = small_problem(split_embed=True)
    additive = problem.graph.exists & ~problem.graph.is_switch
    sums = scores_of(problem, "information-flow").where(additive, 0.0).sum(dim=0)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("method", [*ATTRIBUTIONS, *BASELINES, *HYBRIDS])
def test_weights_and_switches_of_torch_are_left_alone(method):
    problem = small_problem()
    before = {name: tensor.clone() for name, tensor in problem.model.weights.items()}
    state = torch.get_rng_state()
    needs = {"threshold": 0.05} if method.startswith("acdc") else {}
    find(problem, method, **needs)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in problem.model.weights.items():
        assert torch.equal(before[name], tensor)
        assert tensor.grad is None
        assert not tensor.requires_grad
