"""Graphs that tell spans of positions apart: against a Hugging Face run, and by identities."""

from dataclasses import replace

import pytest
import torch

import edgewise as ew
import oracle
from edgewise.errors import ProblemError, SettingError
from edgewise.graph import Graph
from edgewise.methods.edge_masks import EdgeMasking
from models import SHAPES, random_circuit, random_model, random_pairs

close = {"rtol": 1e-9, "atol": 1e-9}
NAMES = ("first", "S2", "rest")
ABLATIONS = ["corrupted", "zero", "mean", "mean-positional"]


def spanned_problem(seed=0, shape="gpt2", ablation="corrupted", metric="kl", **grain):
    """A random problem whose spans stand at other places in every prompt, of unequal length."""
    model = random_model(seed, **SHAPES[shape])
    places = {"first": 0, "S2": [[2], [1, 3], [4], [2]]}
    pairs = random_pairs(model, seed, lengths=[6, 5, 6, 4], spans=places)
    graph = Graph.of(model, spans=pairs, **grain)
    assert graph.spans == NAMES
    return ew.Problem(model, pairs, metric, ablation, graph=graph)


def everywhere(circuit: ew.Circuit, graph: Graph) -> ew.Circuit:
    """A circuit of all positions together, on a graph with spans."""
    return ew.Circuit(graph, graph.of_spans(circuit.keep.repeat(len(graph.spans), 1, 1)))


def test_a_problem_checks_the_graphs_spans():
    problem = spanned_problem()
    with pytest.raises(ProblemError, match=r"a span 'IO'; .* has 'first', 'S2'"):
        problem.with_(graph=Graph.of(problem.model, spans=["IO"]))
    with pytest.raises(ProblemError, match=r"position 1 is in none of the graph's spans"):
        problem.with_(graph=Graph.build(2, 2, spans=["first", "S2"]))
    with pytest.raises(SettingError, match="has no spans|has 'first'"):
        problem.evaluator(Graph.of(problem.model, spans=["IO"]))
    one = problem.with_(graph=Graph.of(problem.model, spans=["S2"]))
    assert one.graph.spans == ("S2", "rest")
    assert one.loss(ew.Circuit.full(one.graph)) == pytest.approx(0, abs=1e-12)


# --- running circuits


@pytest.mark.parametrize("ablation", ["corrupted", "zero"])
@pytest.mark.parametrize("seed", range(2))
def test_circuits_answer_as_hugging_face_does(seed, ablation):
    hf = oracle.random_gpt2(seed)
    model = ew.load_model(hf)
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(17, (2, 3, 6), generator=generator)
    pairs = ew.PromptPairs.from_tokens(clean, corrupted, spans={"first": 0, "S2": [2, 4, 3]})
    graph = Graph.of(model, spans=pairs)
    problem = ew.Problem(model, pairs, "kl", ablation, graph=graph)
    for share in (0.0, 0.1, 0.5, 0.95, 1.0):
        circuit = random_circuit(graph, seed, share)
        kept = {edge.name for edge in circuit.edges}
        masks = dict(zip(NAMES, pairs.at_spans(NAMES), strict=True))
        expected = oracle.run_circuit(hf, kept, clean, corrupted, ablation, spans=masks)
        torch.testing.assert_close(ew.run_circuit(problem, circuit), expected, **close)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_circuit_that_is_the_same_at_every_span_is_that_circuit(shape, ablation):
    problem = spanned_problem(3, shape, ablation, switches=True)
    graph, real = problem.graph, problem.pairs.real
    for share in (0.0, 0.5, 1.0):
        circuit = random_circuit(graph.whole, 1, share)
        expected = ew.run_circuit(problem, circuit)[real]
        found = ew.run_circuit(problem, everywhere(circuit, graph))[real]
        torch.testing.assert_close(found, expected, **close)


@pytest.mark.parametrize(("seed", "switches"), [(0, False), (1, True), (2, True)])
def test_pruning_changes_no_answer(seed, switches):
    problem = spanned_problem(seed, switches=switches)
    circuit = random_circuit(problem.graph, seed, 0.5)
    pruned = circuit.pruned()
    assert pruned.n_edges < circuit.n_edges
    at = problem.pairs.answer_at
    expected = ew.run_circuit(problem, circuit)[at]
    torch.testing.assert_close(ew.run_circuit(problem, pruned)[at], expected, **close)


# --- methods


@pytest.mark.parametrize("method", ["eap", "eap-ig", "clean-corrupted"])
@pytest.mark.parametrize("shape", ["gpt2", "parallel", "bidirectional"])
def test_attributions_of_spans_add_up_to_those_of_all_positions(shape, method):
    problem = spanned_problem(2, shape, metric="logit-diff", switches=True)
    graph = problem.graph
    apart = graph.by_span(ew.discover(problem, method=method).scores.values)
    together = ew.discover(problem.with_(graph=graph.whole), method=method).scores.values
    torch.testing.assert_close(apart.sum(dim=0), together, **close)


def test_a_span_is_attributed_by_its_own_positions():
    """Prompts whose clean and corrupted tokens differ in S2 alone: the input matters there only."""
    problem = spanned_problem(4, metric="logit-diff")
    at = problem.pairs.spans["S2"]
    corrupted = problem.pairs.clean.where(~at, problem.pairs.corrupted)
    problem = problem.with_(pairs=replace(problem.pairs, corrupted=corrupted))
    for method in ("eap", "atp-star", "exact", "magnitude"):
        scores = ew.discover(problem, method=method).scores
        first = {edge: scores.of(edge) for edge in problem.graph.edges if edge.sender.layer is None}
        assert max(abs(v) for e, v in first.items() if e.sender.span != "S2") < 1e-9, method
        assert max(abs(v) for e, v in first.items() if e.sender.span == "S2") > 1e-3, method


@pytest.mark.parametrize("switches", [False, True])
def test_edge_masks_of_0_and_1_are_the_circuit(switches):
    problem = spanned_problem(6, switches=switches)
    graph, masking, pairs = problem.graph, EdgeMasking(problem), problem.pairs
    circuit = random_circuit(graph, 3)
    expected = ew.run_circuit(problem, circuit)[pairs.answer_at]
    logits = masking.logits(0, circuit.keep[graph.exists].double())
    torch.testing.assert_close(logits, expected, **close)


def test_circuits_with_and_without_spans_compare_on_what_both_tell_apart():
    problem = spanned_problem(2, metric="logit-diff")
    whole = problem.with_(graph=problem.graph.whole)
    found = ew.compare([ew.eap(problem, edges=20).circuit, ew.eap(whole, edges=20).circuit])
    assert found.graph == problem.graph.whole
    assert ew.Circuit.full(problem.graph).weighted_edge_count == pytest.approx(
        ew.Circuit.full(whole.graph).weighted_edge_count
    )
