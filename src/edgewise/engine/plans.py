"""How a change goes from node to node: planned once for a receiver, run for each batch of variants.

A plan begins at one source, the removals into a receiver, and lists the live nodes that hear of it
in the order of the model's computation. Nodes of a layer that are alike are one step: their inputs
are mixed from earlier steps' outputs by one small matrix of kept edges per pair of steps, and they
are computed together, so the cost in Python grows with layers, not with heads or edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.engine.budgets import step_bytes
from edgewise.engine.consumers import Change, Consumer, Sizes
from edgewise.engine.reduced import ReducedProducts


@runtime_checkable
class Stack(Protocol):
    """Nodes that are computed together; inputs and outputs lead with them."""

    @property
    def sizes(self) -> Sizes: ...
    @property
    def consumers(self) -> tuple[tuple[Consumer, ...], ...]:
        """Who reads each of its outputs."""
        ...

    def change(
        self, more: Mapping[int, Change], reduced: ReducedProducts | None = None
    ) -> Change: ...
    def commit(self, more: Mapping[int, Change]) -> Change: ...


@runtime_checkable
class LiveNode(Protocol):
    """A node at its current value, or the heads of a layer that depend on each other.

    Columns are those of its ports in the graph: for each kind of port in order, one or one a head.
    """

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def like(self) -> tuple[Any, ...]:
        """Nodes of which this is equal can be stacked."""
        ...

    def stacked(self, nodes: Sequence[Any], hears: Mapping[int, tuple[int, ...]]) -> Stack:
        """These nodes, when ports of each kind, by their place in it, read something new."""
        ...


@dataclass(frozen=True, eq=False)
class _Route:
    """What some ports of a step read from an earlier one, through kept edges."""

    source: int  # the earlier step; 0 is where the plan begins
    mixing: Float[Tensor, "target source"] | None  # which edges; None if it is one to one
    places: Int[Tensor, "place"] | None
    at: Float[Tensor, "batch place"] | None  # 1 in the span of these edges, else 0; None is all 1

    def carry(self, change: Change) -> Change:
        """What arrives of the source's change: a new tensor, or the change itself."""
        change = self._seen(change)
        if self.mixing is None:
            return change
        return (self.mixing @ change.flatten(1)).unflatten(1, change.shape[1:])

    def _seen(self, change: Change) -> Change:
        if self.places is not None:
            change = change[:, :, :, self.places]
        return change if self.at is None else change * self.at[:, :, None]

    def add(self, change: Change, total: Change) -> None:
        """The same, added to what arrived from other steps."""
        change = self._seen(change)
        if self.mixing is None:
            total += change
        else:
            total.flatten(1).addmm_(self.mixing, change.flatten(1))


@dataclass(frozen=True, eq=False)
class _Step:
    stack: Stack
    inputs: Mapping[int, Sequence[_Route]]  # by port


