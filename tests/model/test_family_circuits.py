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

PLAIN = {
    "llama", "mistral", "gpt_neox", "gptj", "gpt_neo", "opt", "falcon, rw shape",
    "falcon, 7b shape", "qwen3", "qwen2_moe", "gemma2", "olmo2", "stablelm, q/k norms",
}  # fmt: skip


def cases(names, plain=PLAIN):
    """Cases, those not in `plain` marked slow."""
    slow = pytest.mark.slow
    return [name if name in plain else pytest.param(name, marks=slow) for name in names]


def problems_of(case, metric="logit-diff", lengths=(7, 4, 6)):
    """A problem, and where heads share keys and values one of a port for every head."""
    _, model = loaded(case)
    pairs = random_pairs(model, lengths=list(lengths))
    graphs = dict.fromkeys([model.graph, ew.Graph.of(model, ungroup_heads=True)])
    return [ew.Problem(model, pairs, metric, graph=graph) for graph in graphs]


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", cases(CASES))
def test_circuits_are_the_oracles_full_empty_and_pruned_ones_too(case):
    module, model = loaded(case)
    for problem in problems_of(case):
        graph, pairs = problem.graph, problem.pairs
        full, empty = ew.Circuit.full(graph), ew.Circuit.empty(graph)
        for circuit, tokens in ((full, pairs.clean), (empty, pairs.corrupted)):
            logits = ew.run_circuit(problem, circuit)
            close(logits[pairs.real], model(tokens, pairs.real)[pairs.real])
        circuit = random_circuit(graph, seed=4, share=0.3)
        logits, pruned = (ew.run_circuit(problem, c) for c in (circuit, circuit.pruned()))
        close(logits[pairs.real], pruned[pairs.real])
    for seed, padding in ((0, "right"), (1, "left")) if not case.startswith("gpt2") else ():
        pairs = random_pairs(model, lengths=[7, 4, 6], padding=padding)
        circuit, prompts = random_circuit(model.graph, seed), (pairs.clean, pairs.corrupted)
        names = {edge.name for edge in circuit.edges}
        expected = run_circuit(module, model.graph, names, *prompts, pairs.real)
        logits = ew.run_circuit(ew.Problem(model, pairs, "logit-diff"), circuit)
        close(logits[pairs.real], expected[pairs.real])


@pytest.mark.parametrize("case", ["llama", "falcon, 7b shape", "gemma2"])
def test_ports_of_a_group_that_keep_the_same_edges_are_a_shared_port(case):
    shared, apart = problems_of(case)
    circuit = random_circuit(shared.graph, seed=3)
    names = set()
    for edge in circuit.edges:
        node = edge.receiver.node
        heads = shared.graph.group(node) if node.kind == "kv" else ()
        names |= {f"{edge.sender}->{head}.{edge.receiver.slot}" for head in heads} or {edge.name}
    same = ew.Circuit.of(apart.graph, names)
    assert same.n_edges > circuit.n_edges
    together, each = ew.run_circuit(shared, circuit), ew.run_circuit(apart, same)
    close(together[shared.pairs.real], each[shared.pairs.real])


