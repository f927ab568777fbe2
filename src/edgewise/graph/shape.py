"""What a graph needs to know of a model, and where a model reads."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from edgewise.graph.names import Slot


class Site(NamedTuple):
    """Where a model reads, at any granularity: all heads' q (or k, v), an MLP, the output."""

    layer: int | None
    what: Literal["q", "k", "v", "mlp", "logits"]

    @property
    def slot(self) -> Slot | None:
        """Which of a head's ports; None for all else."""
        return self.what if self.what in ("q", "k", "v") else None


@runtime_checkable
class Shape(Protocol):
    """What a graph needs to know of a model."""

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def has_mlps(self) -> bool: ...
    @property
    def mixes_heads(self) -> bool:
        """Whether what a head writes depends on what its layer's other heads read."""
        ...

    @property
    def parallel(self) -> bool: ...
    @property
    def adds_positions(self) -> bool:
        """Whether position embeddings are written to the residual stream."""
        ...


@runtime_checkable
class HasShape(Protocol):
    @property
    def config(self) -> Shape: ...