class Plan:
    """The steps from a receiver's removals to the output."""

    def __init__(
        self,
        nodes: Iterable[LiveNode],
        begin: Sequence[Sequence[Consumer]],
        output: int,
        at_port: Callable[[int, int], Float[Tensor, "batch place"]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`nodes` in the order of the model's computation; `begin` hears the changes themselves.

        `at_port(span, column)` says where a span is, at the positions that a port reads.
        """
        self._dtype, self._device, self._at_port = dtype, device, at_port
        self._heard = _Heard()
        self._heard.tell(0, begin)
        self._steps: list[_Step] = []
        for _, alike in groupby(nodes, key=lambda node: node.like[:2]):
            self._plan(list(alike))
        self._output = self._routes([output])

    def _plan(self, nodes: Sequence[LiveNode]) -> None:
        """Steps of the nodes of one layer and kind, none of which hears another."""
        stacks: dict[Any, list[LiveNode]] = defaultdict(list)
        for node in nodes:
            hears = tuple(
                (i, heard)
                for i, columns in enumerate(node.columns)
                if (heard := tuple(j for j, c in enumerate(columns) if c in self._heard))
            )
            if hears:
                stacks[node.like, hears].append(node)
        steps = []
        for (_, hears), alike in stacks.items():
            inputs = {
                i: self._routes([node.columns[i][j] for node in alike for j in heard])
                for i, heard in hears
            }
            steps.append(_Step(alike[0].stacked(alike, dict(hears)), inputs))
        for step in steps:
            self._steps.append(step)
            self._heard.tell(len(self._steps), step.stack.consumers)

    def _routes(self, columns: Sequence[int]) -> list[_Route]:
        """The routes to these ports, all of which read at the same positions."""
        edges: dict[tuple[int, int | None], list[tuple[int, int]]] = defaultdict(list)
        places: dict[int, Tensor | None] = {}
        for target, column in enumerate(columns):
            for source, sender, port in self._heard.of(column):
                for span in (None,) if port.spans is None else port.spans:
                    edges[source, span].append((target, sender))
                places[source] = port.places
        return [
            _Route(
                source,
                self._mixing(pairs, len(columns), source),
                places[source],
                None if span is None else self._at_port(span, columns[0]),
            )
            for (source, span), pairs in edges.items()
        ]

    def _mixing(self, edges: Sequence[tuple[int, int]], targets: int, source: int) -> Tensor | None:
        senders = self._heard.sizes[source]
        if targets == senders and edges == [(i, i) for i in range(targets)]:
            return None
        mixing = torch.zeros(targets, senders, dtype=self._dtype)
        mixing[tuple(zip(*edges, strict=True))] = 1
        return mixing.to(self._device)

    @property
    def width(self) -> int:
        """Numbers held per variant and prompt, at most, while the plan runs."""
        sizes = [step.stack.sizes for step in self._steps]
        return sum(one.result for one in sizes) + max((one.passing for one in sizes), default=0)

    def run(
        self, change: Change, reduced: ReducedProducts | None
    ) -> Float[Tensor, "variant batch answer d_model"] | None:
        """What the output reads more, if anything; every node stays as it is.

        `change` is of each of the senders that the plan begins with.
        """
        if not self._output:
            return None
        largest = max((sum(step.stack.sizes) for step in self._steps), default=1)
        bytes_each = largest * change.shape[2] * change.element_size()
        step = max(1, step_bytes(change.device) // bytes_each)
        parts = [
            self._run(part, lambda stack, more: stack.change(more, reduced))
            for part in change.split(step, dim=1)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def commit(self, change: Change) -> Float[Tensor, "1 batch answer d_model"] | None:
        """The same for one variant, which becomes the nodes' current value. Ends the plan's use."""
        result = self._run(change, lambda stack, more: stack.commit(more))
        return result if self._output else None

    def _run(
        self, change: Tensor, step_with: Callable[[Stack, Mapping[int, Change]], Change]
    ) -> Tensor:
        changes = [change]
        for step in self._steps:
            more = {port: _sum(routes, changes) for port, routes in step.inputs.items()}
            changes.append(step_with(step.stack, more))
        return _sum(self._output, changes)[0] if self._output else change


class _Heard:
    """Which ports have heard of the change so far, and from whom."""

    def __init__(self) -> None:
        self._of: dict[int, list[tuple[int, int, Consumer]]] = defaultdict(list)
        self.sizes: list[int] = []  # senders of each step

    def tell(self, step: int, consumers: Sequence[Sequence[Consumer]]) -> None:
        """A step's senders write to their consumers."""
        assert step == len(self.sizes)
        self.sizes.append(len(consumers))
        for sender, ports in enumerate(consumers):
            for port in ports:
                self._of[port.column].append((step, sender, port))

    def __contains__(self, column: int) -> bool:
        return column in self._of

    def of(self, column: int) -> Sequence[tuple[int, int, Consumer]]:
        """(step, sender in it, how it is read) of everything this port hears."""
        return self._of.get(column, ())


def _sum(routes: Sequence[_Route], changes: Sequence[Change]) -> Change:
    """What arrives through several routes."""
    first, *others = routes
    total = first.carry(changes[first.source])
    if not others:
        return total
    if first.mixing is None:
        total = total.clone(memory_format=torch.contiguous_format)  # it may be the source's own
    for route in others:
        route.add(changes[route.source], total)
    return total