@pytest.mark.parametrize("case", cases(CASES))
def test_eap_is_the_gradient_and_exact_the_effect_of_every_edge(case):
    for problem in problems_of(case):
        graph, masking = problem.graph, EdgeMasking(problem)
        ones = torch.ones(masking.n_masks, dtype=torch.float64)
        gradient = masking.loss_and_gradient(ones)[1]
        close(ew.eap(problem, edges=1).scores.values[graph.exists], -gradient)
        scores, full = ew.exact(problem, edges=1).scores, ew.Circuit.full(graph)
        loss = problem.loss(full)
        for edge in graph.edges[:: 1 + graph.n_edges // 40]:
            effect = problem.loss(full.without(edge)) - loss
            assert scores.of(edge) == pytest.approx(effect, abs=1e-9)


@pytest.mark.parametrize("case", cases(CASES, {"mistral", "gpt_neox", "falcon, rw shape"}))
def test_acdc_is_the_same_by_both_engines(case):
    for problem in problems_of(case, metric="kl", lengths=(5, 3)):
        fast, plain = (
            ew.acdc(problem, threshold=0.03, engine=engine) for engine in ("incremental", "plain")
        )
        assert [d.edge for d in fast.trace] == [d.edge for d in plain.trace]
        assert fast.circuit == plain.circuit
        deltas = [decision.delta for decision in plain.trace]
        assert [d.delta for d in fast.trace] == pytest.approx(deltas, abs=1e-9)


@pytest.mark.parametrize("case", cases(MIXED, {"gemma2"}))
def test_heads_behind_one_norm_depend_on_each_other(case):
    """A head that nothing reads still matters for its layer's others."""
    problem = problems_of(case, metric="kl", lengths=(5, 3))[0]
    graph = problem.graph
    assert graph.fed_by(ew.Port.parse("a0.h1.q")) == graph.attention_nodes[0]
    dead = ew.Circuit.full(graph).without(*(e for e in graph.edges if e.sender.name == "a0.h1"))
    change = problem.loss(dead.without("input->a0.h1.q")) - problem.loss(dead)
    assert abs(change) > 1e-9
    effects = minimality(problem, dead).effects
    assert effects["input->a0.h1.q"] == pytest.approx(change, abs=1e-10)
    run = ew.acdc_bisect(problem, threshold=1e-3)
    assert 0 < run.circuit.n_edges < graph.n_edges


class Mixing(Outputs):
    """Outputs that keep what every layer's heads mixed."""

    def __init__(self, graph):
        super().__init__(graph)
        self.z = []

    def mixed(self, z):
        self.z.append(z)


def run_mixing(model, problem, reader):
    """What the output port reads, and what all heads mixed."""
    pairs, graph, outputs = problem.pairs, problem.graph, Mixing(problem.graph)
    prompts = pairs.clean, pairs.real
    final, _ = run_model(model, *prompts, graph=graph, reader=reader, outputs=outputs)
    return final, outputs.z


@pytest.mark.parametrize("case", cases(["llama", *MIXED], {"olmo2", "gemma2"}))
def test_atp_star_scores_what_heads_mix_without_the_edge(case):
    """Edges into queries and keys: the change of all heads' mixed values times its gradient."""
    for problem in problems_of(case):
        model, graph, pairs = problem.model, problem.graph, problem.pairs
        (batch,) = problem.evaluator(graph).batches
        with torch.enable_grad():
            embedding = model.weights["embed.W_E"].clone().requires_grad_()
            watched = ew.Model(model.config, {**model.weights, "embed.W_E": embedding})
            final, clean = run_mixing(watched, problem, CleanReader())
            logits = logits_of(model, final[pairs.answer_at])
            values = problem.metric.per_prompt(logits, batch.rows, len(pairs))
            slopes = torch.autograd.grad(problem.metric.loss_sign * values.mean(), clean)
        scores = ew.atp_star(problem, edges=1).scores
        for edge in graph.edges[:: 1 + graph.n_edges // 25]:
            if edge.receiver.slot in ("q", "k"):
                circuit, layer = ew.Circuit.full(graph).without(edge), edge.receiver.node.layer
                reader = CircuitReader(circuit, batch.ablation, pairs, model.dtype, model.device)
                _, less = run_mixing(model, problem, reader)
                expected = ((less[layer] - clean[layer].detach()) * slopes[layer]).sum()
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
    for graph in {near.graph, ew.Graph.of(near, ungroup_heads=True)}:
        problem = ew.Problem(near, pairs, "logit-diff", graph=graph)
        exact = ew.exact(problem, edges=1).scores.values
        assert exact.abs().max() > 1e-7
        for method in (ew.eap, ew.eap_ig, ew.atp_star):
            values = method(problem, edges=1).scores.values
            close(values, exact, tolerance=1e-4 * float(exact.abs().max()))
