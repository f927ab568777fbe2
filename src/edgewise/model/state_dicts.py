"""Models that are a configuration and named tensors: people's own, nanoGPT's, TransformerLens's.

Tensors are views of the given ones wherever the layout permits. Nothing of the other packages is
imported: names and shapes are all that is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.families.hub_facts import activation
from edgewise.model.families.naming import NANOGPT
from edgewise.model.positions import Rotary
from edgewise.model.weights import schema

Tensors = dict[str, Tensor]


def translated(
    config: ModelConfig | Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> tuple[ModelConfig, Tensors]:
    """Our configuration and weights, from ours, nanoGPT's or TransformerLens's names.

    A `config` that is no `ModelConfig` is nanoGPT's `model_args`, TransformerLens's `cfg` as a
    dictionary, or the fields of a `ModelConfig`. Raises `UnsupportedModel`.
    """
    tensors = {_plain(name): tensor.detach() for name, tensor in state_dict.items()}
    if not isinstance(config, ModelConfig):
        if "block_size" in config:
            config = _nanogpt_config(config, tensors)
        elif "act_fn" in config or "normalization_type" in config:
            config = lens_config(config)
            if config.gated:
                tensors = _after_the_gate(config, tensors)
        else:
            config = ModelConfig.from_json(dict(config))
    if "transformer.wte.weight" in tensors:
        split = dict.fromkeys("QKVO", config.n_heads)
        return config, NANOGPT.weights(tensors, config.n_layers, split)
    return config, _lens_weights(config, tensors)


def _plain(name: str) -> str:
    """Without what torch.compile and wrappers put before a name."""
    for prefix in ("_orig_mod.", "module."):
        name = name.removeprefix(prefix)
    return name


# --- nanoGPT


def _nanogpt_config(args: Mapping[str, Any], tensors: Tensors) -> ModelConfig:
    return ModelConfig(
        n_layers=args["n_layer"],
        n_heads=args["n_head"],
        d_model=args["n_embd"],
        d_head=args["n_embd"] // args["n_head"],
        d_mlp=4 * args["n_embd"],
        d_vocab=args["vocab_size"],
        n_ctx=args["block_size"],
        d_vocab_out=args["vocab_size"],
        activation="gelu",
    )


# --- TransformerLens

_LENS_NORMS = {
    "LN": "layernorm",
    "LNPre": "layernorm-plain",
    "RMS": "rmsnorm",
    "RMSPre": "rmsnorm-plain",
    None: "none",
}
_LENS_POSITIONS = {"standard": "learned", "shortformer": "shortformer", "rotary": "none"}
# Settings that change what is computed and that we do not read: what they must be.
_LENS_UNREAD: dict[str, Callable[[Any], bool]] = {
    "use_NTK_by_parts_rope": lambda v: not v,
    "use_qk_norm": lambda v: not v,
    "use_normalization_before_and_after": lambda v: not v,
    "num_experts": lambda v: not v,
    "post_embedding_ln": lambda v: not v,
    "attn_types": lambda v: not v or set(v) <= {"global", "local"},
    "rotary_base_local": lambda v: not v,
}


def lens_config(cfg: Mapping[str, Any]) -> ModelConfig:
    """Our configuration, from TransformerLens's `cfg`. Raises `UnsupportedModel`."""
    positions, norm = (
        cfg.get("positional_embedding_type", "standard"),
        cfg.get("normalization_type"),
    )
    unread = [f"{k} = {cfg[k]!r}" for k, fits in _LENS_UNREAD.items() if not fits(cfg.get(k))]
    unread += [] if norm in _LENS_NORMS else [f"normalization_type = {norm!r}"]
    if cfg.get("final_rms") and norm not in ("RMS", "RMSPre"):
        unread.append("final_rms = True")
    unread += [] if positions in _LENS_POSITIONS else [f"positional_embedding_type = {positions!r}"]
    if unread:
        raise UnsupportedModel(
            f"a TransformerLens model with {', '.join(unread)} is not read from its state. Load "
            "the same model by its Hugging Face name."
        )
    n_layers, d_head = cfg["n_layers"], cfg["d_head"]
    scale = d_head**-0.5 if cfg.get("attn_scale", -1.0) in (-1.0, None) else 1 / cfg["attn_scale"]
    scale = scale if cfg.get("use_attn_scale", True) else 1.0
    by_layer = bool(cfg.get("scale_attn_by_inverse_layer_idx"))
    types = cfg.get("attn_types") or ["local"] * n_layers
    window = cfg.get("window_size") if cfg.get("use_local_attn") else None
    turn = None
    if positions == "rotary":
        dims, base = cfg.get("rotary_dim") or d_head, cfg.get("rotary_base", 10000)
        powers = torch.arange(dims // 2, dtype=torch.float32) / (dims / 2)
        frequencies = (1 / base**powers).tolist()
        turn = Rotary(tuple(frequencies), bool(cfg.get("rotary_adjacent_pairs")))
    return ModelConfig(
        n_layers=n_layers,
        n_heads=cfg["n_heads"],
        n_kv_heads=cfg.get("n_key_value_heads") or 0,
        d_model=cfg["d_model"],
        d_head=d_head,
        d_mlp=cfg.get("d_mlp") or 4 * cfg["d_model"],
        d_vocab=cfg["d_vocab"],
        n_ctx=cfg["n_ctx"],
        d_vocab_out=cfg.get("d_vocab_out") or cfg["d_vocab"],
        norm=_LENS_NORMS[norm],
        activation=activation(cfg.get("act_fn") or "relu"),
        positions=_LENS_POSITIONS[positions],  # type: ignore[arg-type]
        causal=cfg.get("attention_dir", "causal") == "causal",
        attention_only=bool(cfg.get("attn_only")),
        parallel=bool(cfg.get("parallel_attn_mlp")),
        eps=cfg.get("eps", 1e-5),
        attention_scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(n_layers)),
        gated=bool(cfg.get("gated_mlp")),
        rotary=(turn,) * n_layers if turn is not None else (),
        windows=tuple(window if t == "local" else 0 for t in types) if window else (),
        attention_cap=max(cfg.get("attn_scores_soft_cap") or 0.0, 0.0),
        logit_cap=max(cfg.get("output_logits_soft_cap") or 0.0, 0.0),
    )


