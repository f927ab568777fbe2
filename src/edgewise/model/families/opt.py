"""OPT: learned positions from row 2 on, ReLU, norms before each part (all sizes but 350M)."""

from __future__ import annotations

from typing import Any

from edgewise.model.config import ModelConfig
from edgewise.model.families.pieces import (
    Weights,
    activation,
    check_head,
    detached,
    into_heads,
    matrix,
    norm,
    out_of_heads,
    refuse,
    unembed,
)

_FIRST_POSITION = 2  # Hugging Face keeps two rows before it


def read(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of an `OPTForCausalLM`. Raises `UnsupportedModel`."""
    check_head(module, "model.decoder.layers", "lm_head")
    c, core = module.config, module.model.decoder
    refuse(
        module,
        (not c.do_layer_norm_before, "norms stand after the parts, in the residual stream"),
        (core.final_layer_norm is None, "there is no final norm"),
        (core.project_in is not None, "embeddings are projected to another width"),
    )
    heads, affine = c.num_attention_heads, c.layer_norm_elementwise_affine
    config = ModelConfig(
        n_layers=c.num_hidden_layers,
        n_heads=heads,
        d_model=c.hidden_size,
        d_head=c.hidden_size // heads,
        d_mlp=c.ffn_dim,
        d_vocab=core.embed_tokens.weight.shape[0],
        n_ctx=c.max_position_embeddings,
        d_vocab_out=module.lm_head.weight.shape[0],
        norm="layernorm" if affine else "layernorm-plain",
        activation=activation(c.activation_function),
    )
    weights: Weights = {
        "embed.W_E": core.embed_tokens.weight,
        "pos_embed.W_pos": core.embed_positions.weight[_FIRST_POSITION:],
    }
    for i, layer in enumerate(core.layers):
        at, attention = f"blocks.{i}", layer.self_attn
        for letter in "qkv":
            linear = getattr(attention, f"{letter}_proj")
            into_heads(weights, f"{at}.attn.{letter.upper()}", linear.weight, linear.bias, heads)
        out_of_heads(weights, f"{at}.attn", attention.out_proj, heads)
        if affine:
            norm(weights, f"{at}.ln1", layer.self_attn_layer_norm)
            norm(weights, f"{at}.ln2", layer.final_layer_norm)
        matrix(weights, f"{at}.mlp", "in", layer.fc1)
        matrix(weights, f"{at}.mlp", "out", layer.fc2)
    if affine:
        norm(weights, "ln_final", core.final_layer_norm)
    unembed(weights, module.lm_head)
    return config, detached(weights)


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.model.decoder.final_layer_norm
