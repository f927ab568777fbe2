"""A run with a mask on every unit: x becomes m x + (1 - m) ablation (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

from jaxtyping import Float
from torch import Tensor

from edgewise.graph import Graph, Site
from edgewise.methods.units import UnitAblation, UnitValues, unit_weights, units_of
from edgewise.model.attention import Vectors
from edgewise.model.outputs import Outputs
from edgewise.problem import Problem

# The masks of a site, where they act: [head batch pos 1], or with batch and pos of 1.
Weights = Callable[..., Tensor]


class UnitMasking:
    """One mask per unit, shared by prompts, positions and channels."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    @property
    def n_masks(self) -> int:
        return len(units_of(self._problem.graph))

    @cached_property
    def _ablations(self) -> list[UnitValues]:
        source = UnitAblation(self._problem)
        batches = self._problem.evaluator(self._problem.graph).batches
        return [source.values(batch.pairs) for batch in batches]

    def at(self, batch: int, masks: Float[Tensor, "mask"]) -> tuple[UnitMaskReader, Outputs]:
        """What runs micro-batch number `batch` with these masks."""
        graph, model = self._problem.graph, self._problem.model
        pairs = self._problem.evaluator(graph).batches[batch].pairs
        spans = pairs.at_spans(graph.spans).to(model.device)
        weights = partial(unit_weights, graph, masks.to(model.dtype), spans=spans)
        ablation = self._ablations[batch]
        return UnitMaskReader(weights, ablation), _MaskedMLPs(graph, weights, ablation)

    def name(self, mask: int) -> str:
        """The unit of a mask."""
        return units_of(self._problem.graph)[mask].name


class UnitMaskReader:
    """Every port reads the plain residual stream; vectors are mixed with their ablation."""

    def __init__(self, weights: Weights, ablation: UnitValues) -> None:
        self._weights, self._ablation = weights, ablation

    def read(self, outputs: Outputs, site: Site) -> Float[Tensor, "1 batch pos d_model"]:
        return outputs.residual[None]

    def vector(self, site: Site, fresh: Vectors) -> Vectors:
        return _mixed(self._weights(site=site), fresh, self._ablation.get(site))


class _MaskedMLPs(Outputs):
    """Outputs in which MLPs' values are mixed with their ablation."""

    def __init__(self, graph: Graph, weights: Weights, ablation: UnitValues) -> None:
        super().__init__(graph)
        self._weights, self._ablation, self._layer = weights, ablation, 0

    def write_mlp(self, value: Float[Tensor, "batch pos d_model"]) -> None:
        """Write an MLP's output, as far as it is kept."""
        site = Site(self._layer, "mlp")
        self._layer += 1
        mixed = _mixed(self._weights(site=site), value[None], self._ablation.get(site))
        super().write_mlp(mixed[0])


def _mixed(masks: Tensor, live: Tensor, ablation: Tensor | None) -> Tensor:
    return masks * live if ablation is None else masks * live + (1 - masks) * ablation