# Buffers that TransformerLens keeps beside its weights.
_LENS_BUFFERS = re.compile(r".*\.(mask|IGNORE|rotary_sin|rotary_cos|hook_.*)")


def _lens_weights(config: ModelConfig, tensors: Tensors) -> Tensors:
    """TransformerLens's names are ours; grouped heads have an underscore before theirs."""
    weights = {
        name.replace("._W_", ".W_").replace("._b_", ".b_"): tensor
        for name, tensor in tensors.items()
        if not _LENS_BUFFERS.fullmatch(name)
    }
    known = schema(config)
    # A bias of zeros that has no place in our schema is none.
    return {
        name: tensor
        for name, tensor in weights.items()
        if name in known or not name.rpartition(".")[2].startswith("b") or tensor.any()
    }


def _after_the_gate(config: ModelConfig, tensors: Tensors) -> Tensors:
    """TransformerLens adds a gated MLP's b_in to the product: a constant b_in W_out of the output.

    Ours is a bias of what is multiplied.
    """
    tensors = dict(tensors)
    for layer in range(config.n_layers):
        at = f"blocks.{layer}.mlp"
        bias = tensors.pop(f"{at}.b_in", None)
        if bias is not None and bias.any():
            after = bias @ tensors[f"{at}.W_out"]
            tensors[f"{at}.b_out"] = after + tensors.get(f"{at}.b_out", torch.zeros_like(after))
    return tensors
