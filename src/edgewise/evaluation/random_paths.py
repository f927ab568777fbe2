"""Random paths from an embedding to the output, and circuits made of them."""

from __future__ import annotations

import numpy as np
import torch

from edgewise.circuit import Circuit
from edgewise.graph import Graph


class RandomPaths:
    """Draws paths of a graph: from a random embedding, always on along a random edge.

    Where a port has a switch, the path takes it along, or nothing would get through.
    """

    def __init__(self, graph: Graph, seed: int, *stream: int) -> None:
        self._graph, self._random = graph, np.random.default_rng([seed, *stream])
        additive = graph.exists & ~graph.is_switch
        self._next = [row.nonzero().flatten().tolist() for row in additive]
        self._starts = [graph.row(node) for node in graph.senders if node.layer is None]

    def path(self) -> list[tuple[int, int]]:
        """The edges of one path, as places in the circuit's mask."""
        row, edges = int(self._random.choice(self._starts)), list[tuple[int, int]]()
        while True:
            column = int(self._random.choice(self._next[row]))
            edges.append((row, column))
            port = self._graph.receivers[column]
            if port.node.kind == "logits":
                return edges
            switches = self._graph.is_switch[:, column].nonzero().flatten().tolist()
            edges += [(switch, column) for switch in switches]
            users = self._graph.fed_by(port)  # with spans: a key is used at all of them
            row = self._graph.row(users[int(self._random.integers(len(users)))])

    def circuit(self, n_edges: int) -> Circuit:
        """Paths put together until there are at least so many edges."""
        keep = torch.zeros_like(self._graph.exists)
        for _ in range(50 * n_edges):
            if int(keep.sum()) >= n_edges:
                return Circuit(self._graph, keep)
            for at in self.path():
                keep[at] = True
        # Nearly the whole graph: paths no longer meet what is left, so edges are drawn alone.
        left = (self._graph.exists & ~keep).nonzero().tolist()
        for place in self._random.permutation(len(left))[: n_edges - int(keep.sum())]:
            keep[tuple(left[place])] = True
        return Circuit(self._graph, keep)

    def inflated(self, circuit: Circuit) -> tuple[Circuit, tuple[int, int]] | None:
        """The circuit with one more path, and one of the edges that this added; None if full."""
        for _ in range(200):
            keep, path = circuit.keep.clone(), self.path()
            new = [at for at in path if not circuit.keep[at]]
            if new:
                for at in new:
                    keep[at] = True
                chosen = new[int(self._random.integers(len(new)))]
                return Circuit(circuit.graph, keep), chosen
        return None
