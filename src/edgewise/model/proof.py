"""A loaded model proves itself: its logits are the source model's, or loading fails.

On one small seeded batch with padding on the left, this compares (1) logits, (2) the final residual
stream, and (3) the sum of all single sender outputs and constant biases with that stream. A model
that then moves to another device or dtype proves there that it still computes these logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from edgewise.errors import ProofFailed
from edgewise.model.config import ACTIVATIONS
from edgewise.model.runtime import CleanReader, logits_of, run

if TYPE_CHECKING:
    from edgewise.model.model import Model

# Largest relative difference allowed: max |ours - source| / max |source|, at real positions.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
# Devices that have computed wrong numbers without an error: nothing on them counts as proved until
# a CPU agrees.
UNPROVEN = frozenset({"mps"})
_ANGLES = 1e-6  # in float64, between angles of rotations in float64 and in float32

Source = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def prove(model: Model, source: Source) -> dict[str, Any]:
    """The errors found, for records. Raises `ProofFailed` when one is above its tolerance.

    `source(tokens, real)` returns the source model's logits and final residual stream.
    """
    tokens, real = _probe(model)
    with torch.no_grad():
        expected_logits, expected_stream = source(tokens, real)
        final, outputs = run(model, tokens, real, graph=model.graph, reader=CleanReader())
        logits = logits_of(model, final)
        parts = outputs.senders.total(range(len(outputs.graph.senders)))
        if outputs.constant is not None:
            parts = parts + outputs.constant
    errors = {
        "logits": _error(logits, expected_logits, real),
        "final residual stream": _error(final, expected_stream, real),
        "sum of sender outputs": _error(parts, expected_stream, real),
    }
    if not all(map(isfinite, errors.values())):
        _check_finite(model, tokens, real)
    return _checked(model, errors, tokens)


def prove_logits(model: Model, source: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The same for a source that gives logits alone, and knows of no padding."""
    tokens, _ = _probe(model)
    real = torch.ones_like(tokens, dtype=torch.bool)
    training = getattr(source, "training", False)
    with torch.no_grad(), _evaluating(source) if training else nullcontext():
        output = source(tokens)
        expected = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
        logits = model(tokens)
    if expected.shape[1] == 1:  # nanoGPT gives the last position alone
        logits, real = logits[:, -1:], real[:, -1:]
    if expected.shape != logits.shape:
        raise ProofFailed(
            f"{model.name}: for tokens of shape {tuple(tokens.shape)} the source gives "
            f"{tuple(expected.shape)}, not logits of shape {tuple(logits.shape)}."
        )
    # HookedTransformer turns by tables in float64, or rounded to float32 with processed weights;
    # our angles are Hugging Face's, in float32.
    angles = model.dtype == torch.float64 and any(model.config.rotary)
    tolerance = _ANGLES if angles else TOLERANCES[model.dtype]
    error = _error(logits, expected, real)
    if not error <= tolerance:  # NaN is no agreement either
        _check_finite(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
        agreeing = _agreeing(model, tokens, expected, real, tolerance)
        raise ProofFailed(_own_mistake(model, error, tolerance, agreeing))
    return _checked(model, {"logits": error}, tokens, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class Probed:
    """Logits of a proved model on the proof's batch, on the CPU, and what they were computed in."""

    logits: Float[Tensor, "batch pos vocab"]
    dtype: torch.dtype
    devices: str


def probed(model: Model) -> Probed:
    """What `model` computes, to compare it with what it computes elsewhere."""
    with torch.no_grad():
        return Probed(model(*_probe(model)).cpu(), model.dtype, _devices(model))


def proved_again(model: Model, before: Probed) -> Model:
    """The model, whose `proof["moved"]` says how far its logits are from those `before` it moved.

    Allowed is what its dtype allows, and twice as much from one dtype to a coarser one, where
    weights are rounded, too. Raises `ProofFailed`.
    """
    tokens, real = _probe(model)
    with torch.no_grad():
        logits = model(tokens, real)
    coarser = max(TOLERANCES[model.dtype], TOLERANCES[before.dtype])
    tolerance = coarser if model.dtype == before.dtype else 2 * coarser
    error, devices = _error(logits, before.logits, real), _devices(model)
    if not error <= tolerance:
        _check_finite(model, tokens, real)
        now, earlier = (
            f"{place} in {str(dtype).removeprefix('torch.')}"
            for place, dtype in ((devices, model.dtype), (before.devices, before.dtype))
        )
        advice = (
            "Rounding alone does this; load it in float32."
            if devices == before.devices
            else f"{devices} computes something else there: use device='cpu', or another version "
            "of torch."
        )
        raise ProofFailed(
            f"{model.name}: on {now} its logits differ from those on {earlier} by {error:.2g} "
            f"relative, above {tolerance:.0e}. {advice}"
        )
    moved = {"devices": devices, "tolerance": tolerance, "relative_error": error}
    return replace(model, proof={**model.proof, "moved": moved})


def _devices(model: Model) -> str:
    return ", ".join(sorted({str(tensor.device) for tensor in model.weights.values()}))


def _check_finite(model: Model, tokens: Tensor, real: Bool[Tensor, "batch pos"]) -> None:
    """Raise `ProofFailed` that names where the first number of a run is that is not finite."""
    with torch.no_grad():
        broken = (
            p for p, values in _on_the_way(model, tokens, real) if not values.isfinite().all()
        )
        first = next(broken, None)
    if first is None:
        return
    advice = (
        "float16 ends at 65,504: load the model with dtype='bfloat16' or 'float32'."
        if model.dtype == torch.float16
        else "Its weights are too large for it."
    )
    raise ProofFailed(
        f"{model.name} computes numbers that are not finite in "
        f"{str(model.dtype).removeprefix('torch.')}, first in {first}. {advice}"
    )


def _on_the_way(
    model: Model, tokens: Tensor, real: Bool[Tensor, "batch pos"]
) -> Iterator[tuple[str, Tensor]]:
    """What a run computes, in its order, at real positions: names and values."""
    final, outputs = run(model, tokens, real, graph=model.graph, reader=CleanReader())
    for row, sender in enumerate(outputs.graph.senders):
        yield f"the output of {sender}", outputs.senders.total([row])[real]
        yield f"the residual stream behind {sender}", outputs.senders.total(range(row + 1))[real]
    yield "the logits", logits_of(model, final)[real]


def _own_mistake(model: Model, error: float, tolerance: float, agreeing: str | None) -> str:
    """What a person who described a model of their own can do about its proof."""
    advice = (
        f"With {agreeing} in its configuration they agree."
        if agreeing is not None
        else "Check which tensor got which name (a square matrix fits transposed, too), how heads "
        "lie in fused matrices, and the configuration: norm, eps, activation, positions, causal, "
        "parallel, attention_scales. What the source computes beyond these, the runtime does not."
    )
    return (
        f"{model.name}: the logits differ from the source's by {error:.2g} relative, above "
        f"{tolerance:.0e} for {str(model.dtype).removeprefix('torch.')}. {advice}"
    )


def _agreeing(
    model: Model,
    tokens: Tensor,
    expected: Tensor,
    real: Bool[Tensor, "batch pos"],
    tolerance: float,
) -> str | None:
    """The one fact of the configuration with which the model would be its source, if there is."""
    c = model.config
    plain = [name for name in ACTIVATIONS if not name.endswith("-linearised")]
    candidates: list[tuple[str, Any]] = [("activation", name) for name in plain]
    candidates += [("causal", not c.causal), ("parallel", not c.parallel)]
    candidates += [("attention_scales", (scale,) * c.n_layers) for scale in (1.0, c.d_model**-0.5)]
    candidates += [("eps", eps) for eps in (1e-5, 1e-6, 1e-8, 1e-12)]
    for name, value in candidates:
        changed = replace(model, config=replace(c, **{name: value}))
        with torch.no_grad():
            logits = changed(tokens)[:, -real.shape[1] :]
        if _error(logits, expected, real) <= tolerance:
            return f"{name}={value!r}"
    return None


def _checked(
    model: Model, errors: dict[str, float], tokens: Tensor, *, tolerance: float | None = None
) -> dict[str, Any]:
    """The errors for records. Raises `ProofFailed`."""
    tolerance = TOLERANCES[model.dtype] if tolerance is None else tolerance
    for what, error in errors.items():
        if not error <= tolerance:  # NaN fails too
            raise ProofFailed(
                f"{model.name}: the {what} differ from the source model's by {error:.2g} relative, "
                f"above {tolerance:.0e} for {str(model.dtype).removeprefix('torch.')}. "
                "This model has a feature that the runtime does not compute."
            )
    return {"tolerance": tolerance, "relative_errors": errors, "tokens": tuple(tokens.shape)}


def huggingface_source(module: Any, final_norm: Any, *, forward: Any = None) -> Source:
    """A Hugging Face module as a proof's source; left in the mode it came in.

    `forward` runs it, if that is not the module itself, and may give logits alone.
    """
    forward = module if forward is None else forward

    def source(
        tokens: Int[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]
    ) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = final_norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with _evaluating(module), full_precision(module):
                result = forward(
                    tokens,
                    attention_mask=real.long(),
                    use_cache=False,
                    **_positions(module, real),
                )
        finally:
            hook.remove()
        return getattr(result, "logits", result), seen[0]

    return source


class _NotDown(TorchFunctionMode):
    """What asks for float32 of a float64 tensor keeps float64."""

    on = True

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.on and any(isinstance(a, Tensor) and a.dtype == torch.float64 for a in args):
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)


@contextmanager
def full_precision(module: Any) -> Iterator[None]:
    """Run a float64 module in float64 throughout.

    Hugging Face computes norms, softmax and routers in float32 in every model: better than half,
    and the published numbers, but in float64 a rounding by 1e-7 that hides smaller mistakes.
    Rotations stay in float32: there it is a model's definition.
    """
    if next(module.parameters()).dtype != torch.float64:
        yield
        return
    mode = _NotDown()
    rotations = [m for m in module.modules() if "Rotary" in type(m).__name__]

    def off(*_: Any) -> None:
        mode.on = False

    def on(*_: Any) -> None:
        mode.on = True

    hooks = [m.register_forward_pre_hook(off) for m in rotations]
    hooks += [m.register_forward_hook(on) for m in rotations]
    try:
        with mode:
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode (no dropout), experts one by one (in any size and dtype), and back."""
    was_training = module.training
    config = getattr(module, "config", None)
    experts = getattr(config, "_experts_implementation", None)
    module.eval()
    if config is not None and experts is not None:
        config._experts_implementation = "eager"
    try:
        yield
    finally:
        module.train(was_training)
        if config is not None and experts is not None:
            config._experts_implementation = experts


def _positions(module: Any, real: Bool[Tensor, "batch pos"]) -> dict[str, Tensor]:
    """Positions counted from a prompt's first token, for a module that wants to be told."""
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return {}
    return {"position_ids": (real.cumsum(dim=1) - 1).clamp(min=0)}


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
