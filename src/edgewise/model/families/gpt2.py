"""GPT-2 as published on the Hugging Face hub: learned positions, pre-LayerNorm, fused q/k/v.

Its Conv1D layers store `weight` as [in, out], which is our orientation, so every tensor here is a
view of the module's own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgewise.errors import UnsupportedModel
from edgewise.model.config import ModelConfig
from edgewise.model.families.pieces import activation


def read(module: Any) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights of a `GPT2LMHeadModel`. Raises `UnsupportedModel`."""
    c = module.config
    if not hasattr(module, "transformer") or not hasattr(module, "lm_head"):
        raise UnsupportedModel(
            f"{type(module).__name__} has no language-model head; load GPT2LMHeadModel instead."
        )
    if getattr(c, "add_cross_attention", False):
        raise UnsupportedModel("GPT-2 with cross-attention has inputs that are not in the graph.")
    d_head = c.n_embd // c.n_head
    scale = d_head**-0.5 if c.scale_attn_weights else 1.0
    by_layer = c.scale_attn_by_inverse_layer_idx
    config = ModelConfig(
        n_layers=c.n_layer,
        n_heads=c.n_head,
        d_model=c.n_embd,
        d_head=d_head,
        d_mlp=c.n_inner or 4 * c.n_embd,
        d_vocab=c.vocab_size,
        n_ctx=c.n_positions,
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.activation_function),
        eps=c.layer_norm_epsilon,
        attention_scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(c.n_layer)),
    )
    return config, _weights(module, config)


def _weights(module: Any, config: ModelConfig) -> dict[str, Tensor]:
    core = module.transformer
    heads, d_head = config.n_heads, config.d_head
    weights = {"embed.W_E": core.wte.weight, "pos_embed.W_pos": core.wpe.weight}
    for layer, block in enumerate(core.h):
        at = f"blocks.{layer}"
        fused, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
        for i, letter in enumerate("QKV"):
            columns = slice(i * config.d_model, (i + 1) * config.d_model)
            split = fused[:, columns].unflatten(1, (heads, d_head))  # [d_model head d_head]
            weights[f"{at}.attn.W_{letter}"] = split.permute(1, 0, 2)
            weights[f"{at}.attn.b_{letter}"] = bias[columns].unflatten(0, (heads, d_head))
        weights[f"{at}.attn.W_O"] = block.attn.c_proj.weight.unflatten(0, (heads, d_head))
        weights[f"{at}.attn.b_O"] = block.attn.c_proj.bias
        for name, norm in (("ln1", block.ln_1), ("ln2", block.ln_2)):
            weights[f"{at}.{name}.w"], weights[f"{at}.{name}.b"] = norm.weight, norm.bias
        weights[f"{at}.mlp.W_in"], weights[f"{at}.mlp.b_in"] = (
            block.mlp.c_fc.weight,
            block.mlp.c_fc.bias,
        )
        weights[f"{at}.mlp.W_out"] = block.mlp.c_proj.weight
        weights[f"{at}.mlp.b_out"] = block.mlp.c_proj.bias
    weights["ln_final.w"], weights["ln_final.b"] = core.ln_f.weight, core.ln_f.bias
    weights["unembed.W_U"] = module.lm_head.weight.T
    if module.lm_head.bias is not None:
        weights["unembed.b_U"] = module.lm_head.bias
    return {name: tensor.detach() for name, tensor in weights.items()}


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.transformer.ln_f
