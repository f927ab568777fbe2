"""Random circuits of a given size: what comes by chance.

- uniform: every set of n edges is as likely. Most of its edges are on no path from an embedding to
  the output, so it is an easy baseline to beat.
- connected: grown from random paths, so that every edge is on such a path. No simple distribution
  is claimed; edges are offered in random order, and one that is taken brings along random edges
  that connect it.
- paths: random paths from an embedding to the output, put together until they have the size or
  just above it (Shi et al. 2024): what hypothesis tests compare with.

A random path begins at a random embedding and goes on along random edges. Where a port has a
switch, the path takes it along, or nothing would get through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.arguments import check_choice, check_seed, whole
from edgewise.circuit import Circuit, Found
from edgewise.documents import Count
from edgewise.errors import SettingError
from edgewise.evaluation.faithfulness import MetricScale, normalized, scale_of
from edgewise.evaluation.inference import mean_interval
from edgewise.graph import Edge, Graph, Sender
from edgewise.problem import Problem, problem_and_circuit
from edgewise.progress import OnProgress, counted, ignore_progress
from edgewise.tables import Column, Table, count, number, percent

RandomKind = Literal["uniform", "connected"]
_RESTARTS = 20  # of growing a connected circuit that got stuck an edge or two before its size
_EdgeIndex = tuple[int, int]  # row of the sender, column of the receiver
_Choice = TypeVar("_Choice")


@dataclass(frozen=True, eq=False)
class RandomBand(MetricScale):
    """The metric of `n` random circuits of `n_edges` edges, drawn with `seed`.

    `values` are in the metric's unit and direction, one for each circuit.
    """

    kind: RandomKind
    n_edges: Count
    seed: int
    values: Float[Tensor, "circuit"]

    _derived = ("n", "mean", "interval", "quantiles", "normalized")

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def normalized(self) -> Float[Tensor, "circuit"] | None:
        """Normalised faithfulness of each; None where full and empty give the same number."""
        if normalized(self.full, self.full, self.empty) is None:
            return None
        return (self.values - self.empty) / (self.full - self.empty)

    @property
    def quantiles(self) -> dict[str, float]:
        """The middle 90 %, and the median, by linear interpolation between the circuits."""
        return {str(q): self.values.quantile(q).item() for q in (0.05, 0.5, 0.95)}

    @property
    def mean(self) -> float:
        return self.values.mean().item()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t; None for fewer than two circuits."""
        return mean_interval(self.values)

    def as_good_as(self, value: float) -> int:
        """How many random circuits do at least as well as this value of the metric."""
        good = self.values >= value if self.higher_is_better else self.values <= value
        return int(good.sum())

    def p_value(self, value: float) -> float:
        """(1 + as good as) / (1 + n): how likely a random circuit does as well (one-sided)."""
        return (1 + self.as_good_as(value)) / (1 + self.n)

    @property
    def title(self) -> str:
        return f"Random circuits, {self.kind}"

    def sentences(self) -> tuple[str, ...]:
        """What a random circuit does on average."""
        return (f"{self._average} ({self.n} drawn, seed {self.seed}).",)

    def sentence_beside(self, value: float) -> str:
        """What random circuits do, and how many as well as a circuit of this value."""
        good, p = self.as_good_as(value), number(self.p_value(value), 2)
        does = f"{good} of them {'does' if good == 1 else 'do'}" if good else "none of them does"
        return f"{self._average}; {does} as well ({self.n} drawn, seed {self.seed}; p {p})."

    @property
    def _average(self) -> str:
        which = "random" if self.kind == "uniform" else "random connected"
        has = f"has {number(self.mean)}"
        if self.normalized is not None:
            has = f"keeps {percent(self.normalized.mean().item())}"
        return f"A {which} circuit of its size {has} on average"

    def tables(self) -> tuple[Table, ...]:
        """The spread of their metric."""
        return (bands_table([self]),)


def bands_table(bands: Sequence[RandomBand]) -> Table:
    """Random circuits of several kinds, one below the other."""
    columns = (
        Column("random circuits"),
        Column("drawn", "count"),
        Column(f"mean {bands[0].metric}, 95 % interval", "estimate", bands[0].unit),
        Column("5 % to 95 %", "interval"),
        Column("median", "number"),
    )
    rows = []
    for band in bands:
        low, median, high = band.quantiles.values()
        mean = (band.mean, *band.interval) if band.interval else band.mean
        rows.append((band.kind, band.n, mean, (low, high), median))
    size = count(bands[0].n_edges, "edge")
    return Table(f"Random circuits of {size}, seed {bands[0].seed}", columns, tuple(rows))


