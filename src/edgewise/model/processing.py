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
from edgewise.model.blocks import ungrouped
from edgewise.model.config import NORMS, ModelConfig
from edgewise.model.model import Model

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
    LayerNorm, with a single output or a cap on logits, folding norms before shortformer positions,
    or where norms of queries, keys or outputs and experts have weights of the same kind.
    """
    chosen = {
        "fold_norm": fold_norm,
        "fold_value_biases": fold_value_biases,
        "center_writing": center_writing,
        "center_unembed": center_unembed,
    }
    for step, reason in _inexact(model).items():
        if chosen[step]:
            raise SettingError(f"{reason} Pass {step}=False.")
    weights = dict(model.weights)
    config = model.config
    done = [] if model.processing == "none" else [model.processing]
    if fold_norm and NORMS[config.norm].affine:
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


def steps_that_are_exact(model: Model) -> dict[str, bool]:
    """Which steps of `process` change nothing that is computed from this model."""
    steps = ("fold_norm", "fold_value_biases", "center_writing", "center_unembed")
    exact = {step: step not in _inexact(model) for step in steps}
    # Compiled programs are read as numbers, not as probabilities: no step may shift their outputs.
    exact["center_unembed"] = exact["center_unembed"] and model.config.norm != "none"
    return exact


def _inexact(model: Model) -> dict[str, str]:
    """Steps that would change what is computed, and why."""
    config, reasons, name = model.config, dict[str, str](), model.name
    if NORMS[config.norm].affine and config.positions == "shortformer":
        reasons["fold_norm"] = (
            f"{name} adds its positions after the norm, so folding the norm would scale them too."
        )
    if config.qk_norm != "none" or config.post_norm or any(config.experts):
        reasons["fold_norm"] = (
            f"{name} has norms of queries, keys or outputs, or experts, into which nothing is "
            "folded."
        )
    if config.post_norm:
        reasons["fold_value_biases"] = f"{name} norms what its heads write."
    if NORMS[config.norm].form != "layer":
        reasons["center_writing"] = (
            f"center_writing is exact only behind a LayerNorm, and {name} has none."
        )
    if config.d_vocab_out == 1:
        reasons["center_unembed"] = f"{name} has one output; centring it would leave nothing."
    if config.logit_cap:
        reasons["center_unembed"] = f"{name} caps its logits, and a shift changes them."
    return reasons


def _fold_norm(config: ModelConfig, weights: Weights) -> ModelConfig:
    readers = {"ln_final": [("unembed.W_U", "unembed.b_U")]}
    for layer in range(config.n_layers):
        at = f"blocks.{layer}"
        readers[f"{at}.ln1"] = [(f"{at}.attn.W_{x}", f"{at}.attn.b_{x}") for x in "QKV"]
        if config.has_mlps:
            names = ("in", "gate") if config.gated else ("in",)
            readers[f"{at}.ln2"] = [(f"{at}.mlp.W_{n}", f"{at}.mlp.b_{n}") for n in names]
    for norm, matrices in readers.items():
        scale, shift = weights.pop(f"{norm}.w"), weights.pop(f"{norm}.b", None)
        scale = 1 + scale if config.norm == "rmsnorm-offset" else scale
        for weight, bias in matrices:
            matrix = weights[weight]  # [… d_model out]
            if shift is not None:
                folded = torch.einsum("d,...de->...e", shift, matrix)
                weights[bias] = folded + weights[bias] if bias in weights else folded
            weights[weight] = scale[:, None] * matrix
    return replace(config, norm=f"{config.norm.split('-')[0]}-plain")


def _fold_value_biases(config: ModelConfig, weights: Weights) -> None:
    for layer in range(config.n_layers):
        at = f"blocks.{layer}.attn"
        bias = weights.pop(f"{at}.b_V", None)
        if bias is not None:
            biases = ungrouped(bias, config.n_heads)
            folded = torch.einsum("he,hed->d", biases, weights[f"{at}.W_O"])
            weights[f"{at}.b_O"] = folded + weights.get(f"{at}.b_O", torch.zeros_like(folded))


def _center_writing(config: ModelConfig, weights: Weights) -> None:
    names = ["embed.W_E"] + (["pos_embed.W_pos"] if config.adds_positions else [])
    for layer in range(config.n_layers):
        names += [f"blocks.{layer}.{n}" for n in ("attn.W_O", "attn.b_O", "mlp.W_out", "mlp.b_out")]
    for name in names:
        if name in weights:
            weights[name] = weights[name] - weights[name].mean(dim=-1, keepdim=True)
