"""Falcon: fused q/k/v in three layouts, rotary or ALiBi positions, blocks side by side or not."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from edgewise.model.config import ModelConfig
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
)


def read(module: Any) -> tuple[ModelConfig, Weights]:
    """Configuration and weights of a `FalconForCausalLM`. Raises `UnsupportedModel`."""
    check_head(module, "transformer.h", "lm_head")
    c, core = module.config, module.transformer
    heads, shared = c.num_attention_heads, core.h[0].self_attention.num_kv_heads
    two_norms = hasattr(core.h[0], "ln_mlp")
    refuse(
        module,
        (c.new_decoder_architecture and not c.parallel_attn, "blocks are neither old nor new"),
        (not c.new_decoder_architecture and two_norms, "one of two norms is not used"),
        (
            c.alibi and c._attn_implementation == "eager",
            "eager attention of transformers adds ALiBi twice (pass attn_implementation='sdpa')",
        ),
    )
    config = ModelConfig(
        n_layers=c.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=shared,
        d_model=c.hidden_size,
        d_head=c.hidden_size // heads,
        d_mlp=c.ffn_hidden_size,
        d_vocab=core.word_embeddings.weight.shape[0],
        n_ctx=c.max_position_embeddings if c.alibi else context(c, core.rotary_emb),
        d_vocab_out=module.lm_head.weight.shape[0],
        activation=activation(c.activation),
        positions="none",
        parallel=c.parallel_attn,
        eps=c.layer_norm_epsilon,
        rotary=() if c.alibi else (rotary(core.rotary_emb),) * c.num_hidden_layers,
        alibi_slopes=_slopes(heads) if c.alibi else (),
    )
    weights: Weights = {"embed.W_E": core.word_embeddings.weight}
    for i, block in enumerate(core.h):
        at, fused = f"blocks.{i}", block.self_attention.query_key_value
        rows = _split(c, fused.weight, heads, shared)
        biases = (None,) * 3 if fused.bias is None else _split(c, fused.bias, heads, shared)
        for letter, weight, bias in zip("QKV", rows, biases, strict=True):
            n = heads if letter == "Q" else shared
            into_heads(weights, f"{at}.attn.{letter}", weight, bias, n)
        out_of_heads(weights, f"{at}.attn", block.self_attention.dense, heads)
        ln1 = block.ln_attn if two_norms else block.input_layernorm
        norm(weights, f"{at}.ln1", ln1)
        ln2 = ln1 if c.parallel_attn else block.post_attention_layernorm
        norm(weights, f"{at}.ln2", block.ln_mlp if two_norms else ln2)
        matrix(weights, f"{at}.mlp", "in", block.mlp.dense_h_to_4h)
        matrix(weights, f"{at}.mlp", "out", block.mlp.dense_4h_to_h)
    norm(weights, "ln_final", core.ln_f)
    unembed(weights, module.lm_head)
    return config, detached(weights)


def _split(c: Any, fused: Tensor, heads: int, shared: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of queries, keys and values [head x d_head …] of a fused matrix or bias."""
    if c.new_decoder_architecture:  # each group: its queries, its key, its value
        groups = fused.unflatten(0, (shared, heads // shared + 2, -1))
        parts = groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]
    elif c.multi_query:  # all queries, one key, one value
        each = fused.unflatten(0, (heads + 2, -1))
        parts = each[:-2], each[-2:-1], each[-1:]
    else:  # each head: query, key, value
        triples = fused.unflatten(0, (heads, 3, -1))
        parts = triples[:, 0], triples[:, 1], triples[:, 2]
    query, key, value = (part.flatten(0, 1) for part in parts)
    return query, key, value


def _slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slopes (Press et al. 2021, arXiv 2108.12409): powers of one root, then of another."""
    power = 2 ** math.floor(math.log2(heads))
    root = 2 ** -(2 ** -(math.log2(power) - 3))
    slopes = [root**i for i in range(1, power + 1)]
    finer = 2 ** -(2 ** -(math.log2(2 * power) - 3))
    return tuple(slopes + [finer**i for i in range(1, 2 * (heads - power), 2)])


def final_norm(module: Any) -> Any:
    """The submodule whose input is the final residual stream."""
    return module.transformer.ln_f