def random_band(
    problem: Problem,
    circuit: Found,
    *,
    n: int = 20,
    kind: RandomKind = "uniform",
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> RandomBand:
    """The metric of `n` random circuits of this circuit's graph and size: a forward pass each.

    Raises `SettingError`, `UnknownName`, `MetricError`.
    """
    circuit, n = problem_and_circuit(problem, circuit, "random_band"), whole("n", n, 1)
    drawn = random_circuits(circuit.graph, circuit.n_edges, n, kind=kind, seed=seed)
    values = [problem.value(next(drawn)) for _ in counted(range(n), on_progress, "random circuits")]
    return RandomBand(
        **scale_of(problem, circuit.graph),
        kind=kind,
        n_edges=circuit.n_edges,
        seed=seed,
        values=torch.tensor(values, dtype=torch.float64),
    )


def random_circuits(
    graph: Graph, n_edges: int, n: int, *, kind: RandomKind = "uniform", seed: int = 0
) -> Iterator[Circuit]:
    """`n` random circuits of `n_edges` edges. Raises `SettingError`, `UnknownName`."""
    check_choice("kind of random circuit", kind, get_args(RandomKind))
    n_edges, sampler = whole("n_edges", n_edges, 0), CircuitSampler(graph, check_seed(seed))
    if n_edges > graph.n_edges:
        raise SettingError(f"asked for {n_edges} edges; the graph has {graph.n_edges}.")
    draw = sampler.uniform if kind == "uniform" else sampler.connected
    for _ in range(whole("n", n, 0)):
        yield draw(n_edges)


class CircuitSampler:
    """Draws circuits of a graph; `stream` tells the draws of one seed apart."""

    def __init__(self, graph: Graph, seed: int, *stream: int) -> None:
        self._graph, self._random = graph, np.random.default_rng([seed, *stream])
        self._additive = graph.exists & ~graph.is_switch
        self._embeddings = [graph.row[node] for node in graph.senders if node.layer is None]
        self._columns: dict[Sender, list[int]] = {}  # of a node's own ports
        for column, port in enumerate(graph.receivers):
            for node in graph.fed_by(port):
                self._columns.setdefault(node, []).append(column)

    def uniform(self, n_edges: int) -> Circuit:
        """Every set of so many edges is as likely."""
        return self._with_more(Circuit.empty(self._graph), n_edges)

    def connected(self, n_edges: int) -> Circuit:
        """Exactly so many edges, all on paths. Raises `SettingError` where it finds none."""
        for _ in range(_RESTARTS):
            edges = self._grown(n_edges)
            if edges is not None:
                return _with_edges(Circuit.empty(self._graph), edges)
        raise SettingError(
            f"found no circuit of {n_edges} edges that are all on paths from an embedding to the "
            "output. Use kind='uniform', or another size."
        )

    def paths(self, n_edges: int) -> Circuit:
        """Paths put together until there are at least so many edges."""
        edges = set[_EdgeIndex]()
        for _ in range(50 * n_edges):
            if len(edges) >= n_edges:
                break
            edges.update(self.path())
        circuit = _with_edges(Circuit.empty(self._graph), edges)
        # Nearly the whole graph: paths no longer meet what is left, so edges are drawn alone.
        left = n_edges - len(edges)
        return self._with_more(circuit, left) if left > 0 else circuit

    def inflated(self, circuit: Circuit) -> tuple[Circuit, Edge] | None:
        """The circuit with one more path, and one of the edges that this added; None if full."""
        for _ in range(200):
            added = [index for index in self.path() if not circuit.keep[index]]
            if added:
                row, column = self._pick(added)
                edge = Edge(self._graph.senders[row], self._graph.receivers[column])
                return _with_edges(circuit, added), edge
        return None

    def path(self) -> list[_EdgeIndex]:
        """The edges of one path from an embedding to the output."""
        row = self._pick(self._embeddings)
        first = row, self._pick(_indices(self._additive[row]))
        return self._with_switches([first, *self._onwards(first[1], inside=frozenset())])

    def _onwards(self, column: int, inside: Set[Sender]) -> Iterator[_EdgeIndex]:
        """Random edges from a port on, to the output or where a node inside is fed."""
        fed = self._graph.fed_by(self._graph.receivers[column])
        while fed and inside.isdisjoint(fed):
            row = self._graph.row[self._pick(fed)]
            column = self._pick(_indices(self._additive[row]))
            yield row, column
            fed = self._graph.fed_by(self._graph.receivers[column])

    def _backwards(self, node: Sender, inside: Set[Sender]) -> Iterator[_EdgeIndex]:
        """Random edges that lead to a node, from a node inside."""
        while node not in inside:
            column = self._pick(self._columns[node])
            row = self._pick(_indices(self._additive[:, column]))
            yield row, column
            node = self._graph.senders[row]

    def _with_switches(self, path: list[_EdgeIndex]) -> list[_EdgeIndex]:
        is_switch = self._graph.is_switch
        return path + [(row, c) for _, c in path for row in _indices(is_switch[:, c])]

    def _grown(self, n_edges: int) -> set[_EdgeIndex] | None:
        """So many edges that leave none unconnected; None if it gets stuck before."""
        edges, inside = set[_EdgeIndex](), {self._graph.senders[row] for row in self._embeddings}
        candidates = self._additive.nonzero().tolist()
        while len(edges) < n_edges:
            before = len(edges)
            for i in self._random.permutation(len(candidates)).tolist():
                row, column = candidates[i]
                if len(edges) == n_edges or (row, column) in edges:
                    continue
                path = [(row, column), *self._backwards(self._graph.senders[row], inside)]
                path += self._onwards(column, inside)
                new = set(self._with_switches(path)) - edges
                if len(edges) + len(new) <= n_edges:
                    edges |= new
                    inside |= {self._graph.senders[sender] for sender, _ in new}
            if len(edges) == before:
                return None
        return edges

    def _with_more(self, circuit: Circuit, n: int) -> Circuit:
        """The circuit with so many more edges, whatever they connect."""
        keep, candidates = circuit.keep.clone(), circuit.complement().keep.nonzero()
        rows, columns = candidates[self._random.permutation(len(candidates))[:n]].T
        keep[rows, columns] = True
        return Circuit(circuit.graph, keep)

    def _pick(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self._random.integers(len(choices)))]


def _with_edges(circuit: Circuit, edges: Iterable[_EdgeIndex]) -> Circuit:
    keep = circuit.keep.clone()
    for index in edges:
        keep[index] = True
    return Circuit(circuit.graph, keep)


def _indices(mask: Bool[Tensor, "edge"]) -> list[int]:
    return mask.nonzero().flatten().tolist()
