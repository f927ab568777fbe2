"""A loaded model proves itself: its logits are the source model's, or loading fails.

On one small seeded batch with padding on the left, this compares (1) logits, (2) the final residual
stream, and (3) the sum of all single sender outputs and constant biases with that stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from edgewise.errors import ProofFailed
from edgewise.model.model import Model
from edgewise.model.runtime import CleanReader, logits_of, run

# Largest relative difference allowed: max |ours - source| / max |source|, at real positions.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}

Source = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def prove(model: Model, source: Source) -> dict[str, Any]:
    """The errors found, for records. Raises `ProofFailed` when one is above its tolerance.

    `source(tokens, real)` returns the source model's logits and final residual stream.
    """
    tokens, real = _probe(model)
    with torch.no_grad():
        expected_logits, expected_stream = source(tokens, real)
        final, outputs = run(model, tokens, real, model.graph, CleanReader())
        logits = logits_of(model, final)
        parts = outputs.sent.total(range(len(outputs.graph.senders)))
        if outputs.constant is not None:
            parts = parts + outputs.constant
    tolerance = TOLERANCES[model.dtype]
    errors = {
        "logits": _error(logits, expected_logits, real),
        "final residual stream": _error(final, expected_stream, real),
        "sum of sender outputs": _error(parts, expected_stream, real),
    }
    for what, error in errors.items():
        if not error <= tolerance:  # NaN fails too
            raise ProofFailed(
                f"{model.name}: the {what} differ from the source model's by {error:.2g} relative, "
                f"above {tolerance:.0e} for {str(model.dtype).removeprefix('torch.')}. "
                "This model has a feature that the runtime does not compute."
            )
    return {"tolerance": tolerance, "relative_errors": errors, "tokens": tuple(tokens.shape)}


def huggingface_source(module: Any, final_norm: Any) -> Source:
    """A Hugging Face module as a proof's source; left in the mode it came in."""

    def source(
        tokens: Int[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]
    ) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = final_norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with _evaluating(module):
                result = module(
                    input_ids=tokens,
                    attention_mask=real.long(),
                    position_ids=(real.cumsum(dim=1) - 1).clamp(min=0),
                    use_cache=False,
                )
        finally:
            hook.remove()
        return result.logits, seen[0]

    return source


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode (no dropout), and back."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _probe(model: Model) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    n = min(12, model.config.n_ctx)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.d_vocab, (2, n), generator=generator)
    real = torch.ones(2, n, dtype=torch.bool)
    real[1, : n // 3] = False
    return tokens.to(model.device), real.to(model.device)


def _error(
    ours: Float[Tensor, "batch pos any"],
    source: Float[Tensor, "batch pos any"],
    real: Bool[Tensor, "batch pos"],
) -> float:
    ours, source = ours[real].cpu().double(), source[real].cpu().double()
    return ((ours - source).abs().max() / source.abs().max()).item()
