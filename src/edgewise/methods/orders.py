"""ACDC and its tests in another order of heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from edgewise.graph import Graph, Node
from edgewise.methods.acdc import run_search
from edgewise.methods.acdc_test import tested_search
from edgewise.methods.journal import NO_JOURNAL
from edgewise.methods.method_result import MethodResult
from edgewise.methods.search import Visit
from edgewise.methods.visits import visits
from edgewise.problem import Problem
from edgewise.progress import ignore_progress

ORDERED: dict[str, Callable[..., MethodResult]] = {"acdc": run_search, "acdc-test": tested_search}


def ordered_search(
    problem: Problem, method: str, settings: Any, plan: Sequence[Visit]
) -> MethodResult:
    """What one of `ORDERED` finds when it visits and tests in the order of `plan`."""
    return ORDERED[method](problem, settings, plan, ignore_progress, NO_JOURNAL)


def shuffled_visits(graph: Graph, generator: torch.Generator) -> list[Visit]:
    """ACDC's order with the heads of each layer in random order, as senders and as receivers.

    Layers, and q, k and v, keep their order: everything that reads a node is still visited before
    the edges into it.
    """
    order: dict[Node, int] = {}  # of heads, at any span
    for layer in range(graph.n_layers):
        heads = graph.attention_nodes(layer)
        places = torch.randperm(len(heads), generator=generator).tolist()
        order |= dict(zip(heads, places, strict=True))
    plan = []
    usual = [Visit(*visit) for visit in visits(graph, "descending")]
    for _, same in groupby(usual, key=lambda v: _kind(v)):
        for visit in sorted(same, key=lambda v: _place(order, v.receiver.node)):  # stable
            candidates: list[Any] = []
            for _, edges in groupby(
                visit.candidates, key=lambda e: (e.sender.layer, e.sender.kind)
            ):
                candidates += sorted(edges, key=lambda e: _place(order, e.sender))
            plan.append(Visit(visit.receiver, candidates))
    return plan


def _place(order: Mapping[Node, int], node: Node) -> int:
    return order.get(replace(node, span=None), 0)


def _kind(visit: Visit) -> tuple[Any, ...]:
    """What visits have in common that differ in their head alone."""
    port = visit.receiver
    return port.node.layer, port.node.kind, port.slot, visit.candidates[0].is_switch
