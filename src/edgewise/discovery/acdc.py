"""Automatic Circuit DisCovery (Conmy et al. 2023, arXiv 2304.14997, Algorithm 1).

    1. Start from the full graph H and its loss F(H).
    2. Visit receivers from the output backwards (order: `visits`).
    3. For each edge e into the receiver: if F(H \\ e) - F(H) < threshold, remove e for good.
    4. A receiver that nothing reads any more loses its edges without a test: they cannot matter.
    5. Optionally drop the nodes that no longer connect an input to the output.

F is the problem's loss: a metric where lower is better, its mean over all prompts. A removed edge
carries the problem's reference. The paper prints Eq. 2 with the sign reversed; Eq. 1, its code and
this file agree (spec section 2.5). Edges are tested incrementally unless `engine` is "plain"
(edge_tests.py, edgewise.engine); the decisions are the same. The original recomputes F(H) now and
then; here the running loss is that of the last accepted removal, the same number because runs are
deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery.edge_tests import EdgeTests, IncrementalTests, PlainTests, Rule
from edgewise.discovery.finding import Decision, Finding, OnProgress, Progress, ignore_progress
from edgewise.errors import SettingError
from edgewise.graph import Edge, Graph, Node, Port
from edgewise.problem import Problem
from edgewise.settings import ACDCSettings, HeadOrder


def acdc(
    problem: Problem, settings: ACDCSettings, on_progress: OnProgress = ignore_progress
) -> Finding:
    """The circuit that ACDC finds, with a decision for every edge tested.

    Scores are the deltas: how much removing the edge raised the loss when it was tested, 0 for
    edges removed without a test. Raises `SettingError`, `MetricError`.
    """
    if settings.prune and problem.reference.kind != "corrupted":
        raise SettingError(
            "prune drops nodes that no input reaches. With a "
            f"{problem.reference.kind!r} reference such nodes still compute something from "
            "constant biases, so pruning would change the circuit's answers. Leave prune off."
        )
    graph, rule = problem.graph, Rule.of(settings)
    keep = graph.exists.clone()
    deltas = torch.zeros(keep.shape, dtype=torch.float64)
    loss = problem.loss(Circuit.full(graph))
    tests: EdgeTests
    if settings.engine == "plain":
        tests = PlainTests(problem, settings)
    else:
        tests = IncrementalTests(problem, settings)
    trace: list[Decision] = []
    skipped = 0
    for receiver, candidates in visits(graph, settings.head_order):
        rows, column = [graph.row(edge.sender) for edge in candidates], graph.column(receiver)
        if not _is_read(graph, keep, receiver, candidates[0].is_switch):
            keep[rows, column] = False
            skipped += len(candidates)
            continue
        for outcome in tests.decide(keep, receiver, candidates, loss):
            at = rows[outcome.index], column
            keep[at], deltas[at], loss = outcome.kept, outcome.delta, outcome.loss
            trace.append(Decision(candidates[outcome.index], outcome.delta, outcome.kept, loss))
            on_progress(Progress(len(trace) + skipped, graph.n_edges, f"loss {loss:.4g}"))
    on_progress(Progress(graph.n_edges, graph.n_edges, f"loss {loss:.4g}"))
    circuit = Circuit(graph, keep)
    return Finding(
        circuit=circuit.pruned() if settings.prune else circuit,
        scores=EdgeScores(graph, deltas, "acdc", "rise of the loss when removed in sequence"),
        trace=tuple(trace),
        edge_tests=len(trace),
        edges_skipped=skipped,
        variants=tests.variants,
        margin=min((rule.distance(decision.delta) for decision in trace), default=None),
    )


def visits(graph: Graph, head_order: HeadOrder) -> Iterator[tuple[Port, list[Edge]]]:
    """Receivers in ACDC's order, each with its candidate edges in order (spec section 2.4).

    The output; then per layer from the last: the MLP; the switches of all v, k, then q ports; the
    v, k, then q ports themselves; heads descending. With parallel blocks the MLP still comes first.
    """
    senders = _senders_in_order(graph, head_order)

    def additive(port: Port) -> list[Edge]:
        column = graph.column(port)
        exists = [s for s in senders if graph.exists[graph.row(s), column] and s != port.node]
        return [Edge(sender, port) for sender in exists]

    backwards = reversed(graph.receivers)
    for _, group in groupby(backwards, key=lambda port: (port.node.layer, port.node.kind)):
        ports = list(group)
        if graph.switches and ports[0].node.kind in ("head", "attention"):
            for port in ports:
                yield port, [Edge(port.node, port)]
        for port in ports:
            yield port, additive(port)


def _senders_in_order(graph: Graph, head_order: HeadOrder) -> list[Node]:
    """Later layers first, an MLP before its layer's heads, embeddings (token first) last."""
    order: list[Node] = []
    for layer in range(graph.n_layers - 1, -1, -1):
        if graph.mlps:
            order.append(Node(layer, "mlp"))
        heads = graph.attention_nodes(layer)
        order += heads if head_order == "ascending" else heads[::-1]
    return order + [node for node in graph.senders if node.layer is None]


def _is_read(graph: Graph, keep: torch.Tensor, receiver: Port, is_switch: bool) -> bool:
    """Whether anything reads what a candidate edge feeds: its node's output, through its switch."""
    if receiver.node.kind == "logits":
        return True
    row, column = graph.row(receiver.node), graph.column(receiver)
    if not (keep & ~graph.is_switch)[row].any():
        return False
    has_switch = bool(graph.is_switch[row, column])
    return is_switch or not has_switch or bool(keep[row, column])
