"""Random circuits of a given size: what faithfulness comes by chance.

- uniform: every set of n edges is as likely. Most of its edges are on no path from an embedding to
  the output, so it is an easy baseline to beat.
- connected: grown from random paths, so that every edge is on such a path. No simple distribution
  is claimed; edges are offered in random order, and one that is taken brings along random edges
  that connect it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit, Found
from edgewise.errors import SettingError
from edgewise.evaluation.faithfulness import normalized
from edgewise.graph import Graph, Sender
from edgewise.methods import OnProgress, Progress, ignore_progress
from edgewise.problem import Problem, problem_and_circuit
from edgewise.settings.checks import check_choice, check_seed, whole

RandomKind = Literal["uniform", "connected"]
_RESTARTS = 20  # of growing a connected circuit that got stuck an edge or two before its size


@dataclass(frozen=True, eq=False)
class RandomBand:
    """The metric of `n` random circuits of `n_edges` edges, drawn with `seed`.

    `values` are in the metric's unit and direction, one for each circuit.
    """

    kind: RandomKind
    n_edges: int
    seed: int
    full: float
    empty: float
    higher_is_better: bool
    values: Float[Tensor, "circuit"]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def normalized(self) -> Float[Tensor, "circuit"] | None:
        """Normalised faithfulness of each; None where full and empty give the same number."""
        if normalized(self.full, self.full, self.empty) is None:
            return None
        return (self.values - self.empty) / (self.full - self.empty)

    def quantile(self, q: float) -> float:
        """A quantile of the metric, between the random circuits by linear interpolation."""
        return self.values.quantile(q).item()

    @property
    def mean(self) -> float:
        return self.values.mean().item()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t; None for fewer than two circuits."""
        if self.n < 2:
            return None
        from scipy.stats import t  # slow to import

        half = float(t.ppf(0.975, self.n - 1)) * self.values.std().item() / self.n**0.5
        return self.mean - half, self.mean + half

    def as_good_as(self, value: float) -> int:
        """How many random circuits do at least as well as this value of the metric."""
        good = self.values >= value if self.higher_is_better else self.values <= value
        return int(good.sum())

    def p_value(self, value: float) -> float:
        """(1 + as good as) / (1 + n): how likely a random circuit does as well (one-sided)."""
        return (1 + self.as_good_as(value)) / (1 + self.n)

    def to_json(self) -> dict[str, Any]:
        """Every number a plot or table needs."""
        scaled = self.normalized
        return {
            "kind": self.kind,
            "n": self.n,
            "n_edges": self.n_edges,
            "seed": self.seed,
            "mean": self.mean,
            "interval": None if self.interval is None else list(self.interval),
            "quantiles": {str(q): self.quantile(q) for q in (0.05, 0.5, 0.95)},
            "values": self.values.tolist(),
            "normalized": None if scaled is None else scaled.tolist(),
        }


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
    full, empty = problem.baselines(circuit.graph)
    values = []
    drawn = random_circuits(circuit.graph, circuit.n_edges, n, kind=kind, seed=seed)
    for done, one in enumerate(drawn):
        on_progress(Progress(done, n, "random circuits"))
        values.append(problem.value(one))
    on_progress(Progress(n, n, "random circuits"))
    return RandomBand(
        kind=kind,
        n_edges=circuit.n_edges,
        seed=seed,
        full=full,
        empty=empty,
        higher_is_better=problem.metric.higher_is_better,
        values=torch.tensor(values, dtype=torch.float64),
    )


def random_circuits(
    graph: Graph, n_edges: int, n: int, *, kind: RandomKind = "uniform", seed: int = 0
) -> Iterator[Circuit]:
    """`n` random circuits of `n_edges` edges. Raises `SettingError`, `UnknownName`."""
    check_choice("kind of random circuit", kind, get_args(RandomKind))
    n_edges, generator = (
        whole("n_edges", n_edges, 0),
        torch.Generator().manual_seed(check_seed(seed)),
    )
    if n_edges > graph.n_edges:
        raise SettingError(f"asked for {n_edges} edges; the graph has {graph.n_edges}.")
    draw = _uniform if kind == "uniform" else _connected
    for _ in range(whole("n", n, 0)):
        yield draw(graph, n_edges, generator)


def _uniform(graph: Graph, n_edges: int, generator: torch.Generator) -> Circuit:
    places = graph.exists.nonzero()
    chosen = places[torch.randperm(len(places), generator=generator)[:n_edges]]
    keep = torch.zeros_like(graph.exists)
    keep[chosen[:, 0], chosen[:, 1]] = True
    return Circuit(graph, keep)


def _connected(graph: Graph, n_edges: int, generator: torch.Generator) -> Circuit:
    for _ in range(_RESTARTS):
        growth = _Growth(graph, generator)
        if growth.to_size(n_edges):
            return Circuit(graph, growth.keep)
    raise SettingError(
        f"found no circuit of {n_edges} edges that are all on paths from an embedding to the "
        "output. Use kind='uniform', or another size."
    )


class _Growth:
    """A circuit that grows by whole paths, so that every edge leads from input to output.

    A sender is in it if it is an embedding, or on a path that was added.
    """

    def __init__(self, graph: Graph, generator: torch.Generator) -> None:
        self._graph, self._generator = graph, generator
        self.keep = torch.zeros_like(graph.exists)
        self._additive = graph.exists & ~graph.is_switch
        self._inside = {node for node in graph.senders if node.layer is None}
        self._columns: dict[Sender, list[int]] = {}
        for column, port in enumerate(graph.receivers):
            for node in graph.fed_by(port):
                self._columns.setdefault(node, []).append(column)

    def to_size(self, n_edges: int) -> bool:
        """Grow to exactly this size; False if nothing small enough is left to add."""
        left, places = n_edges, self._additive.nonzero()
        while left:
            before = left
            for i in torch.randperm(len(places), generator=self._generator).tolist():
                if not left:
                    return True
                row, column = places[i].tolist()
                if not self.keep[row, column]:
                    left -= self._add(row, column, left)
            if left == before:
                return False
        return True

    def _add(self, row: int, column: int, most: int) -> int:
        """Add an edge, and what connects it; how many edges that were, 0 if more than `most`."""
        path = [(row, column)]
        node = self._graph.senders[row]
        while node not in self._inside:  # to where something in it sends
            column_in = self._pick(self._columns[node])
            sender = self._pick(self._additive[:, column_in].nonzero().flatten().tolist())
            path.append((sender, column_in))
            node = self._graph.senders[sender]
        fed = self._graph.fed_by(self._graph.receivers[column])
        while fed and self._inside.isdisjoint(fed):  # to where something in it reads
            sender = self._pick([self._graph.row(node) for node in fed])
            column_out = self._pick(self._additive[sender].nonzero().flatten().tolist())
            path.append((sender, column_out))
            fed = self._graph.fed_by(self._graph.receivers[column_out])
        switches = self._graph.is_switch[:, [column for _, column in path]].nonzero().tolist()
        new = {*path, *((sender, path[at][1]) for sender, at in switches)}
        new = {place for place in new if not self.keep[place]}
        if len(new) > most:
            return 0
        for sender, column_at in new:
            self.keep[sender, column_at] = True
            self._inside.add(self._graph.senders[sender])
        return len(new)

    def _pick(self, some: list[int]) -> int:
        return some[int(torch.randint(len(some), (1,), generator=self._generator))]
