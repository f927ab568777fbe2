"""Other weights for the same model: TransformerLens's processing, and reset networks.

Processing changes no next-token probability, and is off by default: circuits are found in the model
as published. It matters for zero ablation, where a head's value bias counts as part of the head
unless it is folded into the constant output bias; the paper's results were made with it folded.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgewise.arguments import check_seed
from edgewise.errors import SettingError
from edgewise.model.blocks import ungrouped
from edgewise.model.config import NORMS, ModelConfig
from edgewise.model.model import Model

Weights = dict[str, Tensor]
# What each step leaves behind in records.
_STEPS = {
    "fold_norm": "norm folded",
    "fold_value_biases": "value biases folded",
    "center_writing": "writing centred",
    "center_unembed": "unembedding centred",
}
# What a reset permutes, each for itself: along heads, or along the neurons of an MLP.
_ALONG_HEADS = ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.b_Q", "attn.b_K", "attn.b_V")
_ALONG_NEURONS = ("mlp.W_in", "mlp.b_in")


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
    flags = (fold_norm, fold_value_biases, center_writing, center_unembed)
    chosen = {step for step, is_chosen in zip(_STEPS, flags, strict=True) if is_chosen}
    for step, reason in _inexact(model).items():
        if step in chosen:
            raise SettingError(f"{model.name} {reason}. Pass {step}=False.")
    weights = dict(model.weights)
    config = model.config
    if not NORMS[config.norm].affine:
        chosen.discard("fold_norm")
    if "fold_norm" in chosen:
        config = _fold_norm(config, weights)
    if "fold_value_biases" in chosen:
        _fold_value_biases(config, weights)
    centred = _written(config) if "center_writing" in chosen else []
    centred += ["unembed.W_U", "unembed.b_U"] if "center_unembed" in chosen else []
    for name in centred:
        if name in weights:
            weights[name] = weights[name] - weights[name].mean(dim=-1, keepdim=True)
    changes = [words for step, words in _STEPS.items() if step in chosen]
    return replace(model, config=config, weights=weights, processing=_recorded(model, *changes))


def steps_that_are_exact(model: Model) -> dict[str, bool]:
    """Which steps of `process` change nothing that is computed from this model."""
    exact = {step: step not in _inexact(model) for step in _STEPS}
    # Compiled programs are read as numbers, not as probabilities: no step may shift their outputs.
    exact["center_unembed"] &= model.config.norm != "none"
    return exact


def _recorded(model: Model, *changes: str) -> str:
    """What was done to the published weights, for records."""
    before = [] if model.processing == "none" else [model.processing]
    return ", ".join([*before, *changes]) or "none"


def _inexact(model: Model) -> dict[str, str]:
    """Steps that would change what is computed, and why."""
    config = model.config
    reasons = dict[str, str]()
    if NORMS[config.norm].affine and config.positions == "shortformer":
        reasons["fold_norm"] = "adds its positions after the norm, which would scale them too"
    if config.qk_norm != "none" or config.post_norm or any(config.experts):
        reasons["fold_norm"] = "has norms or experts into which nothing is folded"
    if config.post_norm:
        reasons["fold_value_biases"] = "norms what its heads write"
    if NORMS[config.norm].form != "layer":
        reasons["center_writing"] = "has no LayerNorm, behind which alone centring is exact"
    if config.d_vocab_out == 1:
        reasons["center_unembed"] = "has one output; centring it would leave nothing"
    if config.logit_cap:
        reasons["center_unembed"] = "caps its logits, and a shift changes them"
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
        scale = weights.pop(f"{norm}.w")
        shift = weights.pop(f"{norm}.b", None)
        scale = scale + NORMS[config.norm].offset
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


def _written(config: ModelConfig) -> list[str]:
    """The tensors whose rows are written to the stream."""
    names = ["embed.W_E"] + (["pos_embed.W_pos"] if config.adds_positions else [])
    parts = ("attn.W_O", "attn.b_O", "mlp.W_out", "mlp.b_out")
    return names + [f"blocks.{i}.{part}" for i in range(config.n_layers) for part in parts]


def reset_network(model: Model, seed: int) -> Model:
    """The model with heads' queries, keys and values, and MLPs' inputs, shuffled in each layer.

    A control for discovery (Conmy et al. 2023, appendix I): whatever circuit a method finds in a
    network whose parts no longer fit each other shows what comes by chance. W_Q, W_K, W_V, b_Q, b_K
    and b_V are each permuted across heads, the columns of W_in and b_in each across neurons, all by
    independent permutations; output weights and biases, embeddings and norms stay, so that norms
    and activations are much as they were. A permutation is drawn for every one of them, layer by
    layer in this order, whether or not the model has that bias. To compare circuits as the paper
    does, by their KL from the trained model:
    `problem.with_(model=reset_network(model, 0), target=model)`. Raises `SettingError`.

    >>> import edgewise as ew
    >>> model = ew.load_model("or-gate")
    >>> reset_network(model, 1).name
    'or-gate-reset-1'
    """
    seed = check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = dict(model.weights)
    config = model.config
    if any(config.experts):
        raise SettingError(f"{model.name} has experts in place of MLPs, which have no such reset.")
    sizes = dict.fromkeys(_ALONG_HEADS, config.n_heads)
    if config.has_mlps:
        sizes |= dict.fromkeys(_ALONG_NEURONS, config.d_mlp)
    for layer in range(config.n_layers):
        for name, size in sizes.items():
            at = f"blocks.{layer}.{name}"
            axis = -1 if name in _ALONG_NEURONS else 0
            n = weights[at].shape[axis] if at in weights else size  # keys may have fewer heads
            order = torch.randperm(n, generator=generator)
            if at in weights:
                weights[at] = weights[at].index_select(axis, order.to(model.device))
    changes = _recorded(model, f"reset with seed {seed}")
    name = f"{model.name}-reset-{seed}"
    return replace(model, weights=weights, name=name, processing=changes, proof={})
