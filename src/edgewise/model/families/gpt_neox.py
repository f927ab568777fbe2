"""GPT-NeoX and Pythia: fused q/k/v, partly turned heads, attention and MLP side by side."""

from __future__ import annotations

from typing import Any

from edgewise.model.config import ModelConfig
from edgewise.model.families.pieces import (
    Weights,
    activation,
    check_head,
    context,
    detached,
    matrix,
    norm,
    out_of_heads,
    rotary,
    unembed,
)


def read(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a `GPTNeoXForCausalLM`. Raises `UnsupportedModel`."""
    check_head(module, "gpt_neox.layers", "lm_head")
    c, core = module.config, module.gpt_neox
    heads = c.num_attention_heads
    config = ModelConfig(
        n_layers=c.num_hidden_layers,
        n_heads=heads,
        d_model=c.hidden_size,
        d_head=c.hidden_size // heads,
        d_mlp=c.intermediate_size,
        d_vocab=core.embed_in.weight.shape[0],
        n_ctx=context(c, core.rotary_emb),
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.hidden_act),
        positions="none",
        parallel=c.use_parallel_residual,
        eps=c.layer_norm_eps,
        rotary=(rotary(core.rotary_emb),) * c.num_hidden_layers,
    )
    weights: Weights = {"embed.W_E": core.embed_in.weight}
    for i, layer in enumerate(core.layers):
        at, fused = f"blocks.{i}", layer.attention.query_key_value
        rows = fused.weight.unflatten(0, (heads, 3, -1))  # [head slot d_head d_model]
        for slot, letter in enumerate("QKV"):
            weights[f"{at}.attn.W_{letter}"] = rows[:, slot].transpose(1, 2)
            if fused.bias is not None:
                weights[f"{at}.attn.b_{letter}"] = fused.bias.unflatten(0, (heads, 3, -1))[:, slot]
        out_of_heads(weights, f"{at}.attn", layer.attention.dense, heads)
        norm(weights, f"{at}.ln1", layer.input_layernorm)
        norm(weights, f"{at}.ln2", layer.post_attention_layernorm)
        matrix(weights, f"{at}.mlp", "in", layer.mlp.dense_h_to_4h)
        matrix(weights, f"{at}.mlp", "out", layer.mlp.dense_4h_to_h)
    norm(weights, "ln_final", core.final_layer_norm)
    unembed(weights, module.lm_head)
    return config, detached(weights)


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.gpt_neox.final_layer_norm
