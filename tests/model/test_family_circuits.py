"""Every family's circuits are the oracle's, and what is fast is what is slow.

The cases that compute in a way of their own are in the plain tier, all others with -m slow.
"""

import pytest
import torch

import edgewise as ew
from edgewise.evaluation import minimality
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.model.outputs import Outputs
from edgewise.model.runtime import CleanReader, logits_of
from edgewise.model.runtime import run as run_model
from edgewise.patching import CircuitReader
from family_oracle import run_circuit
from hf import CASES, MIXED, loaded
from models import random_circuit, random_pairs

LENGTHS = [7, 4, 6]
PLAIN = {
    "llama", "mistral", "gpt_neox", "gptj", "gpt_neo", "opt", "falcon, rw shape",
    "falcon, 7b shape", "qwen3", "qwen2_moe", "gemma2", "olmo2", "stablelm, q/k norms",
}  # fmt: skip
QUICK = {"mistral", "gpt_neox", "falcon, rw shape"}
ORACLE = [case for case in CASES if not case.startswith("gpt2")]  # it has an oracle of its own


def some(cases, plain=PLAIN):
    """Cases, those not in `plain` marked slow."""
    slow = pytest.mark.slow
    return [case if case in plain else pytest.param(case, marks=slow) for case in cases]


def problem_of(case, graph=None, metric="logit-diff", lengths=LENGTHS, **how):
    _, model = loaded(case)
    return ew.Problem(model, random_pairs(model, lengths=lengths, **how), metric, graph=graph)


def graphs_of(model):
    """The model's graph, and that of its heads' own keys and values if they share them."""
    ungrouped = ew.Graph.of(model, ungroup_heads=True)
    return [model.graph] if ungrouped == model.graph else [model.graph, ungrouped]


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", some(CASES))
def test_full_and_empty_circuits(case):
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph)
        clean, corrupted, real = problem.pairs.clean, problem.pairs.corrupted, problem.pairs.real
        for circuit, tokens in ((ew.Circuit.full, clean), (ew.Circuit.empty, corrupted)):
            close(ew.run_circuit(problem, circuit(graph))[real], model(tokens, real)[real])


@pytest.mark.parametrize("case", some(ORACLE))
def test_circuits_are_the_oracles(case):
    module, model = loaded(case)
    for seed, padding in ((0, "right"), (1, "left")):
        problem = problem_of(case, padding=padding)
        circuit = random_circuit(model.graph, seed)
        pairs = problem.pairs
        expected = run_circuit(
            module, model.graph, {e.name for e in circuit.edges},
            pairs.clean, pairs.corrupted, pairs.real,
        )  # fmt: skip
        close(ew.run_circuit(problem, circuit)[pairs.real], expected[pairs.real])


@pytest.mark.parametrize("case", ["llama", "falcon, 7b shape", "gemma2"])
def test_ports_of_a_group_that_keep_the_same_edges_are_a_shared_port(case):
    _, model = loaded(case)
    shared, apart = graphs_of(model)
    circuit = random_circuit(shared, seed=3)
    group = model.config.group
    names = set()
    for edge in circuit.edges:
        if edge.receiver.node.kind != "kv":
            names.add(edge.name)
            continue
        for node in shared.group(edge.receiver.node):
            names.add(f"{edge.sender}->{node}.{edge.receiver.slot}")
    same = ew.Circuit.of(apart, names)
    assert same.n_edges > circuit.n_edges
    assert group > 1
    one, other = (ew.run_circuit(problem_of(case, c.graph), c) for c in (circuit, same))
    real = problem_of(case).pairs.real
    close(one[real], other[real])


@pytest.mark.parametrize("case", some(CASES))
def test_eap_is_the_gradient_of_every_edges_mask(case):
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph)
        masking = EdgeMasking(problem)
        ones = torch.ones(masking.n_masks, dtype=torch.float64)
        gradient = masking.loss_and_gradient(ones)[1]
        close(ew.eap(problem, edges=1).scores.values[graph.exists], -gradient)


@pytest.mark.parametrize("case", some(CASES))
def test_exact_patching_is_the_plain_evaluators(case):
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph)
        scores = ew.exact(problem, edges=1).scores
        full = problem.loss(ew.Circuit.full(graph))
        for edge in graph.edges[:: 1 + graph.n_edges // 40]:
            without = problem.loss(ew.Circuit.full(graph).without(edge))
            assert scores.of(edge) == pytest.approx(without - full, abs=1e-9)


@pytest.mark.parametrize("case", some(CASES, QUICK))
def test_acdc_is_the_same_by_both_engines(case):
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph, metric="kl", lengths=[5, 3])
        fast, plain = (
            ew.acdc(problem, threshold=0.03, engine=engine) for engine in ("incremental", "plain")
        )
        assert [d.edge for d in fast.trace] == [d.edge for d in plain.trace]
        assert fast.circuit == plain.circuit
        for one, other in zip(fast.trace, plain.trace, strict=True):
            assert one.delta == pytest.approx(other.delta, abs=1e-9)


