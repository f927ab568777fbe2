"""What several circuits share, and what only one of them has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.errors import unknown_name
from edgewise.graph import Edge, Graph, Node
from edgewise.tables import Cell, Chart, Column, Table, count, measured, number

FORMAT = "edgewise-comparison"
VERSION = 2

# Whether a circuit was found on these very prompts, on others, or nobody knows.
Prompts = Literal["discovery", "held-out", "given"]
_PROMPTS = {
    "held-out": "held-out prompts",
    "discovery": "discovery prompts",
    "given": "prompts given",
}


@dataclass(frozen=True)
class PairOverlap:
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
class KeptEffect:
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
    every two of them once, `effects` each circuit on its own problem (and, with `cross`, on those
    of the others).
    """

    graph: Graph
    circuits: Mapping[str, Circuit]
    compared: Mapping[str, Circuit]
    pairs: tuple[PairOverlap, ...]
    groups: tuple[GroupPresence, ...] = ()
    effects: tuple[KeptEffect, ...] = ()
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
        return reduce(Circuit.__and__, self.compared.values())

    @property
    def union(self) -> Circuit:
        """The edges that any circuit has."""
        return reduce(Circuit.__or__, self.compared.values())

    @property
    def shared_nodes(self) -> tuple[Node, ...]:
        """The nodes that every circuit touches, in canonical order."""
        touched = [set(circuit.nodes) for circuit in self.compared.values()]
        return tuple(n for n in self.graph.nodes if all(n in nodes for nodes in touched))

    def only(self, name: str) -> Circuit:
        """The edges that this circuit has and no other. Raises `UnknownName`."""
        self._check_known(name)
        rest = (circuit for other, circuit in self.compared.items() if other != name)
        return reduce(Circuit.__sub__, rest, self.compared[name])

    def only_nodes(self, name: str) -> tuple[Node, ...]:
        """The nodes that this circuit touches and no other. Raises `UnknownName`."""
        self._check_known(name)
        rest = {n for other in self.names if other != name for n in self.compared[other].nodes}
        return tuple(node for node in self.compared[name].nodes if node not in rest)

    def presence(self) -> tuple[tuple[Edge, tuple[str, ...]], ...]:
        """Every edge that any has, with those that have it: most first, then canonical order."""
        holders: dict[Edge, list[str]] = {edge: [] for edge in self.union.edges}
        for name, circuit in self.compared.items():
            for edge in circuit.edges:
                holders[edge].append(name)
        ordered = sorted(holders.items(), key=lambda item: -len(item[1]))  # stable
        return tuple((edge, tuple(names)) for edge, names in ordered)

    def pair(self, first: str, second: str) -> PairOverlap:
        """Two circuits side by side, in either order. Raises `UnknownName`."""
        self._check_known(first)
        self._check_known(second)
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair
        raise unknown_name("other circuit", second, [n for n in self.names if n != first])

    def own(self, name: str) -> KeptEffect | None:
        """How faithful a circuit is on its own problem; None if that is not known."""
        self._check_known(name)
        return next((e for e in self.effects if e.circuit == name and e.is_own), None)

    def _check_known(self, name: str) -> None:
        if name not in self.circuits:
            raise unknown_name("circuit of this comparison", name, self.names)

    # --- what it says

    @property
    def title(self) -> str:
        return f"{len(self.names)} circuits compared"

    def sentences(self) -> tuple[str, ...]:
        """What they have in common, which are most alike, and what to beware of."""
        n, nodes = len(self.names), count(len(self.shared_nodes), "node")
        all_of_them, shared = "both" if n == 2 else "all", self.shared.n_edges
        common = f"{shared:,} of these and {nodes} are" if shared else "no edge is"
        if not shared and self.shared_nodes:
            common = f"no edge, but {nodes}, is"
        edges = count(self.union.n_edges, "edge")
        together = f"Together the {n} circuits have {edges}; {common} in {all_of_them} of them."
        most = max(self.pairs, key=lambda pair: pair.edge_jaccard)
        least = min(self.pairs, key=lambda pair: pair.edge_jaccard)
        index, lowest = number(most.edge_jaccard, 2), number(least.edge_jaccard, 2)
        if n == 2:
            alike = f"The Jaccard index of their edges is {index}."
        elif most.edge_jaccard == least.edge_jaccard:
            alike = f"Every two of them have Jaccard {index} of edges."
        else:
            alike = (
                f"Most alike are {most.first} and {most.second} (Jaccard of edges {index}), least "
                f"{least.first} and {least.second} ({lowest})."
            )
        return together, alike, *(f"Note: {note}" for note in self.notes)

    def tables(self) -> tuple[Table, ...]:
        """The circuits, how alike each two are, each on each problem, groups, and all edges."""
        matrices = (
            self._matrix("Jaccard of edges", lambda pair: pair.edge_jaccard),
            self._matrix("Jaccard of nodes", lambda pair: pair.node_jaccard),
            self._matrix("Rank correlation of scores", lambda pair: pair.rank_correlation),
        )
        tables = (
            self._circuits_table(),
            *matrices,
            self._cross_table(),
            self._groups_table(),
            self._edges_table(),
        )
        return tuple(table for table in tables if table.rows)

    def charts(self) -> tuple[Chart, ...]:
        """None: the tables are shaded."""
        return ()

    def _numbered(self) -> list[tuple[str, str]]:
        """Numbers and names: tables of many columns have the numbers above them."""
        return [(str(place), name) for place, name in enumerate(self.names, start=1)]

    def _circuits_table(self) -> Table:
        counts = (Column(name, "count") for name in ("edges", "nodes", "edges only here"))
        columns = [Column("circuit"), *counts]
        if self.effects:
            columns += [Column("metric"), Column("full model"), Column("effect kept", "share")]
        rows = []
        for place, name in self._numbered():
            circuit, only = self.circuits[name], self.only(name).n_edges
            row: list[Cell] = [f"{place} {name}", circuit.n_edges, len(circuit.nodes), only]
            if self.effects:
                own = self.own(name)
                row += [None] * 3 if own is None else _own_cells(own)
            rows.append(tuple(row))
        return Table("Circuits", tuple(columns), tuple(rows), self._prompts_note())

    def _prompts_note(self) -> tuple[str, ...]:
        """Where circuits were evaluated; each by name, if not all on prompts of one kind."""
        kinds = {effect.circuit: _PROMPTS[effect.prompts] for effect in self.effects}
        if not kinds:
            return ()
        where = f"on {kinds[self.effects[0].circuit]}"
        if len(set(kinds.values())) > 1:
            where = ", ".join(f"{name} on {kind}" for name, kind in kinds.items())
        return (f"The metric, the full model's, and the effect kept: {where}.",)

    def _matrix(self, title: str, measure: Callable[[PairOverlap], float | None]) -> Table:
        """A measure of each two circuits; no rows where it is not known of any."""
        values = {(pair.first, pair.second): measure(pair) for pair in self.pairs}
        values |= {(second, first): value for (first, second), value in values.items()}
        columns = Column(title), *(Column(place, "index") for place, _ in self._numbered())
        rows = tuple(
            (f"{place} {name}", *(values.get((name, other)) for other in self.names))
            for place, name in self._numbered()
        )
        known = any(value is not None for value in values.values())
        return Table(title, columns, rows if known else (), shaded=True)

    def _cross_table(self) -> Table:
        """Circuits in rows, problems in columns; no rows where each was evaluated on one alone."""
        title, places = "Effect that each circuit keeps on the problem of …", dict(self._numbered())
        place_of = {name: place for place, name in places.items()}
        problems = list(dict.fromkeys(effect.owners for effect in self.effects))
        if len(problems) < 2 or all(effect.is_own for effect in self.effects):
            return Table(title, (), ())
        shares = {(effect.circuit, effect.owners): effect.normalized for effect in self.effects}
        heads = ["=".join(place_of[owner] for owner in owners) for owners in problems]
        rows = tuple(
            (f"{place} {name}", *(shares.get((name, owners)) for owners in problems))
            for place, name in places.items()
        )
        columns = Column("circuit"), *(Column(head, "share") for head in heads)
        return Table(title, columns, rows, shaded=True)

    def _groups_table(self) -> Table:
        numbers = (Column(place, "count") for place, _ in self._numbered())
        columns = Column("group"), Column("nodes", "count"), *numbers
        rows = list[tuple[Cell, ...]]()
        for group in self.groups:
            touched = [len(group.present[name]) for name in self.names]
            rows.append((group.name, len(group.nodes), *touched))
        note = "How many nodes of each group of the published circuit an edge touches, by circuit."
        return Table("Groups", columns, tuple(rows), (note,))

    def _edges_table(self) -> Table:
        numbers = (Column(place, "flag") for place, _ in self._numbered())
        columns = Column("edge", "name"), Column("circuits", "count"), *numbers
        rows = list[tuple[Cell, ...]]()
        for edge, holders in self.presence():
            has_it = [name in holders for name in self.names]
            rows.append((edge.name, len(holders), *has_it))
        key = "; ".join(f"{place} {name}" for place, name in self._numbered())
        note = f"{key}. Those that most circuits have come first, then the graph's canonical order."
        return Table(f"Edges by circuit ({len(rows):,})", columns, tuple(rows), (note,))

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
            "faithfulness": [asdict(effect) for effect in self.effects],
            "notes": list(self.notes),
        }


def _own_cells(own: KeptEffect) -> list[Cell]:
    scale = max(abs(own.full), abs(own.empty))
    value, full = (measured(value, "", scale=scale) for value in (own.value, own.full))
    return [f"{own.metric} {value}", full, own.normalized]


def jaccard(first: Set[Any], second: Set[Any]) -> float:
    """|first and second| / |first or second|; 1 for two empty sets, which are equal.

    >>> jaccard({1, 2}, {2, 3})
    0.3333333333333333
    """
    together = len(first | second)
    return len(first & second) / together if together else 1.0


def spearman(first: Float[Tensor, "edge"], second: Float[Tensor, "edge"]) -> float | None:
    """Spearman's rank correlation; None where all values of one are equal: there is no order.

    >>> import torch
    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0]))
    0.5
    """
    from scipy.stats import spearmanr  # slow to import

    if any(len(values.unique()) < 2 for values in (first, second)):
        return None
    return float(spearmanr(first.numpy(), second.numpy()).statistic)
