"""Reset networks: a trained model whose parts no longer fit each other (Conmy et al. 2023, app. I).

A control for discovery: whatever circuit a method finds in a network that does nothing of the task,
its scores and curves show what comes by chance. Weights keep their values, so norms and activations
stay much as they were.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from edgewise.arguments import check_seed
from edgewise.errors import SettingError
from edgewise.model.model import Model

# Each is permuted for itself: along heads, or along the neurons of an MLP.
_ALONG_HEADS = ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.b_Q", "attn.b_K", "attn.b_V")
_ALONG_NEURONS = ("mlp.W_in", "mlp.b_in")


def reset_network(model: Model, seed: int) -> Model:
    """The model with heads' queries, keys and values, and MLPs' inputs, shuffled in each layer.

    W_Q, W_K, W_V, b_Q, b_K and b_V are each permuted across heads, the columns of W_in and b_in
    each across neurons, all by independent permutations; output weights and biases, embeddings and
    norms stay (spec section 7, what the paper's code does). A permutation is drawn for every one
    of them, layer by layer in this order, whether or not the model has that bias. To judge circuits
    as the paper does, by their KL from the trained model:
    `problem.with_(model=reset_network(model, 0), target=model)`. Raises `SettingError`.

    >>> import edgewise as ew
    >>> model = ew.load_model("or-gate")
    >>> reset_network(model, 1).name
    'or-gate-reset-1'
    """
    seed = check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    weights, config = dict(model.weights), model.config
    if any(config.experts):
        raise SettingError(f"{model.name} has experts in place of MLPs, which have no such reset.")
    for layer in range(config.n_layers):
        sizes = dict.fromkeys(_ALONG_HEADS, config.n_heads)
        if config.has_mlps:
            sizes |= dict.fromkeys(_ALONG_NEURONS, config.d_mlp)
        for name, size in sizes.items():
            at, axis = f"blocks.{layer}.{name}", -1 if name in _ALONG_NEURONS else 0
            n = weights[at].shape[axis] if at in weights else size  # keys may have fewer heads
            order = torch.randperm(n, generator=generator)
            if at in weights:
                weights[at] = weights[at].index_select(axis, order.to(model.device))
    done = [] if model.processing == "none" else [model.processing]
    return replace(
        model,
        weights=weights,
        name=f"{model.name}-reset-{seed}",
        processing=", ".join([*done, f"reset with seed {seed}"]),
        proof={},
    )