@pytest.mark.parametrize("case", some(CASES))
def test_pruning_changes_no_logit(case):
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph)
        circuit = random_circuit(graph, seed=4, share=0.3)
        pruned = circuit.pruned()
        one, other = (ew.run_circuit(problem, c) for c in (circuit, pruned))
        close(one[problem.pairs.real], other[problem.pairs.real])


@pytest.mark.parametrize("case", some(MIXED, {"gemma2"}))
def test_heads_behind_one_norm_depend_on_each_other(case):
    """A head that nothing reads still matters for its layer's others."""
    problem = problem_of(case, metric="kl", lengths=[5, 3])
    graph = problem.graph
    assert graph.fed_by(ew.Port.parse("a0.h1.q")) == graph.attention_nodes[0]
    dead = ew.Circuit.full(graph).without(*(e for e in graph.edges if e.sender.name == "a0.h1"))
    fed = dead.without("input->a0.h1.q")
    assert abs(problem.loss(dead) - problem.loss(fed)) > 1e-9
    effects = minimality(problem, dead).effects
    assert effects["input->a0.h1.q"] == pytest.approx(
        problem.loss(fed) - problem.loss(dead), abs=1e-10
    )
    run = ew.acdc_bisect(problem, threshold=1e-3)
    assert 0 < run.circuit.n_edges < graph.n_edges


class Mixing(Outputs):
    """Outputs that keep what every layer's heads mixed."""

    def __init__(self, graph):
        super().__init__(graph)
        self.z = []

    def mixed(self, z):
        self.z.append(z)


@pytest.mark.parametrize("case", some(["llama", *MIXED], {"olmo2", "gemma2"}))
def test_atp_star_scores_what_heads_mix_without_the_edge(case):
    """Edges into queries and keys: the change of all heads' mixed values times its gradient."""
    _, model = loaded(case)
    for graph in graphs_of(model):
        problem = problem_of(case, graph)
        (batch,), pairs = problem.evaluator(graph).batches, problem.pairs
        clean = Mixing(graph)
        with torch.enable_grad():
            weights = {**model.weights, "embed.W_E": model.weights["embed.W_E"].clone()}
            weights["embed.W_E"].requires_grad_()
            watched = ew.Model(model.config, weights)
            final, _ = run_model(
                watched, pairs.clean, pairs.real, graph=graph, reader=CleanReader(), outputs=clean
            )
            logits = logits_of(model, final[pairs.answer_at])
            values = problem.metric.per_prompt(logits, batch.rows, len(pairs))
            loss = problem.metric.loss_sign * values.mean()
            slopes = torch.autograd.grad(loss, clean.z)
        scores = ew.atp_star(problem, edges=1).scores
        for edge in graph.edges[:: 1 + graph.n_edges // 25]:
            layer = edge.receiver.node.layer
            if edge.receiver.slot not in ("q", "k"):
                continue
            circuit = ew.Circuit.full(graph).without(edge)
            reader = CircuitReader(circuit, batch.ablation, pairs, model.dtype, model.device)
            less = Mixing(graph)
            run_model(model, pairs.clean, pairs.real, graph=graph, reader=reader, outputs=less)
            expected = ((less.z[layer] - clean.z[layer].detach()) * slopes[layer]).sum()
            assert scores.of(edge) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("case", ["llama", "gpt_neox", "falcon, rw shape", "gemma2", "olmo2"])
def test_all_attributions_agree_on_a_small_change(case):
    """With an ablation close to the clean run, effects are linear: every method sees the same."""
    _, model = loaded(case)
    embed = model.weights["embed.W_E"].clone()
    noise = torch.randn(embed[:10].shape, generator=torch.Generator().manual_seed(0))
    embed[10:20] = embed[:10] + 1e-6 * noise.double()
    near = ew.Model(model.config, {**model.weights, "embed.W_E": embed})
    clean = [[1, 2, 3, 4, 5], [6, 7, 8]]
    corrupted = [[token + 10 for token in row] for row in clean]
    pairs = ew.PromptPairs.from_tokens(clean, corrupted, answers=[1, 2], wrong=[3, 4])
    for graph in graphs_of(near):
        problem = ew.Problem(near, pairs, "logit-diff", graph=graph)
        exact = ew.exact(problem, edges=1).scores.values
        assert exact.abs().max() > 1e-7
        for method in (ew.eap, ew.eap_ig, ew.atp_star):
            found = method(problem, edges=1).scores.values
            close(found, exact, tolerance=1e-4 * float(exact.abs().max()))
