"""Live MLPs: kept at their current value, at the positions where a kept consumer sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.consumers import Change, Consumer, Sizes
from edgewise.engine.reduced import ReducedProducts
from edgewise.model.mlps import activation, is_plain, mlp_hidden, mlp_output
from edgewise.model.norms import Transformer, layer_device, norm

# Hidden layers of more rows leave a CPU's caches, in memory fresh each time: half the speed.
_ROWS_AT_A_TIME = {"cpu": 512}


class MlpNode:
    """An MLP at the positions that matter. It is the only one of its layer: a stack of one."""

    def __init__(
        self,
        model: Transformer,
        layer: int,
        column: int,
        consumers: tuple[Consumer, ...],
        read: Float[Tensor, "batch place d_model"],
    ) -> None:
        self._model, self._layer = model, layer
        self.columns, self.consumers = ((column,),), (consumers,)
        self.like = ("mlp", layer, ())
        self._read = read
        self._wrote = mlp_output(model, layer, read)
        self._inner: tuple[Tensor, Tensor, Tensor] | None = None  # for estimates

    def stacked(self, nodes: Sequence[MlpNode], hears: Mapping[int, tuple[int, ...]]) -> MlpNode:
        """The node itself."""
        return self

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        return Sizes(result=self._read[0].numel(), passing=self._read[0].numel())

    def change(self, more: Mapping[int, Change], reduced: ReducedProducts | None = None) -> Change:
        """How the output changes when the port reads `more`; the node stays as it is.

        With `reduced`, changes are multiplied in bfloat16: an estimate.
        """
        (given,) = more[0]
        result = torch.empty_like(given)
        rows = given.shape[1] * given.shape[2]
        step = max(1, _ROWS_AT_A_TIME.get(given.device.type, given.numel()) // rows)
        for some, out in zip(given.split(step), result.split(step), strict=True):
            out.copy_(self._change(some) if reduced is None else self._estimate(some, reduced))
        return result[None]

    def _change(self, more: Float[Tensor, "_ batch _ d_model"]) -> Tensor:
        x = self._read + more
        flat = mlp_output(self._model, self._layer, x.flatten(0, 1))
        return flat.unflatten(0, x.shape[:2]) - self._wrote

    def _estimate(
        self, more: Float[Tensor, "_ batch _ d_model"], reduced: ReducedProducts
    ) -> Tensor:
        elsewhere = layer_device(self._model, self._layer) != more.device
        if elsewhere or not is_plain(self._model.config, self._layer):
            return self._change(more)
        x, at, act = self._read + more, f"blocks.{self._layer}", activation(self._model)
        normed, hidden, active = self._inner_values()
        moved = norm(self._model, f"{at}.ln2", x).sub_(normed)
        moved_hidden = reduced.times(moved, f"{at}.mlp.W_in").add_(hidden)
        return reduced.times(act(moved_hidden).sub_(active), f"{at}.mlp.W_out")

    def _inner_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """The current normed input, and the hidden layer before and after its activation."""
        if self._inner is None:
            normed = norm(self._model, f"blocks.{self._layer}.ln2", self._read)
            hidden = mlp_hidden(self._model, self._layer, normed)
            self._inner = normed, hidden, activation(self._model)(hidden)
        return self._inner

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the node's current value."""
        self._read = self._read + more[0][0, 0]
        wrote = mlp_output(self._model, self._layer, self._read)
        change, self._wrote, self._inner = wrote - self._wrote, wrote, None
        return change[None, None]
