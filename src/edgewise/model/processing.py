"""Rewrite weights the way TransformerLens does, without changing any next-token probability.

Off by default: circuits are found in the model as published. It matters for zero ablation, where a
head's value bias counts as part of the head unless it is folded into the constant output bias; the
paper's results were made with it folded (spec section 1.5).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgewise.errors import SettingError
from edgewise.model.config import ModelConfig
from edgewise.model.model import Model
from edgewise.model.parts import NORMS

Weights = dict[str, Tensor]


def process(
    model: Model,
    *,
    fold_norm: bool = True,
    fold_value_biases: bool = True,
    center_writing: bool = True,
    center_unembed: bool = True,
) -> Model:
    """The model with its weights rewritten; softmax(logits) stays the same.

    1. `fold_norm`: LayerNorm weights and biases go into the matrices that read it.
    2. `fold_value_biases`: b_O gets the sum over heads of b_V W_O, and b_V becomes zero, which is
       exact because attention weights sum to one.
    3. `center_writing`: everything written to the stream has its mean over d_model removed, which a
       LayerNorm removes anyway.
    4. `center_unembed`: the mean over the vocabulary is removed, a shift that softmax ignores.

    Raises `SettingError` for a step that would not be exact on this model: centring without a
    LayerNorm or with a single output, folding norms before shortformer positions.
    """
    _check_exact(model, fold_norm, center_writing, center_unembed)
    weights = dict(model.weights)
    config = model.config
    done = [] if model.processing == "none" else [model.processing]
    if fold_norm and NORMS[config.norm][1]:
        config = _fold_norm(config, weights)
        done.append("norm folded")
    if fold_value_biases:
        _fold_value_biases(config, weights)
        done.append("value biases folded")
    if center_writing:
        _center_writing(config, weights)
        done.append("writing centred")
    if center_unembed:
        for name in ("unembed.W_U", "unembed.b_U"):
            if name in weights:
                weights[name] = weights[name] - weights[name].mean(dim=-1, keepdim=True)
        done.append("unembedding centred")
    return replace(model, config=config, weights=weights, processing=", ".join(done) or "none")


def _check_exact(model: Model, fold_norm: bool, center_writing: bool, center_unembed: bool) -> None:
    config = model.config
    if fold_norm and NORMS[config.norm][1] and config.positions == "shortformer":
        raise SettingError(
            f"{model.name} adds its positions after the norm, so folding the norm would scale them "
            "too. Pass fold_norm=False."
        )
    if center_writing and config.norm == "none":
        raise SettingError(
            f"center_writing is exact only behind a LayerNorm, and {model.name} has none. "
            "Pass center_writing=False."
        )
    if center_unembed and config.d_vocab_out == 1:
        raise SettingError(
            f"{model.name} has one output; centring it would leave nothing. "
            "Pass center_unembed=False."
        )


def _fold_norm(config: ModelConfig, weights: Weights) -> ModelConfig:
    readers = {"ln_final": [("unembed.W_U", "unembed.b_U")]}
    for layer in range(config.n_layers):
        at = f"blocks.{layer}"
        readers[f"{at}.ln1"] = [(f"{at}.attn.W_{x}", f"{at}.attn.b_{x}") for x in "QKV"]
        if config.has_mlps:
            readers[f"{at}.ln2"] = [(f"{at}.mlp.W_in", f"{at}.mlp.b_in")]
    for norm, matrices in readers.items():
        scale, shift = weights.pop(f"{norm}.w"), weights.pop(f"{norm}.b", None)
        for weight, bias in matrices:
            matrix = weights[weight]  # [… d_model out]
            if shift is not None:
                folded = torch.einsum("d,...de->...e", shift, matrix)
                weights[bias] = folded + weights[bias] if bias in weights else folded
            weights[weight] = scale[:, None] * matrix
    return replace(config, norm="layernorm-plain")


def _fold_value_biases(config: ModelConfig, weights: Weights) -> None:
    for layer in range(config.n_layers):
        at = f"blocks.{layer}.attn"
        bias = weights.pop(f"{at}.b_V", None)
        if bias is not None:
            folded = torch.einsum("he,hed->d", bias, weights[f"{at}.W_O"])
            weights[f"{at}.b_O"] = folded + weights.get(f"{at}.b_O", torch.zeros_like(folded))


def _center_writing(config: ModelConfig, weights: Weights) -> None:
    names = ["embed.W_E"] + (["pos_embed.W_pos"] if config.adds_positions else [])
    for layer in range(config.n_layers):
        names += [f"blocks.{layer}.{n}" for n in ("attn.W_O", "attn.b_O", "mlp.W_out", "mlp.b_out")]
    for name in names:
        if name in weights:
            weights[name] = weights[name] - weights[name].mean(dim=-1, keepdim=True)
