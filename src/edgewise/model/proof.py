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
HALF = (torch.bfloat16, torch.float16)
# Devices that have computed wrong numbers without an error: nothing on them counts as proved until
# a CPU agrees.
UNPROVEN = frozenset({"mps"})
_ANGLES = 1e-6  # in float64, between angles of rotations in float64 and in float32


@dataclass(frozen=True)
class Source:
    """What a model is to be equal to, as exactly as `dtype` allows.

    `run(tokens, real)` gives logits and the final residual stream.
    """

    run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    dtype: torch.dtype


def prove(model: Model, source: Source) -> dict[str, Any]:
    """The errors found, for records. Raises `ProofFailed` when one is above its tolerance."""
    tokens, real = _probe(model)
    with torch.no_grad():
        expected_logits, expected_stream = source.run(tokens, real)
        final, outputs = run(model, tokens, real, graph=model.graph, reader=CleanReader())
        parts = outputs.senders.total(range(len(outputs.graph.senders)))
        if outputs.constant is not None:
            parts = parts + outputs.constant
        errors = {
            "logits": _error(logits_of(model, final), expected_logits, real),
            "final residual stream": _error(final, expected_stream, real),
            "sum of sender outputs": _error(parts, expected_stream, real),
        }
    advice = "This model has a feature that the runtime does not compute."
    return _checked(model, errors, TOLERANCES[source.dtype], lambda: advice)


