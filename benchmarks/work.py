"""Work of ACDC counted from its decisions: what one edge test costs, for each receiver.

A node evaluation is one head or MLP, computed for one variant on all prompts. FLOPs are those of
matrix products, 2 for each multiply-add; norms, softmax, activations and sums are left out. Per
prompt, for a node that is computed at Q positions, with N keys of which K can differ:

    q          2 Q d_model d_head           if what queries read changed
    k, v       2 K d_model d_head each      if what keys, values read changed
    attention  4 Q N d_head                 scores and mixing, if queries or keys changed
               2 Q K d_head                 mixing, if only values did
    output     2 Q d_head d_model
    MLP        4 Q d_model d_mlp
    logits     2 A d_model d_vocab          at A positions
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import edgewise as ew
from edgewise.engine import ReceiverStep, Removals
from edgewise.methods.method_result import Decision

Touched = Bool[Tensor, "tested receiver"]  # which ports read something else in a test


class Extent(NamedTuple):
    """How many positions a node is computed at, and reads keys and values at."""

    queries: int
    keys: int  # that can differ
    n_keys: int


class Costs(NamedTuple):
    """What one test of an edge into each receiver costs."""

    nodes: Float[Tensor, "receiver"]
    flops: Float[Tensor, "receiver"]


def kept_edges(graph: ew.Graph, trace: Sequence[Decision]) -> Bool[Tensor, "sender receiver"]:
    """The edges that a trace has kept; those skipped or not yet decided are not among them."""
    keep = torch.zeros_like(graph.exists)
    for decision in trace:
        keep[graph.index(decision.edge)] = decision.kept
    return keep


def reached(graph: ew.Graph, edges: Bool[Tensor, "sender receiver"]) -> Touched:
    """Which ports a change of what one port reads gets to along these edges, itself included."""
    result = torch.eye(len(graph.receivers), dtype=torch.bool)
    ports = ports_of(graph)
    for node in reversed(graph.senders):  # what reads a node comes after it
        consumers = edges[graph.row[node]]
        if node in ports and consumers.any():
            result[ports[node]] |= result[consumers].any(dim=0)
    return result


def whole_nodes(graph: ew.Graph, touched: Touched) -> Touched:
    """All ports of every node that has a port touched."""
    result = touched.clone()
    for columns in ports_of(graph).values():
        result[:, columns] = touched[:, columns].any(dim=1, keepdim=True)
    return result


def everywhere(problem: ew.Problem) -> dict[ew.Node, Extent]:
    """All positions for every node."""
    n = problem.pairs.n_positions
    return {node: Extent(n, n, n) for node in problem.graph.senders}


def where_needed(
    problem: ew.Problem, keep: Bool[Tensor, "sender receiver"]
) -> dict[ew.Node, Extent]:
    """The positions that engine/batch.py computes each node at that a kept edge reads."""
    graph, pairs, n = problem.graph, problem.pairs, problem.pairs.n_positions
    causal = problem.model.config.causal
    assert pairs.corrupted is not None
    first = int((pairs.clean != pairs.corrupted).any(dim=0).int().argmax()) if causal else 0
    reads = torch.zeros(len(graph.receivers), n, dtype=torch.bool)
    reads[-1] = pairs.answer_at.any(dim=0)
    ports, extents = ports_of(graph), {}
    for node in reversed(graph.senders):
        needed = reads[keep[graph.row[node]]].any(dim=0)
        if node not in ports or not needed.any():
            continue
        columns = ports[node]
        reads[columns[0]] = needed  # the queries, or the MLP
        last = int(needed.nonzero().max()) + 1 if causal else n
        start = min(first, last - 1)
        for column in columns[1:]:
            reads[column, start:last] = True
        extents[node] = Extent(int(needed.sum()), last - start, last)
    return extents


def costs(
    problem: ew.Problem, touched: Touched, extents: Mapping[ew.Node, Extent], n_logits: int
) -> Costs:
    """Each receiver's cost when a test computes what is touched, and this many rows of logits."""
    graph, c = problem.graph, problem.model.config
    if not (graph.split_qkv and graph.split_heads):
        raise ValueError("the formulas are for heads with split q/k/v")
    nodes = torch.zeros(len(touched), dtype=torch.float64)
    flops = torch.full_like(nodes, 2.0 * n_logits * c.d_model * c.d_vocab_out)
    for node, columns in ports_of(graph).items():
        if node not in extents:
            continue
        n_queries, n_different, n_keys = extents[node]
        changed = touched[:, columns].to(torch.float64)
        some = changed.amax(dim=1)
        if node.kind == "mlp":
            one = some * 4 * n_queries * c.d_model * c.d_mlp
        else:
            q, k, v = changed.unbind(dim=1)
            one = 2 * c.d_model * c.d_head * (n_queries * q + n_different * (k + v))
            scored = torch.maximum(q, k)
            one += 4 * n_queries * n_keys * c.d_head * scored
            one += 2 * n_queries * n_different * c.d_head * (some - scored)
            one += 2 * n_queries * c.d_head * c.d_model * some
        nodes += some
        flops += len(problem.pairs) * one
    return Costs(nodes, flops)


