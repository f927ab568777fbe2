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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.data import PromptPairs
from edgewise.evaluation.records import Record
from edgewise.graph import Graph
from edgewise.methods.eap import eap
from edgewise.methods.edge_masks import EdgeMasking
from edgewise.methods.settings import SelectionSettings
from edgewise.model import Model
from edgewise.model.proof import TOLERANCES
from edgewise.problem import Problem

_LENGTHS = (7, 4, 6)


@dataclass(frozen=True)
class ModelCheck(Record):
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
    right, left = (_pairs(model, seed, padding) for padding in ("right", "left"))
    errors["padding"] = max(_padding_error(model, pairs) for pairs in (right, left))
    graphs = {"": model.graph, ", spans apart": Graph.of(model, spans=right)}
    if model.config.group > 1:
        graphs[", heads ungrouped"] = Graph.of(model, ungroup_heads=True)
    for kind, graph in graphs.items():
        problem = Problem(model, right, "logit-diff", graph=graph)
        errors |= {what + kind: error for what, error in _identities(problem)}
    dtype = str(model.dtype).removeprefix("torch.")
    return ModelCheck(model.name, dtype, TOLERANCES[model.dtype], errors)


def _pairs(model: Model, seed: int, padding: Literal["left", "right"]) -> PromptPairs:
    generator, config = torch.Generator().manual_seed(seed), model.config
    lengths = [min(n, config.n_ctx) for n in _LENGTHS]
    clean, corrupted = (
        [torch.randint(config.d_vocab, (n,), generator=generator).tolist() for n in lengths]
        for _ in range(2)
    )
    answers, wrong = torch.randint(config.d_vocab_out, (2, len(lengths)), generator=generator)
    spans, how = {"first": [0] * len(lengths)}, {"answers": answers, "wrong": wrong}
    return PromptPairs.from_tokens(clean, corrupted, padding=padding, spans=spans, **how)


@torch.no_grad()
def _padding_error(model: Model, pairs: PromptPairs) -> float:
    rows = zip(model(pairs.clean, pairs.real), pairs.clean, pairs.real, strict=True)
    return max(
        _error(logits[real.to(logits.device)], model(tokens[real][None])[0])
        for logits, tokens, real in rows
    )


def _identities(problem: Problem) -> Iterator[tuple[str, float]]:
    graph, model, pairs = problem.graph, problem.model, problem.pairs
    real = pairs.real.to(model.device)
    assert pairs.corrupted is not None  # made with them
    for what, circuit, tokens in (
        ("full circuit", Circuit.full(graph), pairs.clean),
        ("empty circuit", Circuit.empty(graph), pairs.corrupted),
    ):
        with torch.no_grad():
            expected = model(tokens, pairs.real)[real]
        yield what, _error(problem.evaluator(graph).logits(circuit)[real], expected)
    masking = EdgeMasking(problem)
    ones = torch.ones(masking.n_masks, dtype=model.compute_dtype, device=model.device)
    _, gradient = masking.loss_and_gradient(ones)
    scores = eap(problem, SelectionSettings(edges=1)).scores
    assert scores is not None  # attribution scores every edge
    yield "gradient", _error(scores.values[graph.exists], -gradient.cpu())


def _error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.cpu().double(), expected.cpu().double()
    largest = max(float(expected.abs().max()), torch.finfo(torch.float64).tiny)
    return float((found - expected).abs().max()) / largest