def prove_logits(model: Model, source: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The same for a source that gives logits alone, and knows of no padding."""
    tokens, _ = _probe(model)
    training = getattr(source, "training", False)
    with torch.no_grad(), _evaluating(source) if training else nullcontext():
        output = source(tokens)
        expected = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
        logits = model(tokens)
    if expected.shape[1] == 1:  # nanoGPT gives the last position alone
        logits = logits[:, -1:]
    if expected.shape != logits.shape:
        raise ProofFailed(
            f"{model.name}: for tokens of shape {tuple(tokens.shape)} the source gives "
            f"{tuple(expected.shape)}, not logits of shape {tuple(logits.shape)}."
        )
    # HookedTransformer turns by tables in float64, or rounded to float32 with processed weights;
    # our angles are Hugging Face's, in float32.
    angles = model.dtype == torch.float64 and any(model.config.rotary)
    tolerance = _ANGLES if angles else TOLERANCES[model.dtype]
    errors = {"logits": _error(logits, expected)}
    return _checked(model, errors, tolerance, lambda: _advice(model, tokens, expected, tolerance))


@dataclass(frozen=True, eq=False)
class Probed:
    """Logits of a proved model on the proof's batch, on the CPU, and what they were computed in."""

    logits: Float[Tensor, "batch pos vocab"]
    dtype: torch.dtype
    devices: str


def probed(model: Model) -> Probed:
    """What `model` computes, to compare it with what it computes elsewhere."""
    devices = ", ".join(sorted({str(tensor.device) for tensor in model.weights.values()}))
    with torch.no_grad():
        return Probed(model(*_probe(model)).cpu(), model.dtype, devices)


def proved_again(model: Model, before: Probed) -> Model:
    """The model, whose `proof["moved"]` says how far its logits are from those `before` it moved.

    Allowed is what its dtype allows, and twice as much from one dtype to a coarser one, where
    weights are rounded, too. Raises `ProofFailed`.
    """
    now = probed(model)
    coarser = max(TOLERANCES[now.dtype], TOLERANCES[before.dtype])
    tolerance = coarser if now.dtype == before.dtype else 2 * coarser
    error = _error(now.logits, before.logits, _probe(model)[1].cpu())
    if not error <= tolerance:
        _check_finite(model)
        advice = (
            "Rounding alone does this; load it in float32."
            if now.devices == before.devices
            else f"{now.devices} computes something else there: use device='cpu', or another "
            "version of torch."
        )
        raise ProofFailed(
            f"{model.name}: on {now.devices} in {_name(now.dtype)} its logits differ from those on "
            f"{before.devices} in {_name(before.dtype)} by {error:.2g} relative, above "
            f"{tolerance:.0e}. {advice}"
        )
    moved = {"devices": now.devices, "tolerance": tolerance, "relative_error": error}
    return replace(model, proof={**model.proof, "moved": moved})


# --- comparing


def _probe(model: Model) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    n = min(12, model.config.n_ctx)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.d_vocab, (2, n), generator=generator)
    real = torch.ones(2, n, dtype=torch.bool)
    real[1, : n // 3] = False
    return tokens.to(model.device), real.to(model.device)


def _error(ours: Tensor, source: Tensor, real: Bool[Tensor, "batch pos"] | None = None) -> float:
    if real is not None:
        ours = ours[real]
        source = source[real]
    ours = ours.cpu().double()
    source = source.cpu().double()
    return ((ours - source).abs().max() / source.abs().max()).item()


def _checked(
    model: Model, errors: dict[str, float], tolerance: float, advice: Callable[[], str]
) -> dict[str, Any]:
    """The errors for records. Raises `ProofFailed` with advice."""
    for what, error in errors.items():
        if not error <= tolerance:  # NaN is no agreement either
            _check_finite(model)
            raise ProofFailed(
                f"{model.name}: the {what} differ from the source model's by {error:.2g} relative, "
                f"above {tolerance:.0e} for {_name(model.dtype)}. {advice()}"
            )
    shape = tuple(_probe(model)[0].shape)
    return {"tolerance": tolerance, "relative_errors": errors, "tokens": shape}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_finite(model: Model) -> None:
    """Raise `ProofFailed` that names where the first number of a run is that is not finite."""
    with torch.no_grad():
        steps = _computed(model)
        first = next((name for name, values in steps if not values.isfinite().all()), None)
    if first is not None:
        raise ProofFailed(
            f"{model.name} computes numbers that are not finite in {_name(model.compute_dtype)}, "
            f"first in {first}. Its weights are too large for it."
        )


def _computed(model: Model) -> Iterator[tuple[str, Tensor]]:
    """What a run computes, in its order, at real positions: names and values."""
    tokens, real = _probe(model)
    final, outputs = run(model, tokens, real, graph=model.graph, reader=CleanReader())
    for row, sender in enumerate(outputs.graph.senders):
        yield f"the output of {sender}", outputs.senders.total([row])[real]
        yield f"the residual stream behind {sender}", outputs.senders.total(range(row + 1))[real]
    yield "the logits", logits_of(model, final)[real]


def _advice(model: Model, tokens: Tensor, expected: Tensor, tolerance: float) -> str:
    """What to do about the proof of a model of one's own; names a wrong fact if it is only one."""
    c = model.config
    candidates: list[tuple[str, Any]] = [
        *(("activation", name) for name in ACTIVATIONS if not name.endswith("-linearised")),
        ("causal", not c.causal),
        ("parallel", not c.parallel),
        *(("attention_scales", (scale,) * c.n_layers) for scale in (1.0, c.d_model**-0.5)),
        *(("eps", eps) for eps in (1e-5, 1e-6, 1e-8, 1e-12)),
    ]
    for name, value in candidates:
        changed = replace(model, config=replace(c, **{name: value}))
        with torch.no_grad():
            logits = changed(tokens)[:, -expected.shape[1] :]
        if _error(logits, expected) <= tolerance:
            return f"With {name}={value!r} in its configuration they agree."
    return (
        "Check which tensor got which name (a square matrix fits transposed, too), how heads lie "
        "in fused matrices, and the configuration: norm, eps, activation, positions, causal, "
        "parallel, attention_scales. What the source computes beyond these, the runtime does not."
    )


# --- modules of Hugging Face as sources


def huggingface_source(module: Any, final_norm: Any, *, forward: Any = None) -> Source:
    """A Hugging Face module as a proof's source; left in the mode it came in.

    `forward` runs it, if that is not the module itself, and may give logits alone.
    """
    forward = module if forward is None else forward
    counts_positions = "position_ids" in inspect.signature(module.forward).parameters

    def run_source(
        tokens: Int[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]
    ) -> tuple[Tensor, Tensor]:
        streams: list[Tensor] = []
        more = {"position_ids": (real.cumsum(dim=1) - 1).clamp(min=0)} if counts_positions else {}
        hook = final_norm.register_forward_pre_hook(lambda _, args: streams.append(args[0]))
        try:
            with _evaluating(module), full_precision(module):
                result = forward(tokens, attention_mask=real.long(), use_cache=False, **more)
        finally:
            hook.remove()
        return getattr(result, "logits", result), streams[0]

    # Tables in half precision, such as GPT-J's angles, are rounded; all else is as in float32.
    rounded = {buffer.dtype for buffer in module.buffers()} & {*HALF}
    dtypes = [*rounded, torch.promote_types(next(module.parameters()).dtype, torch.float32)]
    return Source(run_source, dtypes[0])


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode (no dropout), experts one by one (in any size and dtype), and back."""
    was_training = module.training
    config = getattr(module, "config", None)
    experts = getattr(config, "_experts_implementation", None)
    module.eval()
    if experts is not None:
        config._experts_implementation = "eager"  # type: ignore[union-attr]
    try:
        yield
    finally:
        module.train(was_training)
        if experts is not None:
            config._experts_implementation = experts  # type: ignore[union-attr]


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


class _Widened(TorchFunctionMode):
    """What has half precision is float32 to every function."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = {name: _wide(value) for name, value in (kwargs or {}).items()}
        return func(*_wide(args), **named)


def _wide(value: Any) -> Any:
    """Tensors of half precision, and their dtypes, as float32."""
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(map(_wide, value))
    if isinstance(value, torch.dtype):
        return torch.float32 if value in HALF else value
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


@contextmanager
def full_precision(module: Any) -> Iterator[None]:
    """Run a module as our runs compute: one of float64 in float64 throughout, of half in float32.

    Hugging Face computes norms, softmax and routers in float32 in every model: better than half,
    and the published numbers, but in float64 a rounding by 1e-7 that hides smaller mistakes.
    Rotations stay in float32: there it is a model's definition.
    """
    dtype = next(module.parameters()).dtype
    if dtype in HALF:
        with _Widened():
            yield
        return
    if dtype != torch.float64:
        yield
        return
    mode = _NotDown()
    hooks = []
    for part in module.modules():
        if "Rotary" in type(part).__name__:
            hooks.append(part.register_forward_pre_hook(lambda *_: setattr(mode, "on", False)))
            hooks.append(part.register_forward_hook(lambda *_: setattr(mode, "on", True)))
    try:
        with mode:
            yield
    finally:
        for hook in hooks:
            hook.remove()


def first_line(reason: Exception) -> str:
    """The first line of an error's message, or its kind."""
    line = next(iter(str(reason).strip().splitlines()), type(reason).__name__)
    return line if len(line) <= 200 else f"{line[:199]}…"
