"""One number per edge, what it means, and circuits selected from it."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import foreign
from edgewise.circuit.circuit import Circuit
from edgewise.errors import ScoreError, SettingError
from edgewise.graph import Edge, Graph, Node


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """A score per edge: `values[sender, receiver]`, 0 where no edge exists; larger matters more.

    `method` is the name of the method that made them, `meaning` one phrase with the unit.
    """

    graph: Graph
    values: Float[Tensor, "sender receiver"]
    method: str
    meaning: str

    def __post_init__(self) -> None:
        values, exists = self.values.detach().cpu().double(), self.graph.exists
        if values.shape != exists.shape:
            shapes = f"{tuple(values.shape)}, expected {tuple(exists.shape)}"
            raise SettingError(f"scores of shape {shapes}.")
        for row, column in (~values.isfinite() & exists).nonzero()[:1].tolist():
            edge = Edge(self.graph.senders[row], self.graph.receivers[column])
            raise ScoreError(edge.name, values[row, column].item())
        object.__setattr__(self, "values", values.where(exists, 0.0))

    @classmethod
    def load(cls, path: str | Path) -> EdgeScores:
        """The scores in a graph file of EAP-IG or MIB (.json, .pt).

        Scores of nodes are shared by the edges out of each: `top_nodes` ranks by them. Raises
        `FormatError`, also for scores of single neurons.
        """
        theirs = foreign.foreign_graph(foreign.opened(Path(path), "graph"), str(path))
        values, meaning = theirs.scores()
        return cls(theirs.graph, values, "eap-ig-file", meaning)

    def save_for_eap_ig(self, path: str | Path, *, d_model: int) -> Path:
        """Write the scores as EAP-IG and MIB read them (.json or .pt), with no edge in the graph.

        `d_model` is the model's width. Raises `SettingError` for a graph that EAP-IG has not,
        `OutputError`.
        """
        return foreign.write(Path(path), self.graph, keep=None, scores=self.values, d_model=d_model)

    def of(self, edge: Edge | str) -> float:
        """The score of one edge."""
        return float(self.values[self.graph.index(edge)])

    def of_nodes(self, *, absolute: bool = False) -> dict[Node, float]:
        """Every head's (or attention layer's) and MLP's score: the sum over the edges out of it.

        To first order that is the effect of replacing what the node writes. With `absolute` the sum
        of magnitudes, in which a node that helps here and hurts there counts. Switches, which lie
        inside a node, are left out.
        """
        sums = self._sizes(absolute).where(~self.graph.is_switch, 0.0).sum(dim=1).tolist()
        nodes = zip(self.graph.senders, sums, strict=True)
        return {node: total for node, total in nodes if node.layer is not None}

    # --- selections

    def ranked(self, *, absolute: bool = False) -> tuple[Edge, ...]:
        """Every edge, highest score first (or highest magnitude); ties in canonical order."""
        senders, receivers = self.graph.senders, self.graph.receivers
        pairs = self._best_first(absolute).tolist()
        return tuple(Edge(senders[row], receivers[column]) for column, row in pairs)

    def top(self, n: int, *, absolute: bool = False) -> Circuit:
        """The circuit of the n highest-scored edges."""
        self._check_size(n)
        columns, rows = self._best_first(absolute)[:n].T
        keep = torch.zeros_like(self.graph.exists)
        keep[rows, columns] = True
        return Circuit(self.graph, keep)

    def above(self, threshold: float, *, absolute: bool = False) -> Circuit:
        """The circuit of the edges that score at least `threshold`."""
        if math.isnan(threshold):
            raise SettingError("the threshold is nan; it must be a number.")
        return Circuit(self.graph, (self._sizes(absolute) >= threshold) & self.graph.exists)

    def top_nodes(self, n: int, *, absolute: bool = False) -> Circuit:
        """The circuit of the n best heads and MLPs: every edge between them, embeddings and output.

        Nodes rank by `of_nodes`, ties in canonical order.
        """
        scores = self.of_nodes(absolute=absolute)
        if not 0 <= n <= len(scores):
            raise SettingError(
                f"asked for {n} nodes; the graph has {len(scores)} beside embeddings and output."
            )
        best = sorted(scores, key=lambda node: -scores[node])  # stable
        return Circuit.of_nodes(self.graph, best[:n])

    def greedy(self, n: int, *, absolute: bool = False) -> Circuit:
        """Grow a circuit of n edges from the logits: always the best edge into a node in it.

        Every edge chosen lies on a path to the logits (EAP-IG's greedy selection). A port with a
        switch passes nothing on until the switch is chosen.
        """
        self._check_size(n)
        graph, losses = self.graph, -self._sizes(absolute)
        additive, keep = graph.exists & ~graph.is_switch, torch.zeros_like(graph.exists)
        columns_of: dict[Node, set[int]] = defaultdict(set)
        for column, port in enumerate(graph.receivers):
            for node in graph.fed_by(port) or (port.node,):
                columns_of[node].add(column)
        candidates: list[tuple[float, int, int]] = []  # a heap; ties in canonical order

        def offer(column: int, mask: Bool[Tensor, "sender receiver"]) -> None:
            for row in mask[:, column].nonzero().flatten().tolist():
                heapq.heappush(candidates, (float(losses[row, column]), column, row))

        def reach(node: Node) -> None:
            for column in columns_of.pop(node, ()):
                if column not in offered:  # keys and values serve a head at every span
                    offered.add(column)
                    has_switch = bool(graph.is_switch[:, column].any())
                    offer(column, graph.is_switch if has_switch else additive)

        offered: set[int] = set()
        for output in graph.at_spans(Node(None, "logits")):
            reach(output)
        for _ in range(n):
            _, column, row = heapq.heappop(candidates)
            keep[row, column] = True
            if graph.is_switch[row, column]:
                offer(column, additive)
            reach(graph.senders[row])
        return Circuit(graph, keep)

    def _sizes(self, absolute: bool) -> Float[Tensor, "sender receiver"]:
        return self.values.abs() if absolute else self.values

    def _best_first(self, absolute: bool) -> Tensor:
        """(column, row) of the edges, best first. No names: a large graph has millions of edges."""
        values = self._sizes(absolute).T[self.graph.exists.T]
        order = torch.sort(values, descending=True, stable=True).indices
        return self.graph.exists.T.nonzero()[order]

    def _check_size(self, n: int) -> None:
        if not 0 <= n <= self.graph.n_edges:
            raise SettingError(f"asked for {n} edges; the graph has {self.graph.n_edges}.")
