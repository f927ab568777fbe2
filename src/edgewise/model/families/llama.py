"""Llama and the many models laid out like it: rotary positions, RMSNorm, gated MLPs.

Llama 2 and 3, Mistral, Qwen 2, 2.5 and 3, SmolLM, Gemma 1 to 3, OLMo 2, and with experts in
place of MLPs Mixtral, Qwen-MoE and OLMoE. What differs is read off the module: norms of queries
and keys, norms of what is written, grouped heads, windows, caps, biases, the angles of rotations.
"""

from __future__ import annotations

from typing import Any

from edgewise.model.config import Experts, ModelConfig, QKNorm
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
    refuse,
    rotary,
    unembed,
    windows,
)
from edgewise.model.rotary import Rotary


def read(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a module laid out like Llama. Raises `UnsupportedModel`."""
    check_head(module, "model.layers", "model.embed_tokens", "model.norm", "lm_head")
    c, layers = module.config, module.model.layers
    attention = layers[0].self_attn
    post_norm = hasattr(layers[0], "post_feedforward_layernorm")
    refuse(
        module,
        (getattr(c, "clip_qkv", None) is not None, "queries, keys and values are clipped"),
        (bool(getattr(c, "use_bidirectional_attention", False)), "attention looks ahead"),
        (getattr(c, "pretraining_tp", 1) not in (None, 1), "products are cut into pieces"),
        (post_norm and attention.o_proj.bias is not None, "a bias lies before an output norm"),
    )
    heads, shared = c.num_attention_heads, c.num_key_value_heads
    d_head = attention.q_proj.weight.shape[0] // heads
    experts = tuple(_experts(c, layer.mlp) for layer in layers)
    config = ModelConfig(
        n_layers=c.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=shared,
        d_model=c.hidden_size,
        d_head=d_head,
        d_mlp=c.intermediate_size,
        d_vocab=module.model.embed_tokens.weight.shape[0],
        n_ctx=context(c, module.model.rotary_emb),
        d_vocab_out=module.lm_head.weight.shape[0],
        norm="rmsnorm-offset" if c.model_type.startswith("gemma") else "rmsnorm",
        activation=activation(getattr(c, "hidden_activation", None) or c.hidden_act),
        positions="none",
        eps=c.rms_norm_eps,
        attention_scales=tuple(float(layer.self_attn.scaling) for layer in layers),
        gated=True,
        rotary=_rotaries(module.model),
        windows=windows(c),
        attention_cap=getattr(c, "attn_logit_softcapping", None) or 0.0,
        logit_cap=getattr(c, "final_logit_softcapping", None) or 0.0,
        embedding_scale=float(getattr(module.model.embed_tokens, "embed_scale", 1.0)),
        pre_norm=hasattr(layers[0], "input_layernorm"),
        post_norm=post_norm,
        qk_norm=_qk_norm(attention, d_head),
        experts=experts if any(experts) else (),
    )
    return config, _weights(module, config)


def _qk_norm(attention: Any, d_head: int) -> QKNorm:
    if not hasattr(attention, "q_norm"):
        return "none"
    return "head" if attention.q_norm.weight.shape == (d_head,) else "layer"


def _rotaries(model: Any) -> tuple[Rotary | None, ...]:
    """By layer: models with local layers may turn those otherwise, some layers turn nothing."""
    found, c = model.rotary_emb, model.config
    if isinstance(found.rope_type, dict):
        kinds = {kind: rotary(found, f"{kind}_") for kind in found.rope_type}
        return tuple(kinds[kind] for kind in c.layer_types)
    one = rotary(found)
    return tuple(
        one if getattr(layer.self_attn, "use_rope", True) else None for layer in model.layers
    )


def _experts(c: Any, mlp: Any) -> Experts | None:
    if not hasattr(mlp, "experts"):
        return None
    shared = getattr(mlp, "shared_expert", None)
    return Experts(
        n_experts=mlp.experts.num_experts,
        active=c.num_experts_per_tok,
        d_expert=mlp.experts.down_proj.shape[2],
        normalised=getattr(c, "norm_topk_prob", True),  # Mixtral always does
        d_shared=0 if shared is None else shared.gate_proj.weight.shape[0],
    )


def _weights(module: Any, config: ModelConfig) -> Weights:
    weights: Weights = {"embed.W_E": module.model.embed_tokens.weight}
    for i, layer in enumerate(module.model.layers):
        at, attention = f"blocks.{i}", layer.self_attn
        for letter in "qkv":
            linear, heads = getattr(attention, f"{letter}_proj"), config.n_kv_heads
            heads = config.n_heads if letter == "q" else heads
            into_heads(weights, f"{at}.attn.{letter.upper()}", linear.weight, linear.bias, heads)
            if letter != "v" and config.qk_norm != "none":
                weight = getattr(attention, f"{letter}_norm").weight
                weight = weight.unflatten(0, (heads, -1)) if config.qk_norm == "layer" else weight
                weights[f"{at}.attn.norm_{letter.upper()}.w"] = weight
        out_of_heads(weights, f"{at}.attn", attention.o_proj, config.n_heads)
        for name, found in _norms(layer, config).items():
            norm(weights, f"{at}.{name}", found)
        _mlp(weights, f"{at}.mlp", layer.mlp)
    norm(weights, "ln_final", module.model.norm)
    unembed(weights, module.lm_head)
    return detached(weights)


def _norms(layer: Any, config: ModelConfig) -> dict[str, Any]:
    """A layer's norms by our names; Hugging Face's `post_attention_layernorm` is one of two."""
    if not config.post_norm:
        return {"ln1": layer.input_layernorm, "ln2": layer.post_attention_layernorm}
    post = {
        "ln1_post": layer.post_attention_layernorm,
        "ln2_post": layer.post_feedforward_layernorm,
    }
    if not config.pre_norm:
        return post
    return {"ln1": layer.input_layernorm, "ln2": layer.pre_feedforward_layernorm, **post}


def _mlp(weights: Weights, at: str, mlp: Any) -> None:
    if not hasattr(mlp, "experts"):
        for name, part in (("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")):
            matrix(weights, at, name, getattr(mlp, part))
        return
    weights[f"{at}.router"] = mlp.gate.weight
    weights[f"{at}.experts.gate_up"] = mlp.experts.gate_up_proj
    weights[f"{at}.experts.down"] = mlp.experts.down_proj
    if hasattr(mlp, "shared_expert"):
        shared = mlp.shared_expert
        for name, part in (("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")):
            matrix(weights, f"{at}.shared", name, getattr(shared, part))
        matrix(weights, f"{at}.shared", "share", mlp.shared_expert_gate)


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.model.norm
