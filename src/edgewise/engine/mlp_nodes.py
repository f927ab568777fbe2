"""Active MLPs: kept at their current value, at the positions where a kept consumer sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.engine.plans import Change, Consumer, Sizes
from edgewise.model.mlps import mlp_output
from edgewise.model.norms import Transformer

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
        self._read, self._wrote = read, mlp_output(model, layer, read)

    def stacked(self, nodes: Sequence[MlpNode], changed: Mapping[int, tuple[int, ...]]) -> MlpNode:
        """The node itself."""
        return self

    @property
    def sizes(self) -> Sizes:
        """Numbers held per variant and prompt."""
        return Sizes(result=self._read[0].numel(), passing=self._read[0].numel())

    def change(self, more: Mapping[int, Change]) -> Change:
        """How the output changes when the port reads `more`; the node stays as it is."""
        (change,) = more[0]
        result = torch.empty_like(change)
        rows = change.shape[1] * change.shape[2]
        step = max(1, _ROWS_AT_A_TIME.get(change.device.type, change.numel()) // rows)
        for part, out in zip(change.split(step), result.split(step), strict=True):
            x = self._read + part
            flat = mlp_output(self._model, self._layer, x.flatten(0, 1))
            out.copy_(flat.unflatten(0, x.shape[:2]) - self._wrote)
        return result[None]

    def commit(self, more: Mapping[int, Change]) -> Change:
        """`change` for one variant, which becomes the node's current value."""
        self._read = self._read + more[0][0, 0]
        wrote = mlp_output(self._model, self._layer, self._read)
        change, self._wrote = wrote - self._wrote, wrote
        return change[None, None]
