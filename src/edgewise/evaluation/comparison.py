"""What several circuits share, and what only one of them sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgewise.circuit import Circuit
from edgewise.errors import unknown_name
from edgewise.graph import Edge, Graph, Node

FORMAT = "edgewise-comparison"
VERSION = 2

# Whether a circuit was found on these very prompts, on others, or nobody knows.
Prompts = Literal["discovery", "held-out", "given"]


@dataclass(frozen=True)
class Pair:
    """Two circuits side by side.

    Jaccard: what both have, of what either has. `rank_correlation` is Spearman's, of the scores of
    all edges; None where one has no scores, or their graphs differ.
    """

    first: str
    second: str
    edge_jaccard: float
    node_jaccard: float
    shared_edges: int
    shared_nodes: int
    rank_correlation: float | None


@dataclass(frozen=True)
class GroupPresence:
    """A named group of nodes, and which of them each circuit touches."""

    name: str
    nodes: tuple[str, ...]
    present: Mapping[str, tuple[str, ...]]  # name of a circuit -> its nodes of the group


@dataclass(frozen=True)
class Judgement:
    """How faithful one circuit is on one problem, in the problem's metric and unit.

    `owners` are the circuits whose own problem it is. `normalized` is 1 for the full model and 0
    for the empty circuit, whatever the metric; None where they give the same number.
    """

    circuit: str
    owners: tuple[str, ...]
    prompts: Prompts
    metric: str
    unit: str
    higher_is_better: bool
    value: float
    full: float
    empty: float
    normalized: float | None

    @property
    def is_own(self) -> bool:
        """Whether this is the problem that the circuit was found for."""
        return self.circuit in self.owners

    @property
    def problem(self) -> str:
        """A name for the problem: its owners."""
        return " = ".join(self.owners)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several circuits by name, as found (`circuits`) and as compared (`compared`, on `graph`).

    The two differ where granularities do: then `graph` is what all of them tell apart. `pairs` has
    every two of them once, `judgements` each circuit on its own problem (and, if asked, on the
    others').
    """

    graph: Graph
    circuits: Mapping[str, Circuit]
    compared: Mapping[str, Circuit]
    pairs: tuple[Pair, ...]
    groups: tuple[GroupPresence, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shared, union = self.shared.n_edges, self.union.n_edges
        return f"Comparison({len(self.names)} circuits, {shared} of {union} edges in all of them)"

    @property
    def names(self) -> tuple[str, ...]:
        """The circuits' names, in order."""
        return tuple(self.circuits)

    @property
    def shared(self) -> Circuit:
        """The edges that every circuit has."""
        first, *others = self.compared.values()
        for other in others:
            first = first & other
        return first

    @property
    def union(self) -> Circuit:
        """The edges that any circuit has."""
        first, *others = self.compared.values()
        for other in others:
            first = first | other
        return first

    @property
    def shared_nodes(self) -> tuple[Node, ...]:
        """The nodes that every circuit touches, in canonical order."""
        touched = [set(circuit.nodes) for circuit in self.compared.values()]
        return tuple(n for n in self.graph.nodes if all(n in nodes for nodes in touched))

    def only(self, name: str) -> Circuit:
        """The edges that this circuit has and no other. Raises `UnknownName`."""
        result = self.compared[self._known(name)]
        for other in self.names:
            if other != name:
                result = result - self.compared[other]
        return result

    def only_nodes(self, name: str) -> tuple[Node, ...]:
        """The nodes that this circuit touches and no other. Raises `UnknownName`."""
        self._known(name)
        others = {n for other in self.names if other != name for n in self.compared[other].nodes}
        return tuple(node for node in self.compared[name].nodes if node not in others)

    def presence(self) -> tuple[tuple[Edge, tuple[str, ...]], ...]:
        """Every edge that any has, with those that have it: most first, then canonical order."""
        holders: dict[Edge, list[str]] = {edge: [] for edge in self.union.edges}
        for name, circuit in self.compared.items():
            for edge in circuit.edges:
                holders[edge].append(name)
        ordered = sorted(holders.items(), key=lambda item: -len(item[1]))  # stable
        return tuple((edge, tuple(names)) for edge, names in ordered)

    def pair(self, first: str, second: str) -> Pair:
        """Two circuits side by side, in either order. Raises `UnknownName`."""
        asked = {self._known(first), self._known(second)}
        found = (pair for pair in self.pairs if {pair.first, pair.second} == asked)
        pair = next(found, None)
        if pair is None:
            raise unknown_name("other circuit", second, [n for n in self.names if n != first])
        return pair

    def own(self, name: str) -> Judgement | None:
        """How faithful a circuit is on its own problem; None if that is not known."""
        self._known(name)
        return next((j for j in self.judgements if j.circuit == name and j.is_own), None)

    def _known(self, name: str) -> str:
        if name not in self.circuits:
            raise unknown_name("circuit of this comparison", name, self.names)
        return name

    def to_json(self) -> dict[str, Any]:
        """Every number and every edge, with a format number."""
        circuits = [
            {
                "name": name,
                "n_edges": circuit.n_edges,
                "n_edges_total": circuit.graph.n_edges,
                "n_nodes": len(circuit.nodes),
                "only_edges": [edge.name for edge in self.only(name).edges],
                "only_nodes": [node.name for node in self.only_nodes(name)],
            }
            for name, circuit in self.circuits.items()
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            "graph": self.graph.to_json(),
            "circuits": circuits,
            "shared_edges": [edge.name for edge in self.shared.edges],
            "shared_nodes": [node.name for node in self.shared_nodes],
            "edges": {edge.name: list(names) for edge, names in self.presence()},
            "pairs": [asdict(pair) for pair in self.pairs],
            "groups": [asdict(group) for group in self.groups],
            "faithfulness": [asdict(j) for j in self.judgements],
            "notes": list(self.notes),
        }
