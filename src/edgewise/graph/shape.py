"""What a graph takes: the shape of a model, and names of spans of positions to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from edgewise.errors import SettingError

REST = "rest"
_NOT_IN_NAMES = ("->", *"[]<>@|,:")  # they separate the parts of the names of edges and ports


@runtime_checkable
class Shape(Protocol):
    """What a graph needs to know of a model.

    `mixes_heads`: what a head writes depends on what its layer's other heads read.
    `adds_positions`: position embeddings are written to the residual stream.
    """

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def has_mlps(self) -> bool: ...
    @property
    def mixes_heads(self) -> bool: ...
    @property
    def parallel(self) -> bool: ...
    @property
    def adds_positions(self) -> bool: ...


@runtime_checkable
class HasShape(Protocol):
    @property
    def config(self) -> Shape: ...


@runtime_checkable
class HasSpans(Protocol):
    """Prompt pairs, as far as a graph looks at them."""

    @property
    def spans(self) -> Mapping[str, Any] | None: ...


def name_fault(name: object) -> str | None:
    """What is wrong with the name of a span; None if nothing is."""
    if not isinstance(name, str) or not name.strip():
        return f"a span is named {name!r}; a name must be text."
    faults = [repr(part) for part in _NOT_IN_NAMES if part in name]
    faults += [] if name.isprintable() else ["an unprintable character"]
    faults += ["white space at its ends"] if name != name.strip() else []
    if not faults:
        return None
    return f"the span name {name!r} has {faults[0]}, which names of edges cannot hold."


def checked_spans(spans: Any) -> tuple[str, ...] | None:
    """The names of a graph's spans as a tuple. Raises `SettingError` for what are no names."""
    if spans is None:
        return None
    if isinstance(spans, str) or not isinstance(spans, Sequence) or not spans:
        raise SettingError(
            f"spans is {spans!r}; it must be a list of names, such as ['S2', 'END']."
        )
    for i, name in enumerate(spans):
        fault = name_fault(name)
        if fault or name in spans[:i]:
            raise SettingError(fault or f"the span {name!r} is named twice.")
    return tuple(spans)


def span_names(spans: Sequence[str] | HasSpans | None) -> tuple[str, ...] | None:
    """The spans of a graph, "rest" last, from prompt pairs or names. Raises `SettingError`."""
    if isinstance(spans, HasSpans):
        if not spans.spans:
            raise SettingError(
                "these prompt pairs name no spans of positions. Name some where they are made "
                "(spans={'subject': …}), or leave spans out."
            )
        spans = list(spans.spans)
    names = checked_spans(spans)
    return names if names is None or REST in names else (*names, REST)
