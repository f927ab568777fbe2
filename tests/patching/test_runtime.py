"""The model runtime: identities that hold for every kind of model, whatever reads its stream."""

import pytest
import torch

import edgewise as ew
from edgewise.model.runtime import CleanReader, run
from models import SHAPES, random_circuit, random_model, random_pairs

ABLATIONS = ("corrupted", "zero", "mean", "mean-positional")


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_full_circuit_is_the_clean_run(shape, ablation):
    model = random_model(**SHAPES[shape])
    pairs = random_pairs(model)
    for switches in (False, True):
        graph = ew.Graph.of(model, switches=switches)
        problem = ew.Problem(model, pairs, "kl", ablation, graph=graph)
        full = ew.Circuit.full(graph)
        close(ew.run_circuit(problem, full), model(pairs.clean))
        assert problem.loss(full) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_circuit_is_the_corrupted_run(shape):
    model = random_model(**SHAPES[shape])
    pairs = random_pairs(model)
    for switches in (False, True):
        graph = ew.Graph.of(model, switches=switches)
        problem = ew.Problem(model, pairs, "kl", "corrupted", graph=graph)
        close(ew.run_circuit(problem, ew.Circuit.empty(graph)), model(pairs.corrupted))


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_circuit_with_zero_ablation_reads_the_constant_biases_alone(shape):
    model = random_model(**SHAPES[shape])
    pairs = random_pairs(model)
    problem = ew.Problem(model, pairs, "kl", "zero")
    logits = ew.run_circuit(problem, ew.Circuit.empty(model.graph))
    constant = sum(model.weights[f"blocks.{i}.attn.b_O"] for i in range(model.config.n_layers))
    from edgewise.model.runtime import logits_of

    close(logits, logits_of(model, constant).expand_as(logits))


@pytest.mark.parametrize("ablation", ["mean", "mean-positional"])
def test_empty_circuit_with_mean_ablation_reads_mean_senders(ablation):
    model = random_model()
    pairs = random_pairs(model)
    other = random_pairs(model, seed=5)
    for prompts in (None, other):
        problem = ew.Problem(model, pairs, "kl", ew.Ablation(ablation, prompts=prompts))
        tokens = (prompts or pairs).clean
        _, outputs = run(
            model, tokens, torch.ones_like(tokens).bool(), graph=model.graph, reader=CleanReader()
        )
        senders = outputs.senders.dense()  # [sender batch pos d_model]
        dims = (1, 2) if ablation == "mean" else (1,)
        final = senders.mean(dim=dims).sum(dim=0) + outputs.constant
        from edgewise.model.runtime import logits_of

        expected = logits_of(model, final)
        logits = ew.run_circuit(problem, ew.Circuit.empty(model.graph))
        close(logits, expected.expand_as(logits))


@pytest.mark.parametrize("shape", SHAPES)
def test_senders_and_constants_sum_to_the_residual_stream(shape):
    model = random_model(**SHAPES[shape])
    tokens = random_pairs(model).clean
    for options in ({}, {"split_heads": False}, {"split_embed": model.config.adds_positions}):
        graph = ew.Graph.of(model, **options)
        final, outputs = run(
            model, tokens, torch.ones_like(tokens).bool(), graph=graph, reader=CleanReader()
        )
        rows = outputs.senders.dense()
        assert len(rows) == len(graph.senders)
        close(rows.sum(dim=0) + outputs.constant, final)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("shape", SHAPES)
def test_padding_changes_no_logit_at_real_positions(shape, padding):
    model = random_model(**SHAPES[shape])
    lengths = [6, 3, 5, 1]
    pairs = random_pairs(model, lengths=lengths, padding=padding)
    logits = model(pairs.clean, pairs.real)
    for i, length in enumerate(lengths):
        alone = pairs.clean[i][pairs.real[i]]
        assert len(alone) == length
        close(logits[i][pairs.real[i]], model(alone[None])[0])


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_circuits_do_not_depend_on_padding_or_batch_split(ablation):
    model = random_model()
    lengths = [6, 3, 5, 2, 6]
    graph = ew.Graph.of(model, switches=True)
    circuit = random_circuit(graph)
    values = []
    for padding in ("right", "left"):
        pairs = random_pairs(model, lengths=lengths, padding=padding)
        for batch_size in (None, 1, 2):
            problem = ew.Problem(model, pairs, "kl", ablation, graph=graph, batch_size=batch_size)
            values.append(problem.per_prompt(circuit))
    for value in values[1:]:
        close(value, values[0])


def test_a_removed_switch_is_a_replaced_vector():
    """Removing a port's switch must equal removing all that the port reads."""
    model = random_model()
    pairs = random_pairs(model)
    graph = ew.Graph.of(model, switches=True)
    problem = ew.Problem(model, pairs, "kl", "corrupted", graph=graph)
    full = ew.Circuit.full(graph)
    for port in ("a1.h0.q", "a1.h1.v", "a0.h0.k"):
        into = [e for e in graph.edges if e.receiver.name == port and not e.is_switch]
        by_switch = full.without(f"{port}->{port[:-2]}")
        close(ew.run_circuit(problem, by_switch), ew.run_circuit(problem, full.without(*into)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_pruning_changes_no_logit_with_a_corrupted_ablation(shape, seed):
    model = random_model(seed, **SHAPES[shape])
    pairs = random_pairs(model, seed)
    for switches in (False, True):
        graph = ew.Graph.of(model, switches=switches)
        problem = ew.Problem(model, pairs, "kl", "corrupted", graph=graph)
        circuit = random_circuit(graph, seed, share=0.35)
        pruned = circuit.pruned()
        assert pruned.n_edges <= circuit.n_edges
        close(ew.run_circuit(problem, circuit), ew.run_circuit(problem, pruned))


def test_coarse_graphs_agree_with_fine_ones():
    """Joined ports, whole layers and joined embeddings are fine circuits with tied edges."""
    model = random_model()
    pairs = random_pairs(model)
    fine = ew.Graph.of(model, split_embed=True)
    for options in (
        {"split_qkv": False},
        {"split_heads": False},
        {"split_qkv": False, "split_heads": False},
        {"split_embed": False},
    ):
        coarse = ew.Graph.of(model, **options)
        circuit = random_circuit(coarse, share=0.5)
        kept = [edge for edge in fine.edges if _coarse(edge, coarse) in circuit]
        problem = ew.Problem(model, pairs, "kl", "corrupted")
        expected = ew.run_circuit(problem, ew.Circuit.of(fine, kept))
        close(ew.run_circuit(problem, circuit), expected)


def _coarse(edge, graph):
    def node(fine):
        if fine.kind == "head" and not graph.split_heads:
            return ew.Node(fine.layer, "attention")
        if fine.kind in ("tok_embed", "pos_embed") and not graph.split_embed:
            return ew.Node(None, "input")
        return fine

    slot = edge.receiver.slot if graph.split_qkv else None
    return ew.Edge(node(edge.sender), ew.Port(node(edge.receiver.node), slot))


def test_position_permutation_moves_position_embeddings():
    model = random_model()
    pairs = random_pairs(model)
    order = (2, 3, 0, 1, 5, 4)
    ablation = ew.Ablation("corrupted", position_permutation=order)
    problem = ew.Problem(model, pairs, "kl", ablation)
    weights = dict(model.weights)
    weights["pos_embed.W_pos"] = weights["pos_embed.W_pos"][[*order, *range(6, 10)]]
    moved = ew.Model(model.config, weights)
    close(ew.run_circuit(problem, ew.Circuit.empty(model.graph)), moved(pairs.corrupted))
