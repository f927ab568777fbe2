"""What the senders have written so far in one run: the residual stream, taken apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.graph import Graph
from edgewise.model.sent import Heads, Part, Sent


class Outputs:
    """The sender outputs of one run, in the graph's rows, and the constant biases beside them.

    A layer's heads are kept before the output projection (d_head, not d_model) and projected one by
    one only when somebody asks for single senders (`sent`), so a run that reads the plain residual
    stream costs no more than an ordinary forward pass.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constant: Float[Tensor, "d_model"] | None = None  # output biases of attention, summed
        self.parts: list[Part] = []  # written so far
        self._residual: Tensor | None = None
        self._n_summed = 0

    # --- writing, in the order of the model's computation

    def write_embeddings(
        self,
        token: Float[Tensor, "batch pos d_model"],
        position: Float[Tensor, "batch pos d_model"] | None,
    ) -> None:
        """Write the embedding sender(s): apart or summed, as the graph has them."""
        self.parts.append(self._embeddings(token, position))

    def mixed(self, z: Float[Tensor, "head batch pos d_head"]) -> None:
        """Be told what a layer's heads mixed, before a norm of what they write; nothing to do."""

    def write_heads(
        self,
        z: Float[Tensor, "head batch pos d_head"],
        weight: Float[Tensor, "head d_head d_model"],
        bias: Float[Tensor, "d_model"] | None,
    ) -> None:
        """Write a layer's heads; the output bias is no head's, it is a constant (spec 1.1)."""
        self.parts.append(Heads(z, weight, self.graph.split_heads))
        if bias is not None:
            self._add_constant(bias)

    def _add_constant(self, bias: Float[Tensor, "d_model"]) -> None:
        bias = bias.to(self.residual.device)
        self.constant = bias if self.constant is None else self.constant + bias
        self._residual = self.residual + bias

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, its output bias included."""
        self.parts.append(value[None])

    # --- reading

    @property
    def residual(self) -> Float[Tensor, "batch pos d_model"]:
        """The plain residual stream: the sum of everything written, and the constants."""
        for part in self.parts[self._n_summed :]:
            total = part.total() if isinstance(part, Heads) else part.sum(dim=0)
            self._residual = total if self._residual is None else self._residual + total
        self._n_summed = len(self.parts)
        assert self._residual is not None  # embeddings are written before anything reads
        return self._residual

    @property
    def sent(self) -> Sent:
        """Every sender written so far, in the graph's rows."""
        return Sent(self.parts)

    def _embeddings(self, token: Tensor, position: Tensor | None) -> Tensor:
        if self.graph.split_embed:
            assert position is not None  # Graph.of refuses split_embed where nothing is added
            return torch.stack([token, position])
        return (token if position is None else token + position)[None]


class ReplacedOutputs(Outputs):
    """Outputs in which some neighbouring senders write given values instead of their own.

    `values` are the given rows of senders, from `first` on: all embeddings, all heads of a layer,
    or one MLP.
    """

    def __init__(
        self, graph: Graph, first: int, values: Float[Tensor, "sender batch pos d_model"]
    ) -> None:
        super().__init__(graph)
        self._first, self._values = first, values
        self._next = 0  # the row written next

    def write_embeddings(
        self,
        token: Float[Tensor, "batch pos d_model"],
        position: Float[Tensor, "batch pos d_model"] | None,
    ) -> None:
        """Write the embedding sender(s), or what is given for them."""
        if not self._replaces(2 if self.graph.split_embed else 1):
            super().write_embeddings(token, position)

    def write_heads(
        self,
        z: Float[Tensor, "head batch pos d_head"],
        weight: Float[Tensor, "head d_head d_model"],
        bias: Float[Tensor, "d_model"] | None,
    ) -> None:
        """Write a layer's heads, or what is given for them; the bias is no head's."""
        if not self._replaces(len(z) if self.graph.split_heads else 1):
            super().write_heads(z, weight, bias)
        elif bias is not None:
            self._add_constant(bias)

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, or what is given for it."""
        if not self._replaces(1):
            super().write_mlp(value)

    def _replaces(self, n: int) -> bool:
        first, self._next = self._next, self._next + n
        if first != self._first:
            return False
        self.parts.append(self._values)
        return True
