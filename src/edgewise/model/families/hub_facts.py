"""What modules of Hugging Face say of themselves beside their tensors, in any family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ACTIVATIONS, Experts
from edgewise.model.positions import Rotary

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
            "To add one, see ACTIVATIONS in edgewise/model/config.py."
        )
    return ours


def general_facts(config: Any, core: Any, layers: Any) -> dict[str, Any]:
    """Fields of a `ModelConfig` that are read alike in every family. Raises `UnsupportedModel`.

    `core` is the module that holds the blocks, `layers`.
    """
    c = config
    names = ("hidden_activation", "hidden_act", "activation_function", "activation")
    epsilons = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
    alibi = getattr(c, "alibi", False)
    turns = None if alibi else getattr(core, "rotary_emb", None)
    return {
        "n_layers": c.num_hidden_layers,
        "n_heads": c.num_attention_heads,
        "n_kv_heads": getattr(c, "num_key_value_heads", None) or 0,
        "d_model": c.hidden_size,
        "n_ctx": _context(c, turns),
        "activation": activation(next(filter(None, (getattr(c, name, None) for name in names)))),
        "eps": next((getattr(c, name) for name in epsilons if hasattr(c, name)), 1e-5),
        "rotary": () if turns is None else _rotaries(c, turns, layers),
        "alibi_slopes": _slopes(c.num_attention_heads) if alibi else (),
        "windows": _windows(c),
        "attention_cap": getattr(c, "attn_logit_softcapping", None) or 0.0,
        "logit_cap": getattr(c, "final_logit_softcapping", None) or 0.0,
    }


def gpt2_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Scores may be scaled by layer, or not at all."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    scales = (scale / (i + 1 if by_layer else 1) for i in range(config.n_layer))
    return {"attention_scales": tuple(scales)}


def gptj_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Neighbouring channels are turned, by angles computed in float32, from whole numbers."""
    turned = config.rotary_dim or config.n_embd
    exponents = torch.arange(0, turned, 2, dtype=torch.int64) / turned
    frequencies = (1.0 / (10000**exponents)).tolist()
    return {"rotary": (Rotary(tuple(frequencies), interleaved=True),) * config.n_layer}


def gpt_neo_facts(config: Any, layers: Any) -> dict[str, Any]:
    """Every other layer is local, and scores are not scaled."""
    widths = (config.window_size if kind == "local" else 0 for kind in config.attention_layers)
    return {"attention_scales": (1.0,) * config.num_layers, "windows": tuple(widths)}


def sizes(config: Any, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of a `ModelConfig` that the tensors tell."""
    n_layers = config.num_hidden_layers
    experts = tuple(_experts(config, weights, layer) for layer in range(n_layers))
    dense = (w.shape[1] for name, w in weights.items() if name.endswith("mlp.W_in"))
    gated = any(name.endswith("mlp.W_gate") for name in weights)
    return {
        "d_head": weights["blocks.0.attn.W_Q"].shape[2],
        "d_mlp": next(dense, None) or config.intermediate_size,
        "d_vocab": weights["embed.W_E"].shape[0],
        "d_vocab_out": weights["unembed.W_U"].shape[1],
        "gated": gated or any(experts),
        "experts": experts if any(experts) else (),
    }


def _experts(config: Any, weights: Mapping[str, Tensor], layer: int) -> Experts | None:
    """The mixture of experts of a layer, if it has one in place of an MLP."""
    at = f"blocks.{layer}.mlp"
    if f"{at}.router" not in weights:
        return None
    shared = weights.get(f"{at}.shared.W_gate")
    return Experts(
        n_experts=len(weights[f"{at}.router"]),
        active=config.num_experts_per_tok,
        d_expert=weights[f"{at}.experts.down"].shape[2],
        normalised=getattr(config, "norm_topk_prob", True),  # Mixtral always does
        d_shared=0 if shared is None else shared.shape[1],
    )


def _rotaries(config: Any, turns: Any, layers: Any) -> tuple[Rotary | None, ...]:
    """By layer: models with local layers may turn those otherwise, some layers turn nothing."""
    if isinstance(turns.rope_type, dict):
        kinds = {kind: _rotary(turns, f"{kind}_") for kind in turns.rope_type}
        return tuple(kinds[kind] for kind in config.layer_types)
    rotary = _rotary(turns)
    attentions = (getattr(layer, "self_attn", None) for layer in layers)
    return tuple(rotary if getattr(a, "use_rope", True) else None for a in attentions)


def _rotary(turns: Any, prefix: str = "") -> Rotary:
    """The rotation of a Hugging Face rotary module. Raises `UnsupportedModel`.

    Its frequencies are taken as they are, so whatever scaling made them is in them. "dynamic" and
    "longrope" ones change with a prompt's length, but only beyond `context`; what they are before
    is kept beside what the last prompt made of them.
    """
    kind = turns.rope_type
    kind = kind[prefix.removesuffix("_")] if isinstance(kind, dict) else kind
    if kind not in _KNOWN_ROPE:
        raise UnsupportedModel(
            f"rotary positions of type {kind!r} are not known, and may change with the length of "
            f"the prompt. Supported: {', '.join(_KNOWN_ROPE)}."
        )
    name = f"{prefix}original_inv_freq" if kind in ("dynamic", "longrope") else f"{prefix}inv_freq"
    frequencies = getattr(turns, name).float().tolist()
    return Rotary(tuple(frequencies), scale=float(getattr(turns, f"{prefix}attention_scaling")))


def _context(config: Any, turns: Any) -> int:
    """How many tokens a model with this rotary module takes, its angles being what we read.

    A "dynamic" rope is scaled beyond `max_position_embeddings` alone, a "longrope" from its
    original context on: we stop there.
    """
    kinds = getattr(turns, "rope_type", None)
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    settings = getattr(config, "rope_parameters", None) or {}
    originals = [
        (settings if layer is None else settings[layer])["original_max_position_embeddings"]
        for layer, kind in by_layer.items()
        if kind == "longrope"
    ]
    return min([config.max_position_embeddings, *originals])


def _windows(config: Any) -> tuple[int, ...]:
    """How far back each layer's attention sees; empty if nowhere limited."""
    width = getattr(config, "sliding_window", None)
    if not width:
        return ()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    sizes = tuple(width if kind == "sliding_attention" else 0 for kind in kinds)
    return sizes if any(sizes) else ()


def _slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slopes (Press et al. 2021, arXiv 2108.12409): powers of one root, then of another."""
    power = 2 ** math.floor(math.log2(heads))
    root = 2 ** -(2 ** -(math.log2(power) - 3))
    slopes = [root**i for i in range(1, power + 1)]
    finer = 2 ** -(2 ** -(math.log2(2 * power) - 3))
    return tuple(slopes + [finer**i for i in range(1, 2 * (heads - power), 2)])
