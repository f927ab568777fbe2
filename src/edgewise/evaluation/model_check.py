"""What must hold in a model before a circuit in it means anything, tried on random prompts.

- proof      logits, final residual stream and the sum of all senders against the source (at load)
- padding    a prompt alone, padded on the right, and padded on the left gives the same logits
- full       the circuit of all edges is the clean run
- empty      the circuit of no edges is the run on the corrupted prompts
- gradient   attribution's score of every edge is minus the gradient of its mask, by autograd

The last three are tried on the model's graph, on that of single heads where keys and values are
shared, and with two spans of positions apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.graph import Graph
from edgewise.methods.eap import eap
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.settings import SelectionSettings
from edgewise.methods.training import loss_and_gradient
from edgewise.model import Model
from edgewise.model.proof import TOLERANCES
from edgewise.patching import Evaluator
from edgewise.problem import Problem

_LENGTHS = (7, 4, 6)


@dataclass(frozen=True)
class ModelCheck:
    """Largest relative errors found, by what was tried, and what is allowed in this dtype."""

    name: str
    dtype: str
    tolerance: float
    errors: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every error is within the tolerance; one that is not a number is not."""
        return all(error <= self.tolerance for error in self.errors.values())


def check_model(model: Model, *, seed: int = 0) -> ModelCheck:
    """Try a model on a few random prompts of different lengths."""
    errors = {f"proof: {what}": e for what, e in model.proof.get("relative_errors", {}).items()}
    longest = model.config.n_ctx
    lengths = [min(n, longest) for n in _LENGTHS]
    errors["padding"] = _padding(model, lengths, seed)
    pairs = _pairs(model, lengths, seed, "right")
    for kind, graph in _graphs(model, pairs).items():
        problem = Problem(model, pairs, "logit-diff", graph=graph)
        for what, error in _identities(problem).items():
            errors[what + kind] = error
    dtype = str(model.dtype).removeprefix("torch.")
    return ModelCheck(model.name, dtype, TOLERANCES[model.dtype], errors)


def _graphs(model: Model, pairs: PromptPairs) -> dict[str, Graph]:
    """The graphs to try, by what is different about them."""
    graphs = {"": model.graph, ", spans apart": Graph.of(model, spans=pairs)}
    if model.config.group > 1:
        graphs[", heads ungrouped"] = Graph.of(model, ungroup_heads=True)
    return graphs


def _pairs(model: Model, lengths: list[int], seed: int, padding: str) -> PromptPairs:
    generator = torch.Generator().manual_seed(seed)

    def rows() -> list[list[int]]:
        vocab = model.config.d_vocab
        return [torch.randint(vocab, (n,), generator=generator).tolist() for n in lengths]

    clean, corrupted = rows(), rows()
    ids = torch.randint(model.config.d_vocab_out, (2, len(lengths)), generator=generator)
    return PromptPairs.from_tokens(
        clean,
        corrupted,
        answers=ids[0],
        wrong=ids[1],
        padding=padding,  # type: ignore[arg-type]
        spans={"first": [0] * len(lengths)},
    )


def _padding(model: Model, lengths: list[int], seed: int) -> float:
    largest = 0.0
    for padding in ("right", "left"):
        pairs = _pairs(model, lengths, seed, padding)
        with torch.no_grad():
            logits = model(pairs.clean, pairs.real)
            for row, tokens, real in zip(logits, pairs.clean, pairs.real, strict=True):
                alone = model(tokens[real][None])[0]
                largest = max(largest, _error(row[real.to(row.device)], alone))
    return largest


def _identities(problem: Problem) -> dict[str, float]:
    graph, model, pairs = problem.graph, problem.model, problem.pairs
    evaluator: Evaluator = problem.evaluator(graph)
    real = pairs.real.to(model.device)
    errors = {}
    assert pairs.corrupted is not None  # made with them
    for what, circuit, tokens in (
        ("full circuit", Circuit.full(graph), pairs.clean),
        ("empty circuit", Circuit.empty(graph), pairs.corrupted),
    ):
        with torch.no_grad():
            expected = model(tokens, pairs.real)[real]
        errors[what] = _error(evaluator.logits(circuit)[real], expected)
    masking = EdgeMasking(problem)
    ones = torch.ones(masking.n_masks, dtype=model.dtype, device=model.device)
    _, gradient = loss_and_gradient(problem, masking, ones)
    scores = eap(problem, SelectionSettings(edges=1)).scores
    assert scores is not None  # attribution scores every edge
    errors["gradient"] = _error(scores.values[graph.exists], -gradient.cpu())
    return errors


def _error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.cpu().double(), expected.cpu().double()
    largest = max(float(expected.abs().max()), torch.finfo(torch.float64).tiny)
    return float((found - expected).abs().max()) / largest
