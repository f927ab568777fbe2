"""What reading a Hugging Face module takes, in any family: matrices, norms, rotary, names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.parts import ACTIVATIONS
from edgewise.model.rotary import Rotary
from edgewise.model.weights import heads_that_read, heads_that_write

Weights = dict[str, Tensor]

# Hugging Face's names for activations that we have under another.
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "swish": "silu",
}
# Rope types whose frequencies are the same for all prompts within `context`.
_KNOWN_ROPE = ("default", "linear", "llama3", "yarn", "proportional", "dynamic", "longrope")


def activation(name: str) -> str:
    """Our name of an activation function. Raises `UnsupportedModel`."""
    ours = _ACTIVATIONS.get(name, name)
    if ours not in ACTIVATIONS or ours.endswith("-linearised"):
        known = [known for known in ACTIVATIONS if not known.endswith("-linearised")]
        raise UnsupportedModel(
            f"activation {name!r} is not supported; known: {', '.join([*known, *_ACTIVATIONS])}. "
            "To add one, see ACTIVATIONS in edgewise/model/parts.py."
        )
    return ours


def refuse(module: Any, *reasons: tuple[bool, str]) -> None:
    """Raise `UnsupportedModel` with every reason that holds."""
    faults = [what for holds, what in reasons if holds]
    if faults:
        raise UnsupportedModel(
            f"{type(module).__name__}: {'; '.join(faults)}. The runtime does not compute this. "
            "See edgewise/model/families/__init__.py for how to add it."
        )


def check_head(module: Any, *names: str) -> None:
    """Raise `UnsupportedModel` unless the module has these submodules."""
    for name in names:
        found = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise UnsupportedModel(
                f"{type(module).__name__} has no language-model head or another layout (no "
                f"{name!r}); load it as a causal language model."
            )


def into_heads(
    weights: Weights, name: str, weight: Tensor, bias: Tensor | None, heads: int
) -> None:
    """Rows of a matrix [head x d_head, d_model] as `W_x` [head d_model d_head]; a view."""
    place, letter = name.rsplit(".", 1)
    weights[f"{place}.W_{letter}"] = heads_that_read(weight, heads)
    if bias is not None:
        weights[f"{place}.b_{letter}"] = bias.unflatten(0, (heads, -1))


def out_of_heads(weights: Weights, name: str, linear: Any, heads: int) -> None:
    """A matrix [d_model, head x d_head] as `W_O` [head d_head d_model]; a view."""
    weights[f"{name}.W_O"] = heads_that_write(linear.weight, heads)
    if linear.bias is not None:
        weights[f"{name}.b_O"] = linear.bias


def matrix(weights: Weights, place: str, name: str, linear: Any) -> None:
    """A linear layer [out, in] as `W_name` [in, out] and its bias, if any; views."""
    weights[f"{place}.W_{name}"] = linear.weight.T
    if linear.bias is not None:
        weights[f"{place}.b_{name}"] = linear.bias


def norm(weights: Weights, name: str, found: Any) -> None:
    """A norm's weight, and bias if it has one."""
    weights[f"{name}.w"] = found.weight
    if getattr(found, "bias", None) is not None:
        weights[f"{name}.b"] = found.bias


def unembed(weights: Weights, head: Any) -> None:
    """The language-model head."""
    matrix(weights, "unembed", "U", head)


def rotary(found: Any, prefix: str = "", *, interleaved: bool = False) -> Rotary:
    """The rotation of a Hugging Face rotary module. Raises `UnsupportedModel`.

    Its frequencies are taken as they are, so whatever scaling made them is in them. "dynamic" and
    "longrope" ones change with a prompt's length, but only beyond `context`; what they are before
    is kept beside what the last prompt made of them.
    """
    kind = found.rope_type
    kind = kind[prefix.removesuffix("_")] if isinstance(kind, dict) else kind
    if kind not in _KNOWN_ROPE:
        raise UnsupportedModel(
            f"rotary positions of type {kind!r} are not known, and may change with the length of "
            f"the prompt. Supported: {', '.join(_KNOWN_ROPE)}."
        )
    name = f"{prefix}original_inv_freq" if kind in ("dynamic", "longrope") else f"{prefix}inv_freq"
    frequencies = getattr(found, name).float().tolist()
    scale = float(getattr(found, f"{prefix}attention_scaling"))
    return Rotary(tuple(frequencies), interleaved, scale)


def context(config: Any, found: Any) -> int:
    """How many tokens a model with this rotary module takes, its angles being what `rotary` reads.

    A "dynamic" rope is scaled beyond `max_position_embeddings` alone, a "longrope" from its
    original context on: we stop there.
    """
    kinds = getattr(found, "rope_type", None)
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    settings = getattr(config, "rope_parameters", None) or {}
    originals = [
        (settings if layer is None else settings[layer])["original_max_position_embeddings"]
        for layer, kind in by_layer.items()
        if kind == "longrope"
    ]
    return min([config.max_position_embeddings, *originals])


def windows(config: Any) -> tuple[int, ...]:
    """How far back each layer's attention sees; empty if nowhere limited."""
    width = getattr(config, "sliding_window", None)
    if not width:
        return ()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    sizes = tuple(width if kind == "sliding_attention" else 0 for kind in kinds)
    return sizes if any(sizes) else ()


def detached(weights: Weights) -> Weights:
    """The same tensors, of which no gradient is kept."""
    return {name: tensor.detach() for name, tensor in weights.items()}