def incremental_costs(problem: ew.Problem, trace: Sequence[Decision]) -> Costs:
    """What one test costs the incremental engine, in the state the trace left."""
    keep = kept_edges(problem.graph, trace)
    n_logits = int(problem.pairs.answer_at.sum())
    return costs(problem, reached(problem.graph, keep), where_needed(problem, keep), n_logits)


def from_scratch(problem: ew.Problem, n_logits: int) -> Costs:
    """What one circuit costs that is run as a whole."""
    n = len(problem.graph.receivers)
    return costs(problem, torch.ones(n, n, dtype=torch.bool), everywhere(problem), n_logits)


def all_evaluated(
    problem: ew.Problem, trace: Sequence[Decision], count: Evaluated, forward_passes: int
) -> tuple[int, float]:
    """Node evaluations and FLOPs of a run: removals, making some final, and whole circuits."""
    config, n_logits = problem.model.config, int(problem.pairs.answer_at.sum())
    one, whole = incremental_costs(problem, trace), from_scratch(problem, n_logits)
    variants = per_receiver(problem.graph, count.variants)
    lost = {decision.edge.receiver for decision in trace if not decision.kept}
    final = per_receiver(problem.graph, dict.fromkeys(lost, 1))
    unembedding = 2.0 * n_logits * config.d_model * config.d_vocab_out  # not to make them final
    nodes = ((variants + final) * one.nodes).sum() + forward_passes * whole.nodes[0]
    flops = (variants * one.flops + final * (one.flops - unembedding)).sum()
    return int(nodes), float(flops + forward_passes * whole.flops[0])


def per_receiver(graph: ew.Graph, counts: Mapping[ew.Port, int]) -> Float[Tensor, "receiver"]:
    """Counts in the order of the graph's receivers."""
    return torch.tensor([counts.get(p, 0) for p in graph.receivers], dtype=torch.float64)


def ports_of(graph: ew.Graph) -> dict[ew.Node, list[int]]:
    """The columns of each node's ports: q, k, v of a head; the output, which has no row, aside."""
    result: dict[ew.Node, list[int]] = {}
    for column, port in enumerate(graph.receivers[:-1]):
        result.setdefault(port.node, []).append(column)
    return result


@dataclass
class Evaluated:
    """Removals that engines have evaluated, those in vain included, by receiver."""

    variants: Counter[ew.Port] = field(default_factory=Counter)
    started: float | None = None  # time.perf_counter() of the first

    def note(self, receiver: ew.Port, n: int) -> None:
        self.started = time.perf_counter() if self.started is None else self.started
        self.variants[receiver] += n


_EVALUATING = ("losses", "estimates")


@contextmanager
def evaluated() -> Iterator[Evaluated]:
    """Count what the engines evaluate from here on."""
    count, methods = Evaluated(), {name: getattr(Removals, name) for name in _EVALUATING}

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Removals, step: ReceiverStep, *batches: Any) -> Any:
            count.note(step.receiver, sum(map(len, batches)))
            return method(self, step, *batches)

        return call

    for name, method in methods.items():
        setattr(Removals, name, counted(method))
    try:
        yield count
    finally:
        for name, method in methods.items():
            setattr(Removals, name, method)
