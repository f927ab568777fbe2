"""GPT-J and GPT-Neo, which share their layout.

GPT-J turns neighbouring channels and has attention and MLP side by side behind one norm. GPT-Neo
has learned positions, every other layer local, and no scale on attention scores.
"""

from __future__ import annotations

from typing import Any

import torch

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
    unembed,
)
from edgewise.model.rotary import Rotary


def read_gptj(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a `GPTJForCausalLM`. Raises `UnsupportedModel`."""
    check_head(module, "transformer.h", "lm_head")
    c = module.config
    turned = c.rotary_dim or c.n_embd
    # As its own code computes them: in float32, from whole numbers.
    exponents = torch.arange(0, turned, 2, dtype=torch.int64) / turned
    frequencies = (1.0 / (10000**exponents)).tolist()
    config = ModelConfig(
        n_layers=c.n_layer,
        n_heads=c.n_head,
        d_model=c.n_embd,
        d_head=c.n_embd // c.n_head,
        d_mlp=c.n_inner or 4 * c.n_embd,
        d_vocab=module.transformer.wte.weight.shape[0],
        n_ctx=c.n_positions,
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.activation_function),
        positions="none",
        parallel=True,
        eps=c.layer_norm_epsilon,
        rotary=(Rotary(tuple(frequencies), interleaved=True),) * c.n_layer,
    )
    weights = _weights(module, config)
    for i, block in enumerate(module.transformer.h):
        norm(weights, f"blocks.{i}.ln2", block.ln_1)  # the MLP reads behind the same norm
        _attention(weights, i, block.attn, config.n_heads)
        matrix(weights, f"blocks.{i}.mlp", "in", block.mlp.fc_in)
        matrix(weights, f"blocks.{i}.mlp", "out", block.mlp.fc_out)
    return config, detached(weights)


def read_gpt_neo(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a `GPTNeoForCausalLM`. Raises `UnsupportedModel`."""
    check_head(module, "transformer.h", "transformer.wpe", "lm_head")
    c = module.config
    config = ModelConfig(
        n_layers=c.num_layers,
        n_heads=c.num_heads,
        d_model=c.hidden_size,
        d_head=c.hidden_size // c.num_heads,
        d_mlp=c.intermediate_size or 4 * c.hidden_size,
        d_vocab=module.transformer.wte.weight.shape[0],
        n_ctx=c.max_position_embeddings,
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.activation_function),
        eps=c.layer_norm_epsilon,
        attention_scales=(1.0,) * c.num_layers,
        windows=tuple(c.window_size if kind == "local" else 0 for kind in c.attention_layers),
    )
    weights = _weights(module, config)
    weights["pos_embed.W_pos"] = module.transformer.wpe.weight
    for i, block in enumerate(module.transformer.h):
        norm(weights, f"blocks.{i}.ln2", block.ln_2)
        _attention(weights, i, block.attn.attention, config.n_heads)
        matrix(weights, f"blocks.{i}.mlp", "in", block.mlp.c_fc)
        matrix(weights, f"blocks.{i}.mlp", "out", block.mlp.c_proj)
    return config, detached(weights)


def _weights(module: Any, config: ModelConfig) -> Weights:
    core = module.transformer
    weights: Weights = {"embed.W_E": core.wte.weight}
    for i, block in enumerate(core.h):
        norm(weights, f"blocks.{i}.ln1", block.ln_1)
    norm(weights, "ln_final", core.ln_f)
    unembed(weights, module.lm_head)
    return weights


def _attention(weights: Weights, layer: int, attention: Any, heads: int) -> None:
    for letter in "qkv":
        linear, name = getattr(attention, f"{letter}_proj"), f"blocks.{layer}.attn.{letter.upper()}"
        into_heads(weights, name, linear.weight, linear.bias, heads)
    out_of_heads(weights, f"blocks.{layer}.attn", attention.out_proj, heads)


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.transformer.ln_f
