"""How a change goes from node to node: planned once for a receiver, run for each batch of variants.

A plan begins at one source, the removals into a receiver, and lists the active nodes that it
reaches in the order of the model's computation. Nodes of a layer that are alike are one step: their
inputs are mixed from earlier steps' outputs by one small matrix of kept edges per pair of steps,
and they are computed together, so the cost in Python grows with layers, not with heads or edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.engine.memory import step_bytes

# [node variant batch place d_model], at a port's or a node's own positions
Change = Float[Tensor, "_ _ batch _ d_model"]


class Sizes(NamedTuple):
    """Numbers that nodes hold per variant and prompt when they are computed."""

    result: int  # what they write: held as long as a node may read it
    passing: int  # what they read, held meanwhile


@dataclass(frozen=True, eq=False)
class Consumer:
    """A port that a kept edge feeds; `places` of the sender's positions it reads, None for all.

    `spans` are those at which the edge is kept, None for everywhere.
    """

    column: int
    places: Int[Tensor, "place"] | None = None
    spans: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        column: int,
        reads: Int[Tensor, "place"],
        *,
        needed: Int[Tensor, "needed"],
        kept: Sequence[bool],
    ) -> Consumer:
        """The consumer that reads at these of the positions at which its sender is needed.

        `kept` says at which spans the edge is.
        """
        places = None if len(reads) == len(needed) else torch.searchsorted(needed, reads)
        spans = None if all(kept) else tuple(i for i, is_kept in enumerate(kept) if is_kept)
        return cls(column, places, spans)


@runtime_checkable
class Stack(Protocol):
    """Nodes that are computed together; inputs and outputs lead with them."""

    @property
    def sizes(self) -> Sizes: ...
    @property
    def consumers(self) -> tuple[tuple[Consumer, ...], ...]:
        """Who reads each of its outputs."""
        ...

    def change(self, more: Mapping[int, Change]) -> Change: ...
    def commit(self, more: Mapping[int, Change]) -> Change: ...


@runtime_checkable
class ActiveNode(Protocol):
    """A node at its current value, or the heads of a layer that depend on each other.

    Columns are those of its ports in the graph: for each kind of port in order, one or one a head.
    """

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def like(self) -> tuple[Any, ...]:
        """Nodes of which this is equal can be stacked."""
        ...

    def stacked(self, nodes: Sequence[Any], changed: Mapping[int, tuple[int, ...]]) -> Stack:
        """These nodes, when ports of each kind, by their place in it, read something new."""
        ...


@dataclass(frozen=True, eq=False)
class _Route:
    """What some ports of a step read from an earlier one, through kept edges."""

    source: int  # the earlier step; 0 is where the plan begins
    mixing: Float[Tensor, "target source"] | None  # which edges; None if it is one to one
    places: Int[Tensor, "place"] | None
    span: Float[Tensor, "batch place"] | None  # 1 in the span of these edges, else 0; None: all 1

    def carry(self, change: Change) -> Change:
        """What arrives of the source's change: a new tensor, or the change itself."""
        change = self._at_places(change)
        if self.mixing is None:
            return change
        return (self.mixing @ change.flatten(1)).unflatten(1, change.shape[1:])

    def add(self, change: Change, total: Change) -> None:
        """The same, added to what arrived from other steps."""
        change = self._at_places(change)
        if self.mixing is None:
            total += change
        else:
            total.flatten(1).addmm_(self.mixing, change.flatten(1))

    def _at_places(self, change: Change) -> Change:
        if self.places is not None:
            change = change[:, :, :, self.places]
        return change if self.span is None else change * self.span[:, :, None]


@dataclass(frozen=True, eq=False)
class _Step:
    stack: Stack
    inputs: Mapping[int, Sequence[_Route]]  # by port


