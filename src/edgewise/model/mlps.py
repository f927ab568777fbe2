"""MLPs: dense, gated, or a mixture of experts, from what their port reads to what they write."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from edgewise.model.config import Experts
from edgewise.model.norms import Transformer, layer_device, norm
from edgewise.model.parts import ACTIVATIONS


def mlp_output(
    model: Transformer, layer: int, x: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_model"]:
    """An MLP's output, its output bias and output norm included, from what its port reads."""
    at, config, home = f"blocks.{layer}", model.config, x.device
    x = x.to(layer_device(model, layer))
    normed, experts = norm(model, f"{at}.ln2", x), config.experts_of(layer)
    if experts is not None:
        wrote = _mixture(model, f"{at}.mlp", experts, normed.flatten(0, -2)).view(x.shape)
    else:
        wrote = _affine(_active(model, layer, normed), model, f"{at}.mlp.W_out", f"{at}.mlp.b_out")
    return (norm(model, f"{at}.ln2_post", wrote) if config.post_norm else wrote).to(home)


def _active(model: Transformer, layer: int, normed: Tensor) -> Tensor:
    """The hidden layer, after the activation function."""
    hidden = mlp_hidden(model, layer, normed)
    if not model.config.gated:
        return activation(model)(hidden)
    at = f"blocks.{layer}.mlp"
    return activation(model)(_affine(normed, model, f"{at}.W_gate", f"{at}.b_gate")) * hidden


def mlp_hidden(
    model: Transformer, layer: int, normed: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_mlp"]:
    """What a plain MLP's activation function is given, from its normed input."""
    at = f"blocks.{layer}.mlp"
    return _affine(normed, model, f"{at}.W_in", f"{at}.b_in")


def activation(model: Transformer) -> Callable[[Tensor], Tensor]:
    """The activation function of the model's MLPs."""
    return ACTIVATIONS[model.config.activation]


def _affine(x: Tensor, model: Transformer, weight: str, bias: str) -> Tensor:
    result = x @ model.weights[weight]
    return result + model.weights[bias] if bias in model.weights else result


def _mixture(
    model: Transformer, at: str, experts: Experts, x: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_model"]:
    """The weighted sum of the experts that the router chooses for each token."""
    weights, act = model.weights, activation(model)
    wide = torch.promote_types(x.dtype, torch.float32)
    shares = functional.linear(x, weights[f"{at}.router"]).to(wide).softmax(dim=-1)
    shares, chosen = shares.topk(experts.active, dim=-1)  # [row active]
    if experts.normalised:
        shares = shares / shares.sum(dim=-1, keepdim=True)
    shares, result = shares.to(x.dtype), torch.zeros_like(x)
    for expert in chosen.unique().tolist():
        row, rank = (chosen == expert).nonzero(as_tuple=True)
        both = functional.linear(x[row], weights[f"{at}.experts.gate_up"][expert])
        gate, up = both.chunk(2, dim=-1)
        wrote = functional.linear(act(gate) * up, weights[f"{at}.experts.down"][expert])
        result = result.index_add(0, row, wrote * shares[row, rank, None])
    if not experts.d_shared:
        return result
    shared = act(x @ weights[f"{at}.shared.W_gate"]) * (x @ weights[f"{at}.shared.W_in"])
    share = (x @ weights[f"{at}.shared.W_share"]).sigmoid()
    return result + share * (shared @ weights[f"{at}.shared.W_out"])
