"""Products of changes with weights in bfloat16: the rounding scales with the change."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from edgewise.model.norms import Transformer


class ReducedProducts:
    """Weights of a model in bfloat16, made when first used and kept: half a float32 model."""

    def __init__(self, model: Transformer) -> None:
        self._weights = model.weights
        self._reduced: dict[str, Tensor] = {}

    def times(self, x: Float[Tensor, "*rows width"], name: str) -> Float[Tensor, "*rows out"]:
        """x times the matrix called `name`, in x's dtype."""
        return (x.bfloat16() @ self._weight(name)).to(x.dtype)

    def _weight(self, name: str) -> Tensor:
        if name not in self._reduced:
            self._reduced[name] = self._weights[name].bfloat16()
        return self._reduced[name]