class Plan:
    """The steps from a receiver's removals to the output."""

    def __init__(
        self,
        nodes: Iterable[ActiveNode],
        begin: Sequence[Sequence[Consumer]],
        *,
        output: int,
        where: Callable[[int, int], Float[Tensor, "batch place"]],
        like: Tensor,
    ) -> None:
        """`nodes` in the order of the model's computation; `begin` reads the changes themselves.

        `where(span, column)` says where a span is, at the positions that a port reads; matrices are
        made `like` a tensor.
        """
        self._like, self._where = like, where
        # Who has a change, by column of who reads it: the step, the sender in it, how it is read.
        self._sources: dict[int, list[tuple[int, int, Consumer]]] = defaultdict(list)
        self._senders: list[int] = []  # how many each step has
        self._add_senders(begin)
        self._steps: list[_Step] = []
        for _, alike in groupby(nodes, key=lambda node: node.like[:2]):
            self._add_layer(list(alike))
        self._output = self._routes([output])

    def _add_layer(self, nodes: Sequence[ActiveNode]) -> None:
        """Steps of the nodes of one layer and kind, none of which reads another."""
        stacks: dict[Any, list[ActiveNode]] = defaultdict(list)
        for node in nodes:
            ports = enumerate(node.columns)
            reached = ((i, self._reached(columns)) for i, columns in ports)
            changed = tuple((i, members) for i, members in reached if members)
            if changed:
                stacks[node.like, changed].append(node)
        steps = []
        for (_, changed), alike in stacks.items():
            inputs = {
                i: self._routes([node.columns[i][j] for node in alike for j in members])
                for i, members in changed
            }
            steps.append(_Step(alike[0].stacked(alike, dict(changed)), inputs))
        for step in steps:
            self._steps.append(step)
            self._add_senders(step.stack.consumers)

    def _reached(self, columns: Sequence[int]) -> tuple[int, ...]:
        """Which of these ports the change reaches, by their place."""
        return tuple(j for j, column in enumerate(columns) if column in self._sources)

    def _add_senders(self, consumers: Sequence[Sequence[Consumer]]) -> None:
        """The senders of the next step write to their consumers."""
        step = len(self._senders)
        self._senders.append(len(consumers))
        for sender, ports in enumerate(consumers):
            for port in ports:
                self._sources[port.column].append((step, sender, port))

    def _routes(self, columns: Sequence[int]) -> list[_Route]:
        """The routes to these ports, all of which read at the same positions."""
        edges: dict[tuple[int, int | None], list[tuple[int, int]]] = defaultdict(list)
        places: dict[int, Tensor | None] = {}
        for target, column in enumerate(columns):
            for source, sender, port in self._sources.get(column, ()):
                for span in (None,) if port.spans is None else port.spans:
                    edges[source, span].append((target, sender))
                places[source] = port.places
        return [
            _Route(
                source,
                self._mixing(pairs, len(columns), source),
                places[source],
                None if span is None else self._where(span, columns[0]),
            )
            for (source, span), pairs in edges.items()
        ]

    def _mixing(self, edges: Sequence[tuple[int, int]], targets: int, source: int) -> Tensor | None:
        senders = self._senders[source]
        if targets == senders and edges == [(i, i) for i in range(targets)]:
            return None
        mixing = torch.zeros(targets, senders, dtype=self._like.dtype)
        mixing[tuple(zip(*edges, strict=True))] = 1
        return mixing.to(self._like.device)

    @cached_property
    def _sizes(self) -> Sequence[Sizes]:
        return [step.stack.sizes for step in self._steps] or [Sizes(1, 0)]

    @property
    def width(self) -> int:
        """Numbers held per variant and prompt, at most, while the plan runs."""
        return sum(size.result for size in self._sizes) + max(s.passing for s in self._sizes)

    def run(self, change: Change) -> Float[Tensor, "variant batch answer d_model"] | None:
        """What the output reads more, if anything; every node stays as it is.

        `change` is of each of the senders that the plan begins with.
        """
        if not self._output:
            return None
        bytes_each = max(map(sum, self._sizes)) * change.shape[2] * change.element_size()
        at_once = max(1, step_bytes(change.device) // bytes_each)
        parts = [self._run(part, commit=False) for part in change.split(at_once, dim=1)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def commit(self, change: Change) -> Float[Tensor, "1 batch answer d_model"] | None:
        """The same for one variant, which becomes the nodes' current value. Ends the plan's use."""
        result = self._run(change, commit=True)
        return result if self._output else None

    def _run(self, change: Tensor, *, commit: bool) -> Tensor:
        changes = [change]
        for step in self._steps:
            more = {port: _sum(routes, changes) for port, routes in step.inputs.items()}
            changes.append(step.stack.commit(more) if commit else step.stack.change(more))
        return _sum(self._output, changes)[0] if self._output else change


def _sum(routes: Sequence[_Route], changes: Sequence[Change]) -> Change:
    """What arrives through several routes."""
    first, *rest = routes
    total = first.carry(changes[first.source])
    if not rest:
        return total
    if first.mixing is None:
        total = total.clone(memory_format=torch.contiguous_format)  # it may be the source's own
    for route in rest:
        route.add(changes[route.source], total)
    return total
