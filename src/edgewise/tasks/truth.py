"""The structural truth of a model without norms: which edges its weights can use at all.

    1. A sender's written subspace: the rows it can add to the stream. Embeddings: their rows. A
       head: W_V W_O, what it can move, and b_V W_O. An MLP: the rows of W_out of neurons that can
       be on, and b_out.
    2. A receiver's read subspace: the columns it looks at. Queries: W_Q W_K^T, because a query
       direction that no key answers is not read; keys likewise; values: W_V W_O. An MLP: the
       columns of W_in of neurons that have an output. The output: W_U.
    3. An edge is possible if something written meets something read: write @ read is not zero.
    4. It is real if it also lies on a path from an embedding to the output. A switch is real if a
       real edge enters its port.

Nothing here runs the model or looks at a discovery method. Weights that compiled programs leave at
rounding level (1e-6 of the largest product) count as zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.errors import SettingError
from edgewise.graph import Graph, Node, Port
from edgewise.model import Model

_ROUNDING = 1e-6
_Weights = Mapping[str, Tensor]


def structural_truth(model: Model, graph: Graph | None = None) -> Circuit:
    """The edges of `graph` (default: the model's) that the weights can use. See the module's text.

    Raises `SettingError` for models with norms, which mix every direction with every other, and for
    graphs whose ports or nodes are joined.
    """
    graph = model.graph if graph is None else graph
    if model.config.norm != "none":
        raise SettingError(f"{model.name} has norms; structural truth is for compiled programs.")
    if not (graph.split_heads and graph.split_qkv):
        raise SettingError("structural truth needs a graph of heads with split q/k/v.")
    weights = {name: tensor.double().cpu() for name, tensor in model.weights.items()}
    written = [_written(weights, node) for node in graph.senders]
    read = [_read(weights, port) for port in graph.receivers]
    largest = torch.tensor(
        [[(rows @ columns).abs().max().item() for columns in read] for rows in written]
    )
    additive = graph.exists & ~graph.is_switch
    meets = largest > _ROUNDING * largest[additive].max()
    return Circuit(graph, (additive & meets) | graph.is_switch).pruned()


def _written(weights: _Weights, node: Node) -> Float[Tensor, "row d_model"]:
    at = f"blocks.{node.layer}"
    if node.kind in ("input", "tok_embed", "pos_embed"):
        names = {"tok_embed": ["embed.W_E"], "pos_embed": ["pos_embed.W_pos"]}
        both = ["embed.W_E", "pos_embed.W_pos"]
        rows = [weights[name] for name in names.get(node.kind, both) if name in weights]
    elif node.kind == "mlp":
        w_in, w_out = weights[f"{at}.mlp.W_in"], weights[f"{at}.mlp.W_out"]
        can_be_on = w_in.abs().amax(dim=0) > 0
        if f"{at}.mlp.b_in" in weights:
            can_be_on |= weights[f"{at}.mlp.b_in"] > 0
        biases = [f"{at}.mlp.b_out"] if f"{at}.mlp.b_out" in weights else []
        rows = [w_out[can_be_on], *(weights[name][None] for name in biases)]
    else:
        rows = [_moves(weights, node)]
        if f"{at}.attn.b_V" in weights:
            head = node.head
            rows.append((weights[f"{at}.attn.b_V"][head] @ weights[f"{at}.attn.W_O"][head])[None])
    return _never_empty(torch.cat(rows), 0)


def _read(weights: _Weights, port: Port) -> Float[Tensor, "d_model column"]:
    at, head = f"blocks.{port.node.layer}", port.node.head
    if port.node.kind == "logits":
        return weights["unembed.W_U"]
    if port.node.kind == "mlp":
        has_output = weights[f"{at}.mlp.W_out"].abs().amax(dim=1) > 0
        return _never_empty(weights[f"{at}.mlp.W_in"][:, has_output], 1)
    if port.slot == "v":
        return _moves(weights, port.node)
    own, answering = ("Q", "K") if port.slot == "q" else ("K", "Q")
    columns = [weights[f"{at}.attn.W_{answering}"][head].T]
    if f"{at}.attn.b_{answering}" in weights:
        columns.append(weights[f"{at}.attn.b_{answering}"][head][:, None])
    return weights[f"{at}.attn.W_{own}"][head] @ torch.cat(columns, dim=1)


def _moves(weights: _Weights, node: Node) -> Float[Tensor, "d_model d_model"]:
    at = f"blocks.{node.layer}.attn"
    return weights[f"{at}.W_V"][node.head] @ weights[f"{at}.W_O"][node.head]


def _never_empty(matrix: Tensor, dim: int) -> Tensor:
    """The matrix with a row or column of zeros, of which a maximum can be taken."""
    return torch.cat([matrix, torch.zeros_like(matrix.sum(dim=dim, keepdim=True))], dim=dim)
