"""One number per edge, what it means, and circuits selected from it."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import foreign
from edgewise.circuit.circuit import Circuit
from edgewise.errors import FormatError, ScoreError, SettingError
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
        expected = (len(self.graph.senders), len(self.graph.receivers))
        if tuple(self.values.shape) != expected:
            raise SettingError(f"scores of shape {tuple(self.values.shape)}, expected {expected}.")
        values = self.values.detach().cpu().double()
        if not values[self.graph.exists].isfinite().all():
            row, column = (~values.isfinite() & self.graph.exists).nonzero()[0].tolist()
            edge = Edge(self.graph.senders[row], self.graph.receivers[column])
            raise ScoreError(edge.name, values[row, column].item())
        object.__setattr__(self, "values", values.where(self.graph.exists, 0.0))

    @classmethod
    def load(cls, path: str | Path) -> EdgeScores:
        """The scores in a graph file of EAP-IG or MIB (.json, .pt).

        Scores of nodes are shared by the edges out of each: `top_nodes` ranks by them. Raises
        `FormatError`, also for scores of single neurons.
        """
        path = Path(path)
        document = foreign.opened(path, "graph")
        if not foreign.is_foreign(document):
            raise FormatError(f"{path}: not a graph file of EAP-IG or MIB: it has no 'cfg'.")
        theirs = foreign.foreign_graph(document, str(path))
        values, meaning = theirs.scores()
        try:
            return cls(theirs.graph, values, "eap-ig-file", meaning)
        except ScoreError as reason:
            raise FormatError(f"{path}: {reason}") from reason

    def save_for_eap_ig(self, path: str | Path, *, d_model: int) -> Path:
        """Write the scores as EAP-IG and MIB read them (.json or .pt), with no edge in the graph.

        `d_model` is the model's width. Raises `SettingError` for a graph that EAP-IG has not,
        `OutputError`.
        """
        return foreign.write(Path(path), self.graph, keep=None, scores=self.values, d_model=d_model)

    def of(self, edge: Edge | str) -> float:
        """The score of one edge."""
        return float(self.values[self.graph.index(edge)])

    def ranked(self, *, absolute: bool = False) -> tuple[Edge, ...]:
        """Every edge, highest score first (or highest magnitude); ties in canonical order."""
        edges = self.graph.edges
        return tuple(edges[i] for i in self._order(absolute).tolist())

    def top(self, n: int, *, absolute: bool = False) -> Circuit:
        """The circuit of the n highest-scored edges."""
        self._check_size(n)
        # By positions, not by names: a sweep over sizes of a large graph would wait for those.
        entries = self.graph.exists.T.nonzero()[self._order(absolute)[:n]]
        keep = torch.zeros_like(self.graph.exists)
        keep[entries[:, 1], entries[:, 0]] = True
        return Circuit(self.graph, keep)

    def above(self, threshold: float, *, absolute: bool = False) -> Circuit:
        """The circuit of the edges that score at least `threshold`."""
        if math.isnan(threshold):
            raise SettingError("the threshold is nan; it must be a number.")
        values = self.values.abs() if absolute else self.values
        return Circuit(self.graph, (values >= threshold) & self.graph.exists)

    def greedy(self, n: int, *, absolute: bool = False) -> Circuit:
        """Grow a circuit of n edges from the logits: always the best edge into a node already in
        it.

        Every edge chosen lies on a path to the logits (EAP-IG's greedy selection).
        """
        self._check_size(n)
        values = self.values.abs() if absolute else self.values
        columns_of: dict[object, list[int]] = {}
        for column, port in enumerate(self.graph.receivers):
            for node in self.graph.fed_by(port) or (port.node,):
                columns_of.setdefault(node, []).append(column)
        heap: list[tuple[float, int, int]] = []
        seen, offered = set(), set()

        additive = self.graph.exists & ~self.graph.is_switch

        def offer(column: int, mask: Tensor) -> None:
            for row in mask[:, column].nonzero().flatten().tolist():
                heapq.heappush(heap, (-float(values[row, column]), column, row))

        def reach(node: object) -> None:
            if node in seen:
                return
            seen.add(node)
            for column in columns_of.get(node, ()):
                if column in offered:
                    continue  # keys and values serve a head at every span
                offered.add(column)
                # A port with a switch passes nothing on until the switch is chosen.
                has_switch = bool(self.graph.is_switch[:, column].any())
                offer(column, self.graph.is_switch if has_switch else additive)

        for output in self.graph.at_spans(self.graph.whole.receivers[-1].node):
            reach(output)
        keep = torch.zeros_like(self.graph.exists)
        for _ in range(n):
            _, column, row = heapq.heappop(heap)
            keep[row, column] = True
            if self.graph.is_switch[row, column]:
                offer(column, additive)
            reach(self.graph.senders[row])
        return Circuit(self.graph, keep)

    def of_nodes(self, *, absolute: bool = False) -> dict[Node, float]:
        """Every head's (or attention layer's) and MLP's score: the sum over the edges out of it.

        To first order that is the effect of replacing what the node writes. With `absolute` the sum
        of magnitudes, in which a node that helps here and hurts there counts. Switches, which lie
        inside a node, are left out.
        """
        values = self.values.where(~self.graph.is_switch, 0.0)
        sums = (values.abs() if absolute else values).sum(dim=1).tolist()
        nodes = zip(self.graph.senders, sums, strict=True)
        return {node: total for node, total in nodes if node.layer is not None}

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

    def _order(self, absolute: bool) -> Tensor:
        """Canonical positions of the edges, best first."""
        values = self.values.T[self.graph.exists.T]
        values = values.abs() if absolute else values
        return torch.sort(values, descending=True, stable=True).indices

    def _check_size(self, n: int) -> None:
        if not 0 <= n <= self.graph.n_edges:
            raise SettingError(f"asked for {n} edges; the graph has {self.graph.n_edges}.")
