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

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.errors import SettingError
from edgewise.graph import Graph, Node, Port
from edgewise.model import Model

_ROUNDING = 1e-6


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
    written = [_written(model, node) for node in graph.senders]
    read = [_read(model, port) for port in graph.receivers]
    largest = torch.tensor(
        [[(write @ look).abs().max().item() for look in read] for write in written]
    )
    additive = graph.exists & ~graph.is_switch
    meets = largest > _ROUNDING * largest[additive].max()
    return Circuit(graph, (additive & meets) | graph.is_switch).pruned()


def _weight(model: Model, name: str) -> Tensor | None:
    tensor = model.weights.get(name)
    return None if tensor is None else tensor.double().cpu()


def _needed(model: Model, name: str) -> Tensor:
    return model.weights[name].double().cpu()


def _written(model: Model, node: Node) -> Float[Tensor, "row d_model"]:
    at = f"blocks.{node.layer}"
    match node.kind:
        case "input":
            rows = [_needed(model, "embed.W_E")]
            if model.config.adds_positions:
                rows.append(_needed(model, "pos_embed.W_pos"))
        case "tok_embed":
            rows = [_needed(model, "embed.W_E")]
        case "pos_embed":
            rows = [_needed(model, "pos_embed.W_pos")]
        case "mlp":
            w_in, b_in = _needed(model, f"{at}.mlp.W_in"), _weight(model, f"{at}.mlp.b_in")
            can_be_on = w_in.abs().amax(dim=0) > 0
            if b_in is not None:
                can_be_on |= b_in > 0
            rows = [_needed(model, f"{at}.mlp.W_out")[can_be_on]]
            bias = _weight(model, f"{at}.mlp.b_out")
            rows += [] if bias is None else [bias[None]]
        case _:
            rows = [_moves(model, node)]
            bias = _weight(model, f"{at}.attn.b_V")
            if bias is not None:
                rows.append((bias[node.head] @ _needed(model, f"{at}.attn.W_O")[node.head])[None])
    return torch.cat([*rows, torch.zeros(1, model.config.d_model, dtype=torch.float64)])


def _read(model: Model, port: Port) -> Float[Tensor, "d_model column"]:
    at, head = f"blocks.{port.node.layer}", port.node.head
    if port.node.kind == "logits":
        return _needed(model, "unembed.W_U")
    if port.node.kind == "mlp":
        has_output = _needed(model, f"{at}.mlp.W_out").abs().amax(dim=1) > 0
        columns = _needed(model, f"{at}.mlp.W_in")[:, has_output]
        return torch.cat([columns, torch.zeros(len(columns), 1, dtype=torch.float64)], dim=1)
    if port.slot == "v":
        return _moves(model, port.node)
    own, other = ("Q", "K") if port.slot == "q" else ("K", "Q")
    mine = _needed(model, f"{at}.attn.W_{own}")[head]
    answers = [_needed(model, f"{at}.attn.W_{other}")[head].T]
    bias = _weight(model, f"{at}.attn.b_{other}")
    answers += [] if bias is None else [bias[head][:, None]]
    return mine @ torch.cat(answers, dim=1)


def _moves(model: Model, node: Node) -> Float[Tensor, "d_model d_model"]:
    at = f"blocks.{node.layer}.attn"
    return _needed(model, f"{at}.W_V")[node.head] @ _needed(model, f"{at}.W_O")[node.head]
