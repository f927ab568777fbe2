"""Phi 1 and 2, and StableLM: LayerNorm models laid out like Llama, with partly turned heads.

Phi has attention and MLP side by side behind one norm and a plain MLP; StableLM has a gated MLP,
and comes with blocks of either kind.
"""

from __future__ import annotations

from typing import Any

import torch

from edgewise.model.config import ModelConfig, QKNorm
from edgewise.model.families.pieces import (
    Weights,
    activation,
    check_head,
    context,
    detached,
    into_heads,
    matrix,
    norm,
    out_of_heads,
    rotary,
    unembed,
)


def read(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a Phi or StableLM. Raises `UnsupportedModel`."""
    check_head(module, "model.layers", "model.embed_tokens", "lm_head")
    c, core = module.config, module.model
    gated = hasattr(core.layers[0].mlp, "gate_proj")
    heads, shared = c.num_attention_heads, c.num_key_value_heads
    config = ModelConfig(
        n_layers=c.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=shared,
        d_model=c.hidden_size,
        d_head=core.layers[0].self_attn.q_proj.weight.shape[0] // heads,
        d_mlp=c.intermediate_size,
        d_vocab=core.embed_tokens.weight.shape[0],
        n_ctx=context(c, core.rotary_emb),
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.hidden_act),
        positions="none",
        parallel=getattr(c, "use_parallel_residual", True),
        eps=c.layer_norm_eps,
        gated=gated,
        rotary=(rotary(core.rotary_emb),) * c.num_hidden_layers,
        qk_norm=_qk_norm(core.layers[0].self_attn),
    )
    weights: Weights = {"embed.W_E": core.embed_tokens.weight}
    for i, layer in enumerate(core.layers):
        at, attention = f"blocks.{i}", layer.self_attn
        for letter in "qkv":
            linear, n = getattr(attention, f"{letter}_proj"), heads if letter == "q" else shared
            into_heads(weights, f"{at}.attn.{letter.upper()}", linear.weight, linear.bias, n)
        _norms_of_heads(weights, f"{at}.attn", attention, config.qk_norm)
        out = attention.o_proj if hasattr(attention, "o_proj") else attention.dense
        out_of_heads(weights, f"{at}.attn", out, heads)
        norm(weights, f"{at}.ln1", layer.input_layernorm)
        own = getattr(layer, "post_attention_layernorm", None)
        norm(weights, f"{at}.ln2", layer.input_layernorm if own is None else own)
        parts = {"in": "up_proj", "gate": "gate_proj", "out": "down_proj"}
        for name, part in (parts if gated else {"in": "fc1", "out": "fc2"}).items():
            matrix(weights, f"{at}.mlp", name, getattr(layer.mlp, part))
    norm(weights, "ln_final", final_norm(module))
    unembed(weights, module.lm_head)
    return config, detached(weights)


def _qk_norm(attention: Any) -> QKNorm:
    """Phi has one norm for the queries of all heads and one for keys, StableLM one for each."""
    if not hasattr(attention, "q_layernorm"):
        return "none"
    return "own-head" if hasattr(attention.q_layernorm, "norms") else "head"


def _norms_of_heads(weights: Weights, at: str, attention: Any, kind: QKNorm) -> None:
    if kind == "none":
        return
    for letter in "qk":
        found, name = getattr(attention, f"{letter}_layernorm"), f"{at}.norm_{letter.upper()}"
        if kind == "head":
            norm(weights, name, found)
        else:
            weights[f"{name}.w"] = torch.stack([one.weight for one in found.norms])


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    core = module.model
    return core.norm if hasattr(core, "norm") else core.final_layernorm
